"""What the bytes of an image file tell without decoding its pixels: format, alpha, palette, completeness."""

import io
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import tifffile
from PIL import Image

from pixelwise.data.io.decoded import MAX_PIXELS, ORIENTATION
from pixelwise.data.io.images import ENDINGS

FORMAT_OF_ENDING = {
    ".png": "PNG",
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".tif": "TIFF",
    ".tiff": "TIFF",
    ".bmp": "BMP",
    ".webp": "WebP",
}

_MAGIC = {
    b"\x89PNG\r\n\x1a\n": "PNG",
    b"\xff\xd8\xff": "JPEG",
    b"II*\0": "TIFF",
    b"MM\0*": "TIFF",
    b"II+\0": "TIFF",
    b"MM\0+": "TIFF",
    b"BM": "BMP",
}
_JPEG_SCAN, _JPEG_END = b"\xff\xda", b"\xff\xd9"
_PNG_WITH_ALPHA = (4, 6)


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """What a file is, whatever its name says."""

    format: str = ""
    """PNG, JPEG, TIFF, BMP or WebP; empty where it is none of them, or no file of its own."""
    alpha: bool = False
    """Whether a PNG has an alpha channel."""
    palette: bytes = b""
    """Colors of a palette PNG, three bytes each."""
    cut_short: bool = False
    """Whether the end of the file is missing."""

    def color_of(self, index: int) -> tuple[int, int, int] | None:
        """The palette's color; None beyond its end."""
        color = self.palette[3 * index : 3 * index + 3]
        return (color[0], color[1], color[2]) if len(color) == 3 else None


def inspect_entry(entry: str) -> Content:
    """Of a member of a larger file, by its ending alone."""
    return Content(format=FORMAT_OF_ENDING.get(Path(entry).suffix.lower(), ""))


def inspect(path: Path) -> Content:
    """Of a file that is an image by its ending; of others, and of files that cannot be read, nothing is known.

    A sample's path may also be a larger file that holds many of them, and reading that would take long.
    """
    if path.suffix.lower() not in ENDINGS:
        return Content()
    try:
        content = path.read_bytes()
    except OSError:
        return Content()
    return inspect_bytes(content)


def inspect_bytes(content: bytes) -> Content:
    """The same of the bytes themselves."""
    kind = format_of(content)
    is_png = kind == "PNG" and len(content) > 25
    return Content(
        format=kind,
        alpha=is_png and content[25] in _PNG_WITH_ALPHA,
        palette=_palette(content) if is_png and content[25] == 3 else b"",
        cut_short=is_cut_short(content),
    )


def format_of(content: bytes) -> str:
    """By the first bytes; empty for what Pixelwise does not read."""
    if content[:4] == b"RIFF" and content[8:12] == b"WEBP":
        return "WebP"
    return next((kind for magic, kind in _MAGIC.items() if content.startswith(magic)), "")


def is_cut_short(content: bytes) -> bool:
    """Whether the end of a file is missing, or a JPEG or PNG ends in zeros, as broken downloads do.

    This is not left to decoders: Pillow and libpng take a PNG without its last bytes, and what a
    decoder fills in changes with its version.
    """
    kind = format_of(content)
    if kind == "PNG":
        return not any(name == b"IEND" for name, _, _ in _chunks(content))
    if kind == "JPEG":  # the preview in a camera's header has an end too, but lies before the scan
        return content.rfind(_JPEG_END) < content.rfind(_JPEG_SCAN)
    if kind == "WebP":
        return int.from_bytes(content[4:8], "little") + 8 > len(content)
    if kind == "BMP":
        return int.from_bytes(content[2:6], "little") > len(content)
    return kind == "TIFF" and _tiff_is_cut_short(content)


def claims_too_many_pixels(path: Path) -> bool:
    """Whether the header announces more pixels than any image may have."""
    try:
        with path.open("rb") as file:
            if format_of(file.read(16)) == "TIFF":
                with tifffile.TiffFile(path) as tiff:
                    return bool(tiff.pages.first.imagelength * tiff.pages.first.imagewidth > MAX_PIXELS)
        with Image.open(path):
            return False
    except Image.DecompressionBombError:
        return True
    except Exception:  # decoders raise whatever broken bytes lead them to
        return False


def orientation_of(path: Path) -> int:
    """The EXIF or TIFF orientation, 1 to 8; 1, upright, where the file tells none."""
    try:
        with Image.open(path) as picture:
            return int(picture.getexif().get(ORIENTATION, 1))
    except Exception:  # as above
        return 1


def _chunks(content: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Name, start and end of the data of each complete chunk of a PNG."""
    position = 8
    while position + 12 <= len(content):
        length, name = struct.unpack_from(">I4s", content, position)
        if position + 12 + length > len(content):
            return
        yield name, position + 8, position + 8 + length
        position += 12 + length


def _palette(content: bytes) -> bytes:
    return next((content[start:end] for name, start, end in _chunks(content) if name == b"PLTE"), b"")


def _tiff_is_cut_short(content: bytes) -> bool:
    try:
        with tifffile.TiffFile(io.BytesIO(content)) as file:
            page = file.pages.first
            ends = zip(page.dataoffsets, page.databytecounts, strict=True)
            return any(offset + length > len(content) for offset, length in ends)
    except Exception:  # the directory itself lies beyond the end
        return True
