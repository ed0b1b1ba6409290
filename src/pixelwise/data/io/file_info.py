"""Facts about an image file that need no decoding: format, alpha, palette, completeness, orientation."""

import io
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import tifffile
from PIL import Image

from pixelwise.data.io.decoded_image import MAX_PIXELS, ORIENTATION
from pixelwise.data.io.images import IMAGE_EXTENSIONS, PNG_MAGIC
from pixelwise.data.io.tiff import TIFF_MAGIC

FORMAT_OF_EXTENSION = {
    ".png": "PNG",
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".tif": "TIFF",
    ".tiff": "TIFF",
    ".bmp": "BMP",
    ".webp": "WebP",
}

_MAGIC = {
    **dict.fromkeys(TIFF_MAGIC, "TIFF"),
    PNG_MAGIC: "PNG",
    b"\xff\xd8\xff": "JPEG",
    b"BM": "BMP",
}
_JPEG_SCAN, _JPEG_END = b"\xff\xda", b"\xff\xd9"
_PNG_PALETTE, _PNG_WITH_ALPHA = 3, (4, 6)


@dataclass(frozen=True, slots=True, kw_only=True)
class FileInfo:
    """The content of an image file, independent of its name."""

    format: str = ""
    """PNG, JPEG, TIFF, BMP or WebP; empty for other content and for files that were not read."""
    alpha: bool = False
    """True if a PNG has an alpha channel."""
    palette: bytes = b""
    """Colors of a palette PNG, three bytes each."""
    is_truncated: bool = False
    """True if the end of the file is missing."""

    def get_color(self, index: int) -> tuple[int, int, int] | None:
        """Return a color of the palette, or None beyond its end."""
        color = self.palette[3 * index : 3 * index + 3]
        return (color[0], color[1], color[2]) if len(color) == 3 else None


def inspect_entry(entry: str) -> FileInfo:
    """Inspect a member of a container file by its extension only."""
    return FileInfo(format=FORMAT_OF_EXTENSION.get(Path(entry).suffix.lower(), ""))


def inspect_file(path: Path) -> FileInfo:
    """Inspect a file with the extension of an image; of others and of unreadable ones return an empty FileInfo.

    A sample may also be in a large container file, which would take long to read.
    """
    if path.suffix.lower() not in IMAGE_EXTENSIONS:
        return FileInfo()
    try:
        content = path.read_bytes()
    except OSError:
        return FileInfo()
    return inspect_bytes(content)


def inspect_bytes(content: bytes) -> FileInfo:
    """Inspect the bytes of an image file."""
    kind = detect_image_format(content)
    png_color_type = content[25] if kind == "PNG" and len(content) > 25 else None
    return FileInfo(
        format=kind,
        alpha=png_color_type in _PNG_WITH_ALPHA,
        palette=_read_palette(content) if png_color_type == _PNG_PALETTE else b"",
        is_truncated=is_truncated(content),
    )


def detect_image_format(content: bytes) -> str:
    """Return the format by the first bytes; an empty string for formats that Pixelwise does not read."""
    if content[:4] == b"RIFF" and content[8:12] == b"WEBP":
        return "WebP"
    return next((kind for magic, kind in _MAGIC.items() if content.startswith(magic)), "")


def is_truncated(content: bytes) -> bool:
    """Return whether the end of a file is missing, or is zeros in a JPEG or PNG as after a broken download.

    Decoders are not reliable here: Pillow and libpng accept a PNG without its last bytes, and the pixels that a
    decoder fills in change with its version.
    """
    kind = detect_image_format(content)
    if kind == "PNG":
        return not any(name == b"IEND" for name, _, _ in _iterate_chunks(content))
    if kind == "JPEG":  # a preview in the camera's header also has an end, but before the scan
        return content.rfind(_JPEG_END) < content.rfind(_JPEG_SCAN)
    if kind == "WebP":
        return int.from_bytes(content[4:8], "little") + 8 > len(content)
    if kind == "BMP":
        return int.from_bytes(content[2:6], "little") > len(content)
    return kind == "TIFF" and _is_truncated_tiff(content)


def is_decompression_bomb(path: Path) -> bool:
    """Return whether the header claims more pixels than any image may have."""
    try:
        with path.open("rb") as file:
            if detect_image_format(file.read(16)) == "TIFF":
                with tifffile.TiffFile(path) as tiff:
                    return bool(tiff.pages.first.imagelength * tiff.pages.first.imagewidth > MAX_PIXELS)
        with Image.open(path):
            return False
    except Image.DecompressionBombError:
        return True
    except Exception:  # decoders raise errors of any type on damaged files
        return False


def read_orientation(path: Path) -> int:
    """Return the EXIF or TIFF orientation, 1 to 8; 1, upright, if the file has none."""
    try:
        with Image.open(path) as picture:
            return int(picture.getexif().get(ORIENTATION, 1))
    except Exception:  # as above
        return 1


def _iterate_chunks(content: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Yield name, start and end of the data of each complete chunk of a PNG."""
    position = 8
    while position + 12 <= len(content):
        length, name = struct.unpack_from(">I4s", content, position)
        if position + 12 + length > len(content):
            return
        yield name, position + 8, position + 8 + length
        position += 12 + length


def _read_palette(content: bytes) -> bytes:
    return next((content[start:end] for name, start, end in _iterate_chunks(content) if name == b"PLTE"), b"")


def _is_truncated_tiff(content: bytes) -> bool:
    try:
        with tifffile.TiffFile(io.BytesIO(content)) as file:
            page = file.pages.first
            ends = zip(page.dataoffsets, page.databytecounts, strict=True)
            return any(offset + length > len(content) for offset, length in ends)
    except Exception:  # the directory itself is beyond the end
        return True
