"""Video files, frame by frame, upright as players show them. Needs the extra `video`."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, BinaryIO

import numpy as np

from pixelwise.data.io.decoded import Array, oriented, require_size, with_channels
from pixelwise.data.io.video_length import missing_bytes
from pixelwise.errors import DataError, missing_extra

ENDINGS = (".mp4", ".mov", ".m4v", ".avi", ".mkv", ".webm")
THREADS = 2
"""That decode or encode one video, beside those of the network. Each holds a few frames."""

_ONE = 1 << 16
"""What 1 is in a display matrix."""
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
"""(a, b, c, d) of a display matrix, which takes column x and row y to (a x + c y, b x + d y) → as EXIF says it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """One picture of a video."""

    number: int
    """Counted from 1, in the order in which they are shown."""
    ticks: int
    """When it is shown, in units of `Video.tick`; larger than that of the frame before."""
    duration: int
    """How long, in the same units; 0 where the file does not say."""
    orientation: int
    """As `pixels.oriented` takes it."""
    coded: Any
    """PyAV's frame: its colors are not those of a screen yet."""

    def pixels(self, channels: int | None = None) -> Array:
        """(H, W, 3) uint8, upright; for a model of one channel (H, W, 1), the brightness. Any thread may ask.

        DataError for colors that cannot be converted.
        """
        wanted = "gray" if channels == 1 else "rgb24"
        try:
            stored = self.coded.to_ndarray(format=wanted)
        except Exception as error:  # libav knows formats of pixels that it cannot convert
            raise DataError(
                f"frame {self.number}: has no colors of a screen ({_reason(error)}); convert it."
            ) from error
        return oriented(with_channels(stored), self.orientation)


@dataclass(frozen=True, slots=True, kw_only=True)
class Video:
    """An open video file. Errors call it `name`."""

    name: str
    container: Any
    stream: Any
    """PyAV's."""
    missing: int
    """Bytes that the file lacks at its end."""

    @property
    def tick(self) -> Fraction:
        """Seconds."""
        return Fraction(self.stream.time_base)

    @property
    def rate(self) -> Fraction:
        """Frames a second, on average; 25 where the file does not say."""
        return Fraction(self.stream.average_rate or self.stream.guessed_rate or 25)

    @property
    def num_frames(self) -> int:
        """As the file says, or else as its length lets expect; 0 where it says neither."""
        seconds = (self.container.duration or 0) / 1_000_000
        return int(self.stream.frames or round(seconds * self.rate))

    @property
    def pixel_aspect(self) -> Fraction:
        """Width by height of a stored pixel, before the frame is turned upright."""
        return Fraction(self.stream.sample_aspect_ratio or 1)

    def frames(self) -> Iterator[Frame]:
        """All frames. DataError where they break off, change their size or are turned by an odd angle."""
        before: Frame | None = None
        try:
            for coded in self._decoded():
                frame = _framed(coded, before)
                _require_alike(coded, before)
                yield frame
                before = frame
            if self.missing:
                raise DataError(f"the file is cut off, {self.missing:,} bytes are missing")
        except Exception as error:  # decoders, and files behind URLs, raise whatever they come upon
            number = 1 if before is None else before.number + 1
            raise DataError(
                f"{self.name}: breaks off near frame {number} ({_reason(error)}); replace or cut it."
            ) from error
        if before is None:
            raise DataError(f"{self.name}: the video holds no frame; replace or remove it.")

    def _decoded(self) -> Iterator[Any]:
        for packet in self.container.demux(self.stream):
            if packet.is_corrupt:
                raise DataError("the file ends within it")
            for coded in packet.decode():
                if coded.is_corrupt:
                    raise DataError("it cannot be decoded")
                yield coded


@contextlib.contextmanager
def open_video(file: BinaryIO, name: str) -> Iterator[Video]:
    """Opens a video for reading; the file can be sought in.

    Decoding stops at the first fault: by themselves decoders paint over what is damaged.

    Raises:
        InvalidArgumentError: PyAV is not installed.
        DataError: the file is no video, or its frames are too large.
    """
    av = import_av("a video")
    with contextlib.ExitStack() as closing:
        try:
            missing = missing_bytes(file)
            container = closing.enter_context(av.open(file, "r"))
            stream = container.streams.best("video")
            if stream is None:
                raise DataError("it holds sound alone")
            require_size(stream.codec_context.height, stream.codec_context.width)
        except Exception as error:  # as for images
            raise DataError(f"{name}: cannot be read as a video ({_reason(error)}); replace or remove it.") from error
        stream.codec_context.thread_type = "AUTO"
        stream.codec_context.thread_count = THREADS
        stream.codec_context.options = {"err_detect": "explode"}
        yield Video(name=name, container=container, stream=stream, missing=missing)


def import_av(what: str) -> Any:
    """PyAV; InvalidArgumentError where it is not installed."""
    try:
        import av
    except ImportError as error:
        raise missing_extra(what, "av (PyAV)", "video") from error
    return av


def _reason(error: Exception) -> str:
    """Of an error of the system or of libav what it means, without its number."""
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


def _framed(coded: Any, before: Frame | None) -> Frame:
    stamp = coded.pts if coded.pts is not None else coded.dts
    earliest = stamp or 0
    if before is not None:
        earliest = before.ticks + 1
        stamp = before.ticks + max(before.duration, 1) if stamp is None else stamp
    return Frame(
        number=1 if before is None else before.number + 1,
        ticks=max(stamp or 0, earliest),
        duration=int(coded.duration or 0),
        orientation=_orientation(coded),
        coded=coded,
    )


def _require_alike(coded: Any, before: Frame | None) -> None:
    if before is None:
        return
    old = before.coded
    if (coded.height, coded.width) != (old.height, old.width):
        raise DataError(f"the size changes from {old.height}x{old.width} to {coded.height}x{coded.width}")


def _orientation(coded: Any) -> int:
    matrices = [bytes(data) for data in coded.side_data if data.type.name == "DISPLAYMATRIX"]
    return orientation_of(matrices[0]) if matrices else 1


def orientation_of(matrix: bytes) -> int:
    """A display matrix, nine numbers of 32 bit in three rows → the orientation as EXIF counts it, 1 to 8.

    DataError for one that does not turn by right angles.
    """
    a, b, _, c, d = np.frombuffer(matrix, np.int32)[:5].tolist()
    turn = (round(a / _ONE), round(b / _ONE), round(c / _ONE), round(d / _ONE))
    exact = all(abs(value - _ONE * sign) <= 1 for value, sign in zip((a, b, c, d), turn, strict=True))
    if turn not in _ORIENTATIONS or not exact:
        raise DataError("it is shown turned by other than right angles, or scaled; convert the video")
    return _ORIENTATIONS[turn]
