"""Decoding and encoding of image files: PNG, JPEG, BMP, WebP, TIFF and DICOM.

Images are (H, W, C) uint8, uint16 or float32; other real numbers become float32 without scaling. Masks are (H, W)
integers as stored (in a palette mask: the palette index), float64 if they contain fractions, or (H, W, 3) if they are
coded by color. Pixels that are NaN or the file's nodata value have no label: they are `NO_LABEL`, or NaN among
fractions. The EXIF rotation is applied to both.
"""

import io
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import numpy as np
import tifffile
from PIL import Image, ImageOps, UnidentifiedImageError

from pixelwise.data.io.decoded_image import (
    MAX_MASK_VALUE,
    NO_LABEL,
    ORIENTATION,
    add_channel_axis,
    apply_orientation,
    convert_dtype,
    require_size,
    too_large,
)
from pixelwise.data.io.decoded_image import Array as Array
from pixelwise.data.io.decoded_image import DecodedImage as DecodedImage
from pixelwise.data.io.tiff import TIFF_MAGIC, decode_tiff
from pixelwise.errors import DataError
from pixelwise.files import read_bytes, write_atomically
from pixelwise.shapes import Size

_T = TypeVar("_T")


IMAGE_EXTENSIONS = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".webp", ".dcm")

PNG_MAGIC = b"\x89PNG\r\n\x1a\n"
_PILLOW_FORMATS = ("PNG", "JPEG", "BMP", "WEBP", "TIFF")
_HEADER_FORMATS = ("PNG", "JPEG", "BMP", "WEBP")
"""Formats in which Pillow's header gives the decoded size; TIFF has too many variants."""


def read_image(path: Path, channels: int | None = None) -> Array:
    """Read an image file as (H, W, C) uint8, uint16 or float32.

    Args:
        path: The image file.
        channels: Expected number of channels, which decides whether an alpha channel is data.

    Returns:
        The pixels; missing values are replaced by the mean of their channel.

    Raises:
        PathNotFoundError, PathAccessError, DataError: The file does not exist, is not readable or is damaged.
    """
    return read_image_bytes(read_bytes(path), str(path), channels)


def decode_image(path: Path) -> DecodedImage:
    """Read an image file as stored, with alpha and missing data."""
    return decode_image_bytes(read_bytes(path), str(path))


def read_mask(path: Path) -> Array:
    """Read a mask file as (H, W) values or (H, W, 3) colors, as stored; `NO_LABEL` where it has no data."""
    return mark_unlabeled(read_mask_bytes(read_bytes(path), str(path)))


def read_size(path: Path) -> Size:
    """Return (height, width) as `read_image` gives them, from the header if possible."""
    return _convert_errors(read_bytes(path), str(path), _decode_size)


def read_image_bytes(content: bytes, name: str, channels: int | None = None) -> Array:
    """Decode an image as `read_image` does; errors call it `name`."""
    return _convert_errors(content, name, lambda content: _decode_image(content).fill_missing(channels)[0])


def decode_image_bytes(content: bytes, name: str) -> DecodedImage:
    """Decode an image as stored; errors call it `name`."""
    return _convert_errors(content, name, _decode_image)


def read_mask_bytes(content: bytes, name: str) -> Array:
    """Decode a mask, masked where the file declares missing data; errors call it `name`."""
    return _convert_errors(content, name, _decode_mask)


def mark_unlabeled(mask: Array, classes: Collection[int] = ()) -> Array:
    """Replace the masked values of a mask by `NO_LABEL`, except those that stand for classes."""
    if not isinstance(mask, np.ma.MaskedArray):
        return mask
    values = mask.data.astype(np.float64 if mask.dtype.kind == "f" else np.result_type(mask.dtype, np.int32))
    return np.where(np.ma.getmaskarray(mask) & ~np.isin(values, list(classes)), NO_LABEL, values)


def write_png(path: Path, pixels: Array, palette: Sequence[tuple[int, int, int]] = ()) -> None:
    """Write the output of `encode_png` atomically."""
    write_atomically(path, encode_png(pixels, palette))


def encode_png(pixels: Array, palette: Sequence[tuple[int, int, int]] = ()) -> bytes:
    """Encode (H, W) or (H, W, 3) uint8, or (H, W) uint16, as PNG; `palette` makes (H, W) uint8 a palette PNG."""
    picture = Image.fromarray(pixels)
    if palette:
        picture.putpalette([channel for color in palette for channel in color])
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", compress_level=4)
    return buffer.getvalue()


def _convert_errors(content: bytes, name: str, decode: Callable[[bytes], _T]) -> _T:
    """Turn all errors of decoders into DataError with the name of the file."""
    try:
        if not content:
            raise DataError("the file is empty. Replace or remove it.")
        return decode(content)
    except DataError as error:
        raise DataError(f"{name}: {error}") from error
    except Image.DecompressionBombError as error:
        raise DataError(f"{name}: {too_large()}") from error
    except UnidentifiedImageError as error:
        known = ", ".join(IMAGE_EXTENSIONS)
        raise DataError(f"{name}: is not an image of a known format ({known}). Replace or remove it.") from error
    except Exception as error:  # decoders raise errors of any type on damaged files
        plain = isinstance(error, OSError | tifffile.TiffFileError) and str(error)
        reason = f" ({error})" if plain else ""
        raise DataError(f"{name}: cannot be decoded{reason}. Replace or remove it.") from error


def _decode_size(content: bytes) -> Size:
    try:
        with Image.open(io.BytesIO(content), formats=_HEADER_FORMATS) as header:
            width, height = header.size
            transposed = header.getexif().get(ORIENTATION, 1) >= 5
    except UnidentifiedImageError:
        height, width = _decode_image(content).pixels.shape[:2]
        transposed = False
    return (width, height) if transposed else (height, width)


def _decode_image(content: bytes) -> DecodedImage:
    decoded = _decode(content, as_stored=False)
    return replace(decoded, pixels=convert_dtype(decoded.pixels))


def _decode_mask(content: bytes) -> Array:
    """Decode class ids of one channel or colors of three; masked where the file declares missing data."""
    decoded = _decode(content, as_stored=True)
    try:
        pixels = decoded.drop_alpha(None)
    except DataError as error:
        raise DataError("the mask's alpha channel varies. Save masks without alpha.") from error
    num_channels = pixels.shape[2]
    if num_channels not in (1, 3):
        raise DataError(f"the mask has {num_channels} channels. Save class ids in one channel.")
    missing = decoded.find_missing(None)[1]
    if pixels.dtype.kind == "f":
        unlabeled = np.isnan(pixels) if missing is None else np.isnan(pixels) | missing
        pixels = pixels.astype(np.float64)
        labeled = pixels[~unlabeled]
        _require_range(labeled, num_channels)
        if (labeled != np.rint(labeled)).any():
            return np.where(unlabeled, np.nan, pixels)[..., 0]
        pixels = np.where(np.abs(pixels) <= MAX_MASK_VALUE, pixels, NO_LABEL)
    else:
        _require_range(pixels if missing is None else pixels[~missing], num_channels)
    values = _shrink_dtype(pixels) if num_channels == 3 else _shrink_dtype(pixels[..., 0])
    return values if missing is None else np.ma.masked_array(values, missing.reshape(values.shape))


def _require_range(values: Array, num_channels: int) -> None:
    kind, lowest, highest = ("colors", 0, 255) if num_channels == 3 else ("class ids", -MAX_MASK_VALUE, MAX_MASK_VALUE)
    for extreme in (values.min(), values.max()) if values.size else ():
        if not lowest <= extreme <= highest:
            raise DataError(f"the mask contains {extreme}. Save {kind} between {lowest} and {highest}.")


def _shrink_dtype(values: Array) -> Array:
    """Return ids as the first of uint16, int32 and int64 that holds them, 8-bit ids and colors as uint8."""
    lowest, highest = values.min(), values.max()
    is_small = values.dtype in (np.bool_, np.uint8) or values.ndim == 3
    for limits in (np.iinfo(dtype) for dtype in ("u1", "u2", "i4", "i8")[not is_small :]):
        if limits.min <= lowest and highest <= limits.max:
            break
    return values.astype(limits.dtype, copy=False)


def _decode(content: bytes, *, as_stored: bool) -> DecodedImage:
    """Decode by the format; `as_stored` keeps the values of masks: palette indices and unscaled gray."""
    if content[:4] in TIFF_MAGIC:
        return decode_tiff(content, as_stored=as_stored)
    if content[128:132] == b"DICM":
        return _decode_dicom(content, as_stored=as_stored)
    if _read_png_header(content)[0] == 16:
        return _decode_16_bit_png(content)
    return _decode_with_pillow(content, as_stored=as_stored)


def _decode_with_pillow(content: bytes, *, as_stored: bool) -> DecodedImage:
    with Image.open(io.BytesIO(content), formats=_PILLOW_FORMATS) as stored:
        ImageOps.exif_transpose(stored, in_place=True)
        picture: Image.Image = stored if as_stored else _convert_mode(stored)
        pixels = np.asarray(picture)
    if as_stored and _read_png_header(content) in ((2, 0), (4, 0)):
        pixels = pixels // {2: 85, 4: 17}[content[24]]  # Pillow scales gray of 2 and 4 bits to 0..255
    return DecodedImage(pixels=add_channel_axis(pixels), alpha=picture.mode in ("RGBA", "LA"))


def _convert_mode(picture: Image.Image) -> Image.Image:
    """Convert palettes, single bits and CMYK to gray or color."""
    if picture.mode == "P":
        return picture.convert("RGBA" if "transparency" in picture.info else "RGB")
    if picture.mode == "1":
        return picture.convert("L")
    return picture.convert("RGB") if picture.mode == "CMYK" else picture


def _decode_16_bit_png(content: bytes) -> DecodedImage:
    """Decode with imagecodecs: Pillow reduces 16-bit PNGs with color or alpha to 8 bits."""
    import imagecodecs  # slow to import, and few datasets need it

    orientation = 1
    with Image.open(io.BytesIO(content), formats=("PNG",)) as header:  # raises for too many pixels
        if b"eXIf" in content:
            orientation = header.getexif().get(ORIENTATION, 1)
    pixels = add_channel_axis(imagecodecs.png_decode(content))
    return DecodedImage(pixels=apply_orientation(pixels, orientation), alpha=pixels.shape[2] in (2, 4))


def _decode_dicom(content: bytes, *, as_stored: bool) -> DecodedImage:
    """Decode a single frame; unless `as_stored`, in the units of its modality and in color.

    Rescale slope and intercept (or the modality's table) are applied wherever the file has them. The result is then
    float32 even if they change nothing, so that all files of a scanner have the same type.
    """
    try:
        from pydicom import dcmread
        from pydicom.pixels.processing import apply_color_lut, apply_modality_lut
        from pydicom.pixels.utils import pixel_array
    except ImportError as error:
        raise DataError('DICOM needs pydicom, which is not installed; pip install "pixelwise[dicom]"') from error
    dataset = dcmread(io.BytesIO(content))
    num_frames = int(dataset.get("NumberOfFrames") or 1)
    if num_frames > 1:
        raise DataError(f"the DICOM file contains {num_frames} frames. Save one frame per file.")
    require_size(int(dataset.Rows), int(dataset.Columns))
    pixels: Array = pixel_array(dataset)
    if not as_stored:
        if dataset.PhotometricInterpretation == "PALETTE COLOR":
            pixels = apply_color_lut(pixels, dataset)
        if dataset.PhotometricInterpretation == "MONOCHROME1":  # 0 is white
            highest = -1 if pixels.dtype.kind == "i" else 2 ** int(dataset.BitsStored) - 1
            pixels = (highest - pixels).astype(pixels.dtype)
        if "RescaleSlope" in dataset or "ModalityLUTSequence" in dataset:
            pixels = apply_modality_lut(pixels, dataset).astype(np.float32)
    return DecodedImage(pixels=add_channel_axis(pixels), alpha=False)


def _read_png_header(content: bytes) -> tuple[int, int]:
    """Return bit depth and color type of a PNG, or (0, 0) for other content."""
    return (content[24], content[25]) if content[:8] == PNG_MAGIC and len(content) > 25 else (0, 0)
