"""Decoding of pictures: imagecodecs where it is faster or Pillow would change the values, pillow-heif, and Pillow.

imagecodecs decodes only what it decodes to the same pixels as Pillow, and accepts only if Pillow does: most JPEG and
PNG files. Pillow decodes all others, and says what is wrong with them.
"""

import io
import re
import struct
import zlib
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

import imagecodecs
import numpy as np
from PIL import Image, ImageOps

from pixelwise.data.io.decoded_image import (
    ORIENTATION,
    DecodedImage,
    add_channel_axis,
    apply_orientation,
    require_size,
)
from pixelwise.errors import DataError

PNG_MAGIC = b"\x89PNG\r\n\x1a\n"
JPEG_2000_CODESTREAM = b"\xff\x4f\xff\x51"
PILLOW_FORMATS = ("PNG", "JPEG", "BMP", "WEBP", "GIF", "AVIF", "PPM")
"""Formats that Pillow may try: others run programs (EPS), or have decoders that are rarely tested."""

_PALETTE = 3
_TEXT_CHUNKS = (b"tEXt", b"zTXt", b"iTXt")
_ORIENTATION_TEXTS = (b"Raw profile type ", b"XML:com.adobe.xmp")
"""Keywords of texts in which Pillow finds an orientation."""

_NUMBER = rb"(?:\s|#[^\n]*\n)+(\d+)"
_NETPBM = re.compile(rb"P([2356])" + 3 * _NUMBER + rb"\s")


def decode_picture(file: BinaryIO, *, page: int | None, as_stored: bool) -> DecodedImage:
    """Decode one picture of a file; `as_stored` keeps the values of masks: palette indices and unscaled gray."""
    content = file.read()
    if read_png_header(content)[0] == 16:
        return _decode_16_bit_png(content, page or 0)
    if not page and (decoded := _decode_jpeg(content) or _decode_png(content, as_stored)):
        return decoded
    try:
        return _decode_with_pillow(content, page or 0, as_stored)
    except ValueError:  # as in `_open_picture`, for text behind the image
        if not content.startswith(PNG_MAGIC):
            raise
        return _decode_with_pillow(_drop_png_text(content), page or 0, as_stored)


def count_pictures(file: BinaryIO) -> int:
    """Count the pictures of an animated file."""
    if file.read(8) == PNG_MAGIC and not _is_animated_png(file):
        return 1
    file.seek(0)
    with _open_picture(file.read()) as picture:
        return int(getattr(picture, "n_frames", 1))


def _is_animated_png(file: BinaryIO) -> bool:
    """Walk the chunks from the first one to the data of the image."""
    while len(head := file.read(8)) == 8:
        length, name = struct.unpack(">I4s", head)
        if name in (b"acTL", b"IDAT"):
            return bool(name == b"acTL")
        file.seek(length + 4, io.SEEK_CUR)
    return False


def _open_picture(content: bytes) -> Image.Image:
    try:
        return Image.open(io.BytesIO(content), formats=PILLOW_FORMATS)
    except ValueError:  # Pillow refuses more than 1 MB of text or color profile, which are not needed
        if not content.startswith(PNG_MAGIC):
            raise
        return Image.open(io.BytesIO(_drop_png_text(content)), formats=PILLOW_FORMATS)


def read_picture_size(content: bytes) -> tuple[int, int]:
    """Return (height, width), upright, from the header."""
    with _open_picture(content) as picture:
        width, height = picture.size
        return (width, height) if picture.getexif().get(ORIENTATION, 1) >= 5 else (height, width)


def decode_netpbm(file: BinaryIO, *, page: int | None, as_stored: bool) -> DecodedImage:
    """Decode PGM or PPM of any depth with its own values, which Pillow scales; PBM has none."""
    content = file.read()
    match = _NETPBM.match(content)
    if match is None:
        return decode_picture(io.BytesIO(content), page=None, as_stored=as_stored)
    kind, width, height, highest = map(int, match.groups())
    require_size(height, width)
    if not 0 < highest < 65536:
        raise DataError(f"Its largest value is {highest}, but must be 1 to 65535. Save it again.")
    channels = 3 if kind in (3, 6) else 1
    count = height * width * channels
    if kind in (5, 6):
        pixels = np.frombuffer(content, ">u2" if highest > 255 else "u1", count, match.end())
    else:
        words = re.sub(rb"#[^\n]*", b"", content[match.end() :]).split(None, count)[:count]
        pixels = np.array(words, np.int64)
    dtype = np.uint16 if highest > 255 else np.uint8
    return DecodedImage(pixels=pixels.reshape(height, width, channels).astype(dtype), alpha=False)


def decode_jpeg_2000(file: BinaryIO, *, page: int | None, as_stored: bool) -> DecodedImage:
    """Decode with imagecodecs: Pillow reduces colors of more than 8 bits, and reads at most four channels."""
    content = file.read()
    start = content.find(JPEG_2000_CODESTREAM) + 8
    right, bottom, left, top = struct.unpack_from(">4I", content, start)
    require_size(bottom - top, right - left)
    return DecodedImage(pixels=add_channel_axis(imagecodecs.jpeg2k_decode(content)), alpha=False)


def decode_heif(file: BinaryIO, *, page: int | None, as_stored: bool) -> DecodedImage:
    """Decode the main picture of a HEIC file, upright, in 8 bits."""
    try:
        import pillow_heif
    except ImportError as error:
        raise DataError(
            'HEIC needs pillow-heif, which is not installed. Install it: pip install "pixelwise[heic]".'
        ) from error
    container = pillow_heif.open_heif(io.BytesIO(file.read()))
    picture = container[container.primary_index]
    width, height = picture.size
    require_size(height, width)
    return DecodedImage(pixels=add_channel_axis(np.asarray(picture)), alpha=picture.has_alpha)


def _decode_jpeg(content: bytes) -> DecodedImage | None:
    """Decode a complete gray or color JPEG of 8 bits with imagecodecs; None for other content."""
    header = _read_jpeg_header(content)
    # libjpeg fills the rest of a truncated image with gray; Pillow reports it. Compressed pixels contain no end marker.
    if header is None or content.rfind(b"\xff\xd9") < header.start:
        return None
    require_size(header.height, header.width)
    try:
        pixels = add_channel_axis(imagecodecs.jpeg8_decode(content))
    except (RuntimeError, ValueError):  # Pillow says what is wrong
        return None
    if header.has_metadata:
        with _open_picture(content) as picture:
            pixels = apply_orientation(pixels, picture.getexif().get(ORIENTATION, 1))
    return DecodedImage(pixels=pixels, alpha=False)


class _JpegHeader(NamedTuple):
    height: int
    width: int
    has_metadata: bool
    """True if there is EXIF or XMP, which may have an orientation."""
    start: int
    """Position of the first scan."""


def _read_jpeg_header(content: bytes) -> _JpegHeader | None:
    """Read the header of a gray or color JPEG of 8 bits; None for other content."""
    position, size, has_metadata = 2, None, False
    while content[:2] == b"\xff\xd8" and position + 10 <= len(content) and content[position] == 0xFF:
        marker, length = content[position + 1], int.from_bytes(content[position + 2 : position + 4], "big")
        if marker == 0xDA:
            return size and _JpegHeader(*size, has_metadata, position)
        if marker in (0xC0, 0xC1, 0xC2):  # baseline, extended, progressive
            bits, height, width, channels = struct.unpack_from(">BHHB", content, position + 4)
            size = (height, width) if bits == 8 and channels in (1, 3) and height else None
        has_metadata |= marker == 0xE1
        position += 2 + length
    return None


def _decode_png(content: bytes, as_stored: bool) -> DecodedImage | None:
    """Decode a PNG of 8 bits with imagecodecs; None for other content, transparent colors and an orientation."""
    bits, kind = read_png_header(content)
    if bits != 8 or (kind == _PALETTE and not as_stored):
        return None
    require_size(*struct.unpack_from(">2I", content, 16)[::-1])
    for name, start, end in iterate_chunks(content):
        if name in (b"acTL", b"eXIf") or (name == b"tRNS" and kind != _PALETTE):
            return None
        if name in _TEXT_CHUNKS and content[start : min(end, start + 20)].startswith(_ORIENTATION_TEXTS):
            return None
    try:
        decoded = imagecodecs.png_decode(_replace_palette(content) if kind == _PALETTE else content)
    except (RuntimeError, ValueError):  # Pillow says what is wrong
        return None
    pixels = add_channel_axis(decoded)
    return DecodedImage(pixels=pixels, alpha=pixels.shape[2] in (2, 4))


def _replace_palette(content: bytes) -> bytes:
    """Return a palette PNG of 8 bits as a gray one, whose values are the indices."""
    header = b"IHDR" + content[16:25] + b"\0" + content[26:29]
    parts = [PNG_MAGIC, struct.pack(">I", 13), header, struct.pack(">I", zlib.crc32(header))]
    parts += [content[a - 8 : b + 4] for name, a, b in iterate_chunks(content) if name in (b"IDAT", b"IEND")]
    return b"".join(parts)


def _decode_with_pillow(content: bytes, page: int, as_stored: bool) -> DecodedImage:
    with _open_picture(content) as stored:
        is_animated = stored.format != "MPO" and getattr(stored, "n_frames", 1) > 1
        is_gray = stored.mode == "L" or _has_gray_palette(stored)
        if is_animated:
            stored.seek(page)
        ImageOps.exif_transpose(stored, in_place=True)
        picture: Image.Image = stored
        if stored.format == "GIF" and (is_animated or is_gray):
            # Programs sort the palette of a GIF by use, so the same gray has different indices in two files.
            picture = stored.convert("L" if is_gray else "RGB")
        elif not as_stored:
            picture = _convert_mode(stored)
        pixels = np.asarray(picture)
    if as_stored and read_png_header(content) in ((2, 0), (4, 0)):
        pixels = pixels // {2: 85, 4: 17}[content[24]]  # Pillow scales gray of 2 and 4 bits to 0..255
    return DecodedImage(pixels=add_channel_axis(pixels), alpha=picture.mode in ("RGBA", "LA"))


def _has_gray_palette(picture: Image.Image) -> bool:
    colors = np.array(picture.getpalette() or (), np.uint8).reshape(-1, 3)
    return picture.mode == "P" and bool((colors == colors[:, :1]).all())


def _convert_mode(picture: Image.Image) -> Image.Image:
    """Convert palettes, single bits and CMYK to gray or color."""
    if picture.mode == "P":
        return picture.convert("RGBA" if "transparency" in picture.info else "RGB")
    if picture.mode == "1":
        return picture.convert("L")
    return picture.convert("RGB") if picture.mode == "CMYK" else picture


def _decode_16_bit_png(content: bytes, page: int) -> DecodedImage:
    """Decode with imagecodecs: Pillow reduces 16-bit PNGs with color or alpha to 8 bits."""
    require_size(*struct.unpack_from(">2I", content, 16)[::-1])
    orientation = 1
    if b"eXIf" in content:
        with Image.open(io.BytesIO(_drop_png_text(content)), formats=("PNG",)) as header:
            orientation = header.getexif().get(ORIENTATION, 1)
    decoded = imagecodecs.apng_decode(content, index=page) if b"acTL" in content else imagecodecs.png_decode(content)
    pixels = add_channel_axis(decoded)
    return DecodedImage(pixels=apply_orientation(pixels, orientation), alpha=pixels.shape[2] in (2, 4))


def read_png_header(content: bytes) -> tuple[int, int]:
    """Return bit depth and color type of a PNG, or (0, 0) for other content."""
    return (content[24], content[25]) if content[:8] == PNG_MAGIC and len(content) > 25 else (0, 0)


def iterate_chunks(content: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Yield name, start and end of the data of each complete chunk of a PNG."""
    position = 8
    while position + 12 <= len(content):
        length, name = struct.unpack_from(">I4s", content, position)
        if position + 12 + length > len(content):
            return
        yield name, position + 8, position + 8 + length
        position += 12 + length


def _drop_png_text(content: bytes) -> bytes:
    """Return a PNG without text and color profile."""
    chunks = [
        content[start - 8 : end + 4]
        for name, start, end in iterate_chunks(content)
        if name not in (*_TEXT_CHUNKS, b"iCCP")
    ]
    return b"".join([PNG_MAGIC, *chunks])
