"""Outputs of a video: a labeled video, and the list of the frames whose files are in a folder."""

import contextlib
import csv
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from pixelwise.data.io.images import Array
from pixelwise.data.io.video import NUM_THREADS, Video, VideoFrame, import_av
from pixelwise.errors import DataError, InvalidArgumentError, PathAccessError, describe_cause
from pixelwise.prediction.outputs.pictures import LabeledImage, add_legend, draw_overlay, get_painted_colors

LABELED_VIDEO = "_overlay.mp4"
"""Ending of a labeled video after the stem."""
FRAME_LIST = "frames.csv"
"""File in the folder of the frames. It is written last, so that all frames are complete where it exists."""

BT709 = 1
LIMITED_RANGE = 1
"""Codes of H.264 for the colors of television, which players assume."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VideoEncoder:
    """An encoder of libav, with options for a quality at which class colors remain distinct."""

    name: str
    options: dict[str, str]
    finest_tick: int
    """Largest denominator of its time base."""


ENCODERS = (
    # Without B-frames: with them, MP4 stores a wrong duration if times are uneven.
    VideoEncoder(name="libx264", options={"crf": "18", "preset": "veryfast", "bf": "0"}, finest_tick=1 << 30),
    # Every build of libav has this one, unlike H.264. The bit rate is never reached, so that the quantizers decide.
    VideoEncoder(name="mpeg4", options={"qmin": "2", "qmax": "3", "b": "200M"}, finest_tick=65535),
)
"""The first one that PyAV supports is used."""


class LabeledVideo:
    """Writes an MP4 whose frames have the times and durations of the source video.

    Raises OSError if it cannot be written.
    """

    def __init__(self, path: Path, video: Video) -> None:
        self.path = path
        self.video = video
        self.av = import_av("a labeled video")
        self.encoder = _choose_encoder(self.av)
        with self._wrap_errors():
            self.container: Any = self.av.open(str(path), "w", format="mp4", options={"movflags": "faststart"})
        self.stream: Any = None
        """None before the first frame, which defines the size."""

    def __enter__(self) -> "LabeledVideo":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            with contextlib.suppress(self.av.FFmpegError):
                self.container.close()
            return
        with self._wrap_errors():
            if self.stream is not None:
                self.container.mux(self.stream.encode(None))
            self.container.close()
        with self.path.open("rb") as file:
            os.fsync(file.fileno())

    def convert(self, picture: Array) -> Any:
        """Convert (H, W, 3) uint8 with even sides to a frame in the colors of the encoder; in any thread."""
        frame = self.av.VideoFrame.from_ndarray(picture, format="rgb24")
        return frame.reformat(format="yuv420p", dst_colorspace="ITU709")

    def add(self, picture: Any, frame: VideoFrame) -> None:
        """Encode the next picture, a result of `convert`, with the time of its source frame. All have the same size."""
        with self._wrap_errors():
            if self.stream is None:
                self.stream = self._add_stream(picture, frame)
            tick = Fraction(self.stream.codec_context.time_base)
            picture.time_base = tick
            picture.pts = round(frame.ticks * self.video.tick / tick)
            picture.duration = round(frame.duration * self.video.tick / tick)
            self.container.mux(self.stream.encode(picture))

    @contextlib.contextmanager
    def _wrap_errors(self) -> Iterator[None]:
        """Turn errors of libav into PathAccessError."""
        try:
            yield
        except self.av.FFmpegError as error:
            raise PathAccessError(
                f"The labeled video cannot be written ({describe_cause(error)}). Free disk space, or save other "
                "outputs than the overlay."
            ) from error

    def _add_stream(self, picture: Any, frame: VideoFrame) -> Any:
        stream = self.container.add_stream(self.encoder.name, rate=self.video.rate, options=self.encoder.options)
        tick = self.video.tick
        if tick.denominator > self.encoder.finest_tick:
            tick = Fraction(1, self.encoder.finest_tick)
        stream.time_base = tick
        aspect = self.video.pixel_aspect
        context = stream.codec_context
        context.time_base = tick
        context.width, context.height, context.pix_fmt = picture.width, picture.height, "yuv420p"
        context.sample_aspect_ratio = 1 / aspect if frame.orientation >= 5 else aspect
        context.colorspace = context.color_primaries = context.color_trc = BT709
        context.color_range = LIMITED_RANGE
        context.thread_count = NUM_THREADS
        return stream


def draw_labeled_frame(labeled: LabeledImage, image: Array) -> Array:
    """Draw a frame with its classes and a legend of all classes: (H, W, 3) uint8 with even sides.

    The legend is the same in every frame, and omitted if it would be taller than half of the frame. The last row or
    column of an odd side is repeated, because encoders share colors between two neighbors.
    """
    classes = labeled.classes
    picture, colors = draw_overlay(labeled, image), get_painted_colors(classes)
    entries = [(" ".join(name.split()), color) for name, color in zip(classes.names, colors, strict=True)]
    extended = add_legend(picture, entries)
    if 2 * (extended.shape[0] - picture.shape[0]) <= picture.shape[0]:
        picture = extended
    odd = picture.shape[0] % 2, picture.shape[1] % 2
    return np.pad(picture, ((0, odd[0]), (0, odd[1]), (0, 0)), mode="edge")


class FrameList:
    """Writes `frames.csv`: one row per frame, with its time."""

    def __init__(self, path: Path, video: Video) -> None:
        self.file = path.open("w", encoding="utf-8", newline="")
        self.rows = csv.writer(self.file, lineterminator="\n")
        self.rows.writerow(("frame", "seconds"))
        self.tick = video.tick

    def __enter__(self) -> "FrameList":
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()

    def add(self, frame: VideoFrame) -> None:
        self.rows.writerow((format_frame_stem(frame.number), f"{float(frame.ticks * self.tick):.6f}"))


def read_frame_numbers(path: Path) -> Iterator[int]:
    """Read the frame numbers of a list. Raises DataError if the file is not one."""
    try:
        with path.open(encoding="utf-8", newline="") as file:
            for row in csv.DictReader(file):
                yield int(row["frame"])
    except (OSError, ValueError, KeyError, csv.Error) as error:
        raise DataError(
            f"{path}: The file is not a list of frames. Predict the video with --overwrite, without --resume."
        ) from error


def format_frame_stem(number: int) -> str:
    """Return the stem of the files of a frame."""
    return f"{number:06d}"


def is_frame_file(name: str) -> bool:
    """Return whether a file name in the folder of the frames may belong to a frame."""
    return re.match(r"\d{6}", name) is not None


def parse_frame_number(name: str, end: str) -> int:
    """Return the number of the frame that a file with this ending belongs to; 0 for other names."""
    found = re.fullmatch(rf"(\d{{6,}}){re.escape(end)}", name)
    return int(found[1]) if found else 0


def _choose_encoder(av: Any) -> VideoEncoder:
    for encoder in ENCODERS:
        try:
            av.codec.Codec(encoder.name, "w")
        except ValueError:  # not in this build
            continue
        return encoder
    names = " or ".join(encoder.name for encoder in ENCODERS)
    raise InvalidArgumentError(
        f"A labeled video needs the encoder {names}, which this build of PyAV does not have. Install another build."
    )
