"""Outputs of a video: one labeled video, and a list of the frames whose files lie in a folder."""

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
from pixelwise.data.visualization import overlay_labels, to_display_image
from pixelwise.errors import DataError, InvalidArgumentError
from pixelwise.prediction.outputs.pictures import with_legend
from pixelwise.prediction.outputs.prediction_view import Predicted

LABELED_VIDEO = "_overlay.mp4"
"""What follows the stem."""
FRAME_LIST = "frames.csv"
"""In the folder of the frames' files; written last, so where it is, they are all there."""

BT709 = 1
LIMITED_RANGE = 1
"""What H.264 calls the colors of television, which players take for granted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Encoder:
    """One of libav's, and how it is asked for a quality at which the colors of classes stay apart."""

    name: str
    options: dict[str, str]
    finest_tick: int
    """Largest denominator of its unit of time."""


ENCODERS = (
    # No frame refers to a later one: of those that do, MP4 tells a wrong length where times are uneven.
    Encoder(name="libx264", options={"crf": "18", "preset": "veryfast", "bf": "0"}, finest_tick=1 << 30),
    # In every build of libav; H.264 is not. The bit rate is out of reach, so that the quantizers decide.
    Encoder(name="mpeg4", options={"qmin": "2", "qmax": "3", "b": "200M"}, finest_tick=65535),
)
"""The first that this PyAV has is taken."""


class LabeledVideo:
    """An MP4 being written; every frame is shown when and as long as in the video it is made of.

    OSError where it cannot be written.
    """

    def __init__(self, path: Path, video: Video) -> None:
        self.path = path
        self.video = video
        self.av = import_av("a labeled video")
        self.encoder = _choose_encoder(self.av)
        with self._failures():
            self.container: Any = self.av.open(str(path), "w", format="mp4", options={"movflags": "faststart"})
        self.stream: Any = None
        """None before the first frame: it says how large they are."""

    def __enter__(self) -> "LabeledVideo":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            with contextlib.suppress(self.av.FFmpegError):
                self.container.close()
            return
        with self._failures():
            if self.stream is not None:
                self.container.mux(self.stream.encode(None))
            self.container.close()
        with self.path.open("rb") as file:
            os.fsync(file.fileno())

    def prepared(self, picture: Array) -> Any:
        """(H, W, 3) uint8 with even sides → a frame in the encoder's colors. Any thread may ask."""
        frame = self.av.VideoFrame.from_ndarray(picture, format="rgb24")
        return frame.reformat(format="yuv420p", dst_colorspace="ITU709")

    def add(self, prepared: Any, frame: VideoFrame) -> None:
        """The next frame: what `prepared` gave, and the one that it shows labeled; all of one size."""
        with self._failures():
            if self.stream is None:
                self.stream = self._begun(prepared, frame)
            tick = Fraction(self.stream.codec_context.time_base)
            prepared.time_base = tick
            prepared.pts = round(frame.ticks * self.video.tick / tick)
            prepared.duration = round(frame.duration * self.video.tick / tick)
            self.container.mux(self.stream.encode(prepared))

    @contextlib.contextmanager
    def _failures(self) -> Iterator[None]:
        """Those of libav as errors of the system."""
        try:
            yield
        except self.av.FFmpegError as error:
            raise OSError(f"the labeled video cannot be written ({error.strerror})") from error

    def _begun(self, prepared: Any, frame: VideoFrame) -> Any:
        stream = self.container.add_stream(self.encoder.name, rate=self.video.rate, options=self.encoder.options)
        tick = self.video.tick
        if tick.denominator > self.encoder.finest_tick:
            tick = Fraction(1, self.encoder.finest_tick)
        stream.time_base = tick
        aspect = self.video.pixel_aspect
        context = stream.codec_context
        context.time_base = tick
        context.width, context.height, context.pix_fmt = prepared.width, prepared.height, "yuv420p"
        context.sample_aspect_ratio = 1 / aspect if frame.orientation >= 5 else aspect
        context.colorspace = context.color_primaries = context.color_trc = BT709
        context.color_range = LIMITED_RANGE
        context.thread_count = NUM_THREADS
        return stream


def labeled_picture(made: Predicted) -> Array:
    """(H, W, 3) uint8 with even sides: a frame under its classes, and below it the names of all classes.

    The legend is the same in every frame. It is left out where it would be taller than half of the frame. An
    odd side grows by a copy of its last row or column, as encoders halve the colors of two neighbors.
    """
    picture = overlay_labels(to_display_image(made.image), made.labels, made.classes)
    entries = [
        (" ".join(name.split()), color) for name, color in zip(made.classes.names, made.classes.colors, strict=True)
    ]
    explained = with_legend(picture, entries)
    if 2 * (explained.shape[0] - picture.shape[0]) <= picture.shape[0]:
        picture = explained
    odd = picture.shape[0] % 2, picture.shape[1] % 2
    return np.pad(picture, ((0, odd[0]), (0, odd[1]), (0, 0)), mode="edge")


class FrameList:
    """`frames.csv` being written: a line for each frame, and when it is shown."""

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
        self.rows.writerow((frame_stem(frame.number), f"{float(frame.ticks * self.tick):.6f}"))


def read_frame_numbers(path: Path) -> Iterator[int]:
    """The frames of a list. DataError where it is none."""
    try:
        with path.open(encoding="utf-8", newline="") as file:
            for row in csv.DictReader(file):
                yield int(row["frame"])
    except (OSError, ValueError, KeyError, csv.Error) as error:
        raise DataError(f"{path}: is no list of frames ({error}); predict the video without --resume.") from error


def frame_stem(number: int) -> str:
    """What the files of a frame begin with."""
    return f"{number:06d}"


def is_of_frame(name: str) -> bool:
    """Whether a file in the folder of frames is called as one of theirs."""
    return re.match(r"\d{6}", name) is not None


def frame_number(name: str, end: str) -> int:
    """Of the file of a frame; 0 for what is called otherwise."""
    found = re.fullmatch(rf"(\d{{6,}}){re.escape(end)}", name)
    return int(found[1]) if found else 0


def _choose_encoder(av: Any) -> Encoder:
    for encoder in ENCODERS:
        try:
            av.codec.Codec(encoder.name, "w")
        except ValueError:  # unknown to this build
            continue
        return encoder
    names = " or ".join(encoder.name for encoder in ENCODERS)
    raise InvalidArgumentError(
        f"a labeled video needs the encoder {names}, which this PyAV has not; install another build."
    )
