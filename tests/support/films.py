"""Small video files for tests, made with PyAV."""

from collections.abc import Iterable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

TICK = Fraction(1, 90000)


def scene(number: int, height: int = 48, width: int = 64) -> np.ndarray[Any, Any]:
    """(H, W, 3) uint8: a colored square that moves over stripes."""
    picture = np.zeros((height, width, 3), np.uint8)
    picture[height // 2 :] = (90, 160, 40)
    picture[:, ::8] = 255
    picture[8:24, 4 * number : 4 * number + 16] = (220, 40, 30)
    return picture


def write_film(
    path: Path,
    pictures: Iterable[Any] | int = 5,
    *,
    codec: str = "libx264",
    ticks: Sequence[int] | None = None,
    rotation: int | None = None,
    pixel_format: str = "yuv420p",
    aspect: Fraction | None = None,
    container: dict[str, str] | None = None,
) -> Path:
    """A video of `pictures`, or of as many scenes; shown at `ticks` of 1/90000 s, every 3600 by default."""
    import av

    shown = [scene(i) for i in range(pictures)] if isinstance(pictures, int) else list(pictures)
    times = [3600 * i for i in range(len(shown))] if ticks is None else ticks
    tick = TICK if codec != "mpeg4" else Fraction(1, 25)
    with av.open(str(path), "w", options=container or {}) as file:
        stream: Any = file.add_stream(codec, rate=25)
        height, width = shown[0].shape[:2]
        stream.codec_context.time_base = stream.time_base = tick
        stream.width, stream.height, stream.pix_fmt = width, height, pixel_format
        if aspect is not None:
            stream.codec_context.sample_aspect_ratio = aspect
        if rotation is not None:
            stream.set_display_rotation(rotation)
        for picture, time in zip(shown, times, strict=True):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(format=pixel_format)
            frame.time_base, frame.pts = tick, round(time * TICK / tick)
            file.mux(stream.encode(frame))
        file.mux(stream.encode(None))
    return path


def write_pieces(path: Path, pieces: Sequence[Sequence[Any]]) -> Path:
    """A video of JPEGs whose size changes from piece to piece, which its file does not say."""
    import av

    with av.open(str(path), "w") as file:
        first = pieces[0][0]
        stream: Any = file.add_stream("mjpeg", rate=25)
        stream.width, stream.height, stream.pix_fmt = first.shape[1], first.shape[0], "yuvj420p"
        number = 0
        for piece in pieces:
            encoder: Any = av.codec.CodecContext.create("mjpeg", "w")
            encoder.height, encoder.width = piece[0].shape[:2]
            encoder.pix_fmt, encoder.time_base = "yuvj420p", Fraction(1, 25)
            for picture in piece:
                frame = av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(format="yuvj420p")
                frame.time_base, frame.pts = Fraction(1, 25), number
                for packet in encoder.encode(frame):
                    packet.stream = stream
                    file.mux(packet)
                number += 1
    return path


def read_film(path: Path) -> list[tuple[Fraction, Any]]:
    """Every frame as stored: when it is shown, in seconds, and its pixels (H, W, 3)."""
    import av

    with av.open(str(path)) as file:
        return [(frame.pts * frame.time_base, frame.to_ndarray(format="rgb24")) for frame in file.decode(video=0)]
