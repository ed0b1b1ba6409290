"""Facts about an image file that need no decoding: format, alpha, palette, completeness, orientation."""

import io
import re
from dataclasses import dataclass, replace
from pathlib import Path

import tifffile
from PIL import Image

from pixelwise.data.io.decoded_image import ORIENTATION
from pixelwise.data.io.images import FILE_TYPES, HEAD_BYTES, IMAGE_EXTENSIONS, find_file_type
from pixelwise.data.io.pictures import iterate_chunks
from pixelwise.data.io.tiff import Georeference, find_georeference, read_nodata

FORMAT_OF_EXTENSION = {extension: kind.name for kind in FILE_TYPES for extension in kind.extensions}

_JPEG_MARKER = re.compile(rb"\xff+[^\x00\xff\xd0-\xd7]")
"""A marker in the data of a scan: zeros and restart markers belong to the data."""
_JPEG_END, _JPEG_WITHOUT_LENGTH = 0xD9, (0x01, 0xD8)
_PNG_PALETTE, _PNG_WITH_ALPHA = 3, (4, 6)


@dataclass(frozen=True, slots=True, kw_only=True)
class FileInfo:
    """The content of an image file, independent of its name."""

    format: str = ""
    """Name in `FILE_TYPES`; empty for other content and for files that were not read."""
    alpha: bool = False
    """True if a PNG has an alpha channel."""
    palette: bytes = b""
    """Colors of a palette PNG or GIF, three bytes each; empty for grays of a GIF, which are values of their own."""
    is_truncated: bool = False
    """True if the end of the file is missing."""
    georeference: Georeference | None = None
    """Place on the map, if the file or one next to it gives it."""
    nodata: tuple[float, ...] = ()
    """Values that a TIFF declares as missing data."""

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
    return replace(inspect_bytes(content), georeference=find_georeference(path))


def inspect_bytes(content: bytes) -> FileInfo:
    """Inspect the bytes of an image file."""
    kind, truncated = detect_image_format(content), is_truncated(content)
    png_color_type = content[25] if kind == "PNG" and len(content) > 25 else None
    return FileInfo(
        format=kind,
        alpha=png_color_type in _PNG_WITH_ALPHA,
        palette=_read_palette(content, kind) if kind == "GIF" or png_color_type == _PNG_PALETTE else b"",
        is_truncated=truncated,
        nodata=_find_nodata(content) if kind == "TIFF" and not truncated else (),
    )


def _find_nodata(content: bytes) -> tuple[float, ...]:
    try:
        with tifffile.TiffFile(io.BytesIO(content)) as file:
            return read_nodata(file.pages.first).values
    except Exception:  # reported when the file is decoded
        return ()


def detect_image_format(content: bytes) -> str:
    """Return the name in `FILE_TYPES` by the first bytes; an empty string for content that is not read."""
    kind = find_file_type(content[:HEAD_BYTES])
    return kind.name if kind else ""


def is_truncated(content: bytes) -> bool:
    """Return whether the end of a file is missing, or is zeros in a JPEG or PNG as after a broken download.

    Decoders are not reliable here: Pillow and libpng accept a PNG without its last bytes, and the pixels that a
    decoder fills in change with its version.
    """
    kind = detect_image_format(content)
    if kind == "PNG":
        return not any(name == b"IEND" for name, _, _ in iterate_chunks(content))
    if kind == "JPEG":
        return not _has_jpeg_end(content)
    if kind == "GIF":
        return not _has_gif_end(content)
    if kind == "WebP":
        return int.from_bytes(content[4:8], "little") + 8 > len(content)
    if kind == "BMP":
        return int.from_bytes(content[2:6], "little") > len(content)
    return kind == "TIFF" and _is_truncated_tiff(content)


def read_orientation(path: Path) -> int:
    """Return the EXIF or TIFF orientation, 1 to 8; 1, upright, if the file has none."""
    try:
        with Image.open(path) as picture:
            return int(picture.getexif().get(ORIENTATION, 1))
    except Exception:  # decoders raise errors of any type on damaged files
        return 1


def _has_jpeg_end(content: bytes) -> bool:
    """Walk from marker to marker to the end of the image; previews are inside a marker, videos behind the end."""
    position = 2
    while marker := _JPEG_MARKER.search(content, position):
        kind, position = content[marker.end() - 1], marker.end()
        if kind == _JPEG_END:
            return True
        if kind not in _JPEG_WITHOUT_LENGTH:
            position += int.from_bytes(content[position : position + 2])
    return False


def _has_gif_end(content: bytes) -> bool:
    """Walk from block to block to the end of the file."""
    position = 13 + _count_palette_bytes(content, 10)
    while kind := content[position : position + 1]:
        if kind == b";":
            return True
        if kind == b",":  # an image: its place, its own palette, and one byte before its data
            position += 11 + _count_palette_bytes(content, position + 9)
        elif kind == b"!":
            position += 2
        else:
            return False
        while length := int.from_bytes(content[position : position + 1]):
            position += 1 + length
        position += 1
    return False


def _count_palette_bytes(content: bytes, position: int) -> int:
    """Count the bytes of the palette of a GIF by the flags at a position; 0 without a palette."""
    flags = int.from_bytes(content[position : position + 1])
    return 3 * (2 << (flags & 7)) if flags & 0x80 else 0


def _read_palette(content: bytes, kind: str) -> bytes:
    if kind == "GIF":
        palette = content[13 : 13 + _count_palette_bytes(content, 10)]
        return palette if palette[::3] != palette[1::3] or palette[::3] != palette[2::3] else b""
    return next((content[start:end] for name, start, end in iterate_chunks(content) if name == b"PLTE"), b"")


def _is_truncated_tiff(content: bytes) -> bool:
    try:
        with tifffile.TiffFile(io.BytesIO(content)) as file:
            page = file.pages.first
            ends = zip(page.dataoffsets, page.databytecounts, strict=True)
            return any(offset + length > len(content) for offset, length in ends)
    except Exception:  # the directory itself is beyond the end
        return True
