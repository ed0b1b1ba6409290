"""Decoding and encoding of image files, with the limits on what an image may be.

Images are (H, W, C) uint8, uint16 or float32: other real numbers come as float32, in their units.
Masks are (H, W) uint8 or uint16 as stored (of a palette mask: the palette index), or (H, W, 3) uint8
for masks coded by color. The EXIF rotation is applied to both.
"""

import io
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from pixelwise.data.io import dicom, tiff
from pixelwise.data.io.decoded import ORIENTATION, Array, Decoded, as_supported, oriented, too_large, with_channels
from pixelwise.errors import DataError
from pixelwise.files import write_atomically
from pixelwise.shapes import Size

__all__ = [
    "ENDINGS",
    "Array",
    "Decoded",
    "decode_image",
    "read_image",
    "read_mask",
    "write_png",
]

_T = TypeVar("_T")

ENDINGS = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".webp", dicom.ENDING)

_PNG_MAGIC = b"\x89PNG\r\n\x1a\n"
_PILLOW_FORMATS = ("PNG", "JPEG", "BMP", "WEBP", "TIFF")
_READ_BY_HEADER = ("PNG", "JPEG", "BMP", "WEBP")
"""Formats whose size Pillow tells as it is decoded here; the kinds of TIFF are too many."""


def read_image(path: Path, channels: int | None = None) -> Array:
    """An image file → (H, W, C) uint8, uint16 or float32. DataError names the file, the fault and the cure.

    Missing data is filled with the mean of its channel in the image (`Decoded.filled`).
    """
    return _read(path, lambda content: _decode_image(content).filled(channels)[0])


def decode_image(path: Path) -> Decoded:
    """An image file as stored, alpha and missing data included."""
    return _read(path, _decode_image)


def read_mask(path: Path) -> Array:
    """A mask file → (H, W) uint8 or uint16 as stored, or (H, W, 3) uint8."""
    return _read(path, _decode_mask)


def decode_image_bytes(content: bytes, name: str) -> Decoded:
    """The bytes of an image file as stored, alpha included; errors call them `name`."""
    return _decoded(content, name, _decode_image)


def read_image_bytes(content: bytes, name: str, channels: int | None = None) -> Array:
    """As `read_image`, of the bytes of an image file; errors call them `name`."""
    return _decoded(content, name, lambda found: _decode_image(found).filled(channels)[0])


def read_mask_bytes(content: bytes, name: str) -> Array:
    """The bytes of a mask file → (H, W) uint8 or uint16 as stored, or (H, W, 3) uint8."""
    return _decoded(content, name, _decode_mask)


def read_size(path: Path) -> Size:
    """(height, width) of an image file as `read_image` gives it, without decoding pixels where that is possible."""
    return _read(path, _size)


def write_png(path: Path, pixels: Array, palette: Sequence[tuple[int, int, int]] = ()) -> None:
    """Writes `encode_png`; the file appears complete or not at all."""
    write_atomically(path, encode_png(pixels, palette))


def encode_png(pixels: Array, palette: Sequence[tuple[int, int, int]] = ()) -> bytes:
    """(H, W) or (H, W, 3) uint8, or (H, W) uint16 → PNG; `palette` makes (H, W) a palette PNG."""
    picture = Image.fromarray(pixels)
    if palette:
        picture.putpalette([channel for color in palette for channel in color])
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", compress_level=4)
    return buffer.getvalue()


def _read(path: Path, decode: Callable[[bytes], _T]) -> _T:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); replace or remove it.") from error
    return _decoded(content, str(path), decode)


def _decoded(content: bytes, name: str, decode: Callable[[bytes], _T]) -> _T:
    """The one place where decoders' errors become ours, with the file's name."""
    try:
        if not content:
            raise DataError("the file is empty; replace or remove it.")
        return decode(content)
    except DataError as error:
        raise DataError(f"{name}: {error}") from error
    except Image.DecompressionBombError as error:
        raise DataError(f"{name}: {too_large()}") from error
    except UnidentifiedImageError as error:
        known = ", ".join(ENDINGS)
        raise DataError(f"{name}: is no image of a known format ({known}); replace or remove it.") from error
    except Exception as error:  # decoders raise whatever the broken bytes lead them to
        reason = str(error) or type(error).__name__
        raise DataError(f"{name}: cannot be decoded ({reason}); replace or remove it.") from error


def _size(content: bytes) -> Size:
    try:
        with Image.open(io.BytesIO(content), formats=_READ_BY_HEADER) as header:
            width, height = header.size
            turned = header.getexif().get(ORIENTATION, 1) >= 5
    except UnidentifiedImageError:
        height, width = _decode_image(content).pixels.shape[:2]
        turned = False
    return (width, height) if turned else (height, width)


def _decode_image(content: bytes) -> Decoded:
    decoded = _decode(content, as_stored=False)
    return replace(decoded, pixels=as_supported(decoded.pixels))


def _decode_mask(content: bytes) -> Array:
    decoded = _decode(content, as_stored=True)
    if decoded.alpha:
        try:
            return _as_mask(decoded.without_alpha(None))
        except DataError as error:
            raise DataError("the mask's alpha channel varies; save masks without alpha.") from error
    return _as_mask(decoded.pixels)


def _decode(content: bytes, *, as_stored: bool) -> Decoded:
    """Stored values are those of a mask: palette indices, and gray below 8 bit not stretched."""
    if content[:4] in tiff.MAGIC:
        return tiff.decode_tiff(content, as_stored=as_stored)
    if dicom.is_dicom(content):
        return dicom.decode_dicom(content, as_stored=as_stored)
    if _png_header(content)[0] == 16:
        return _decode_deep_png(content)
    return _decode_with_pillow(content, as_stored)


def _decode_with_pillow(content: bytes, as_stored: bool) -> Decoded:
    with Image.open(io.BytesIO(content), formats=_PILLOW_FORMATS) as stored:
        ImageOps.exif_transpose(stored, in_place=True)
        picture: Image.Image = stored if as_stored else _unpacked(stored)
        pixels = np.asarray(picture)
    if as_stored and _png_header(content) in ((2, 0), (4, 0)):
        pixels = pixels // {2: 85, 4: 17}[content[24]]  # Pillow stretches shallow gray to 0..255
    return Decoded(pixels=with_channels(pixels), alpha=picture.mode in ("RGBA", "LA"))


def _unpacked(picture: Image.Image) -> Image.Image:
    """Palettes, single bits and printing inks as gray or color."""
    if picture.mode == "P":
        return picture.convert("RGBA" if "transparency" in picture.info else "RGB")
    if picture.mode == "1":
        return picture.convert("L")
    return picture.convert("RGB") if picture.mode == "CMYK" else picture


def _decode_deep_png(content: bytes) -> Decoded:
    """Every PNG of 16 bit: Pillow would cut those with color or alpha to 8 bit."""
    import imagecodecs  # takes a while to start, and few datasets need it

    orientation = 1
    with Image.open(io.BytesIO(content), formats=("PNG",)) as header:  # refuses absurd sizes
        if b"eXIf" in content:
            orientation = header.getexif().get(ORIENTATION, 1)
    pixels = with_channels(imagecodecs.png_decode(content))
    return Decoded(pixels=oriented(pixels, orientation), alpha=pixels.shape[2] in (2, 4))


def _as_mask(pixels: Array) -> Array:
    if pixels.shape[2] not in (1, 3):
        raise DataError(f"the mask has {pixels.shape[2]} channels; save class ids in one channel.")
    if pixels.dtype.kind == "f" and not (pixels == np.rint(pixels)).all():
        raise DataError("the mask holds fractions; save class ids as 8 or 16 bit integers.")
    top = 255 if pixels.shape[2] == 3 else 65535
    for extreme in (pixels.min(), pixels.max()):
        if not 0 <= extreme <= top:
            kind = "colors" if pixels.shape[2] == 3 else "class ids"
            raise DataError(f"the mask holds {extreme}; {kind} must lie between 0 and {top}.")
    if pixels.shape[2] == 3:
        return pixels.astype(np.uint8, copy=False)
    small = pixels.dtype in (np.bool_, np.uint8)
    return pixels[..., 0].astype(np.uint8 if small else np.uint16, copy=False)


def _png_header(content: bytes) -> tuple[int, int]:
    """Bit depth and color type of a PNG; (0, 0) of anything else."""
    return (content[24], content[25]) if content[:8] == _PNG_MAGIC and len(content) > 25 else (0, 0)
