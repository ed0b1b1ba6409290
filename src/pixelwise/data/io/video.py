"""Reading of video files frame by frame, upright as players show them. Needs the extra `video`."""

import contextlib
import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, BinaryIO

import numpy as np

from pixelwise.data.io.decoded_image import Array, add_channel_axis, apply_orientation, require_size
from pixelwise.errors import DataError, describe_cause, explain_missing_extra

VIDEO_EXTENSIONS = (".mp4", ".mov", ".m4v", ".avi", ".mkv", ".webm")
NUM_THREADS = 2
"""Threads that decode or encode one video, in addition to those of the network. Each holds a few frames."""

_ONE = 1 << 16
"""The number 1 in a display matrix."""
_ORIENTATIONS = {
    (1, 0, 0, 1): 1,
    (-1, 0, 0, 1): 2,
    (-1, 0, 0, -1): 3,
    (1, 0, 0, -1): 4,
    (0, 1, 1, 0): 5,
    (0, 1, -1, 0): 6,
    (0, -1, -1, 0): 7,
    (0, -1, 1, 0): 8,
}
"""(a, b, c, d) of a display matrix, which maps column x and row y to (a x + c y, b x + d y) → EXIF orientation."""

_BOXES = (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip")
_EBML, _SEGMENT = b"\x1aE\xdf\xa3", b"\x18S\x80g"
_STREAMED = (0, 0xFFFFFFFF)
"""Lengths in an AVI that was written without returning to its start."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VideoFrame:
    """One frame of a video."""

    number: int
    """Counted from 1, in display order."""
    ticks: int
    """Display time in units of `Video.tick`; larger than that of the previous frame."""
    duration: int
    """Duration in the same units; 0 if the file has none."""
    orientation: int
    """Orientation for `apply_orientation`."""
    coded: Any
    """PyAV's frame, not yet converted to RGB."""

    def to_array(self, channels: int | None = None) -> Array:
        """Convert to (H, W, 3) uint8 RGB, upright, or to (H, W, 1) brightness if `channels` is 1. Thread-safe.

        Raises:
            DataError: The colors cannot be converted.
        """
        pixel_format = "gray" if channels == 1 else "rgb24"
        try:
            pixels = self.coded.to_ndarray(format=pixel_format)
        except Exception as error:  # libav has pixel formats that it cannot convert
            raise DataError(
                f"The colors of frame {self.number} cannot be converted to RGB ({describe_cause(error)}). Convert the "
                f"video."
            ) from error
        return apply_orientation(add_channel_axis(pixels), self.orientation)


@dataclass(frozen=True, slots=True, kw_only=True)
class Video:
    """An open video file. Errors call it `name`."""

    name: str
    container: Any
    stream: Any
    """PyAV's container and stream."""
    missing: int
    """Number of bytes missing at the end of the file."""

    @property
    def tick(self) -> Fraction:
        """Unit of time in seconds."""
        return Fraction(self.stream.time_base)

    @property
    def rate(self) -> Fraction:
        """Average frames per second; 25 if the file has none."""
        return Fraction(self.stream.average_rate or self.stream.guessed_rate or 25)

    @property
    def num_frames(self) -> int:
        """Number of frames according to the header, or estimated from the duration; 0 if both are unknown."""
        seconds = (self.container.duration or 0) / 1_000_000
        return int(self.stream.frames or round(seconds * self.rate))

    @property
    def pixel_aspect(self) -> Fraction:
        """Width divided by height of a stored pixel, before the frame is turned upright."""
        return Fraction(self.stream.sample_aspect_ratio or 1)

    def frames(self) -> Iterator[VideoFrame]:
        """Yield all frames.

        Raises:
            DataError: The video is cut off or damaged, its size changes, or it is rotated by other than 90°.
        """
        previous: VideoFrame | None = None
        try:
            for coded in self._decode():
                frame = _make_frame(coded, previous)
                if previous and (coded.height, coded.width) != (previous.coded.height, previous.coded.width):
                    sizes = f"{previous.coded.height}x{previous.coded.width} to {coded.height}x{coded.width}"
                    raise DataError(f"the size changes from {sizes}")
                yield frame
                previous = frame
            if self.missing:
                raise DataError(f"the file is cut off, {self.missing:,} bytes are missing")
        except Exception as error:  # decoders and remote files raise errors of any type
            number = previous.number + 1 if previous else 1
            raise DataError(
                f"{self.name}: The video cannot be decoded near frame {number} ({describe_cause(error)}). Replace or "
                f"cut it."
            ) from error
        if previous is None:
            raise DataError(f"{self.name}: The video has no frames. Replace or remove it.")

    def _decode(self) -> Iterator[Any]:
        for packet in self.container.demux(self.stream):
            if packet.is_corrupt:
                raise DataError("the file ends inside it")
            for coded in packet.decode():
                if coded.is_corrupt:
                    raise DataError("the frame is damaged")
                yield coded


@contextlib.contextmanager
def open_video(file: BinaryIO, name: str) -> Iterator[Video]:
    """Open a seekable video file for reading; errors call it `name`.

    Decoding stops at the first fault: by default, decoders conceal damaged parts.

    Raises:
        InvalidArgumentError: PyAV is not installed.
        DataError: The file is not a video, or its frames are too large.
    """
    av = import_av("a video")
    with contextlib.ExitStack() as closing:
        try:
            missing = count_missing_bytes(file)
            container = closing.enter_context(av.open(file, "r"))
            stream = container.streams.best("video")
            if stream is None:
                raise DataError("it contains only audio")
            require_size(stream.codec_context.height, stream.codec_context.width)
        except Exception as error:  # decoders raise errors of any type on damaged files
            raise DataError(
                f"{name}: The file cannot be read as a video ({describe_cause(error)}). Replace or remove it."
            ) from error
        stream.codec_context.thread_type = "AUTO"
        stream.codec_context.thread_count = NUM_THREADS
        stream.codec_context.options = {"err_detect": "explode"}
        yield Video(name=name, container=container, stream=stream, missing=missing)


def import_av(what: str) -> Any:
    """Import PyAV; raise InvalidArgumentError if it is not installed."""
    with explain_missing_extra(what, "av (PyAV)", "video"):
        import av
    return av


def _make_frame(coded: Any, previous: VideoFrame | None) -> VideoFrame:
    ticks = coded.pts if coded.pts is not None else coded.dts
    if previous is None:
        ticks = ticks or 0
    else:
        ticks = previous.ticks + max(previous.duration, 1) if ticks is None else max(ticks, previous.ticks + 1)
    matrices = [bytes(data) for data in coded.side_data if data.type.name == "DISPLAYMATRIX"]
    return VideoFrame(
        number=previous.number + 1 if previous else 1,
        ticks=ticks,
        duration=int(coded.duration or 0),
        orientation=parse_display_matrix(matrices[0]) if matrices else 1,
        coded=coded,
    )


def parse_display_matrix(matrix: bytes) -> int:
    """Convert a display matrix, three rows of three 32-bit numbers, to an EXIF orientation from 1 to 8.

    Raises:
        DataError: The matrix scales, or rotates by other than right angles.
    """
    a, b, _, c, d = np.frombuffer(matrix, np.int32)[:5].tolist()
    turn = (round(a / _ONE), round(b / _ONE), round(c / _ONE), round(d / _ONE))
    is_exact = all(abs(value - _ONE * sign) <= 1 for value, sign in zip((a, b, c, d), turn, strict=True))
    if turn not in _ORIENTATIONS or not is_exact:
        raise DataError("it is scaled, or rotated by an angle that is not a multiple of 90 degrees")
    return _ORIENTATIONS[turn]


def count_missing_bytes(file: BinaryIO) -> int:
    """Count the bytes that an MP4, MOV, AVI, Matroska or WebM file lacks at its end according to its own headers.

    Decoders read a file that was cut off without an error. The seekable file is left at its start.

    Returns:
        0 if the file is complete or its length is not known.
    """
    length = file.seek(0, os.SEEK_END)
    file.seek(0)
    head = file.read(12)
    declared = 0
    if head[:4] == b"RIFF":
        declared = _find_end_of_riff(file)
    elif head[:4] == _EBML:
        declared = _find_end_of_segment(file)
    elif head[4:8] in _BOXES:
        declared = _find_end_of_boxes(file, length)
    file.seek(0)
    return max(declared - length, 0)


def _find_end_of_boxes(file: BinaryIO, length: int) -> int:
    """Return the end of an MP4 or MOV: a sequence of boxes, each with its length and a name of four letters."""
    end = 0
    while end + 8 <= length:
        file.seek(end)
        head = file.read(16)
        size, name = struct.unpack(">I4s", head[:8])
        if size == 1 and len(head) == 16:
            (size,) = struct.unpack(">Q", head[8:])
        if size < 8 or not name.isalnum():  # 0 is a box up to the end; other values follow the last box
            return length
        end += size
    return end


def _find_end_of_riff(file: BinaryIO) -> int:
    """Return the end of an AVI, whose length follows the first four letters."""
    file.seek(4)
    size = int.from_bytes(file.read(4), "little")
    return 0 if size in _STREAMED else 8 + size


def _find_end_of_segment(file: BinaryIO) -> int:
    """Return the end of a Matroska or WebM file: a header and one segment, each with its length."""
    file.seek(len(_EBML))
    header = _read_length(file)
    if header is None:
        return 0
    file.seek(header, os.SEEK_CUR)
    if file.read(4) != _SEGMENT:
        return 0
    size = _read_length(file)
    return 0 if size is None else file.tell() + size


def _read_length(file: BinaryIO) -> int | None:
    """Read a number whose first byte gives its width by leading zeros; None if it is unknown, with all bits set."""
    first = file.read(1)
    if not first or not first[0]:
        return None
    num_more = 8 - first[0].bit_length()
    number = int.from_bytes(first + file.read(num_more)) - (1 << 7 * (num_more + 1))
    return None if number == (1 << 7 * (num_more + 1)) - 1 else number
