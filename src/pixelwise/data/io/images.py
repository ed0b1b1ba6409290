"""Decoding and encoding of image files. `FILE_TYPES` lists what can be read.

Images are (H, W, C) uint8, uint16 or float32; other real numbers become float32 without scaling. Masks are (H, W)
integers as stored (in a palette mask: the palette index), float64 if they contain fractions, or (H, W, 3) if they are
coded by color. Pixels that are NaN, infinite, -3.4e38 or the file's nodata value have no label: they are `NO_LABEL`, or
NaN among fractions. The EXIF rotation is applied to both.

A stack is a file of several images, its pages: a TIFF of several pages, an animation, a volume.
"""

import io
import struct
import zlib
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path
from typing import BinaryIO, TypeVar

import imagecodecs
import numpy as np
import tifffile
from PIL import Image, UnidentifiedImageError

from pixelwise.data.io import arrays, dicom, pictures, tiff
from pixelwise.data.io.decoded_image import MAX_MASK_VALUE, NO_LABEL, convert_dtype, merge_masks, too_large
from pixelwise.data.io.decoded_image import Array as Array
from pixelwise.data.io.decoded_image import DecodedImage as DecodedImage
from pixelwise.errors import DataError, describe_cause
from pixelwise.files import READ_ERRORS, wrap_access_errors, write_atomically
from pixelwise.shapes import Size

_T = TypeVar("_T")

HEAD_BYTES = 132
"""Number of bytes at the start of a file by which its type is recognized."""

StackAxes = tuple[tuple[str, int], ...]
"""Letter, as in TIFF, and length of each axis along which the pages of a stack are numbered; () for a single image."""

UNNAMED_AXES = "IQ"
"""Axes of which a file says nothing: their images may also be the channels of one image."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FileType:
    """A type of image files; a row of `FILE_TYPES`."""

    name: str
    extensions: tuple[str, ...]
    package: str
    """Package that decodes it."""
    extra: str = ""
    """The extra of Pixelwise that installs the package."""
    matches: Callable[[bytes], bool]
    """Return whether a file has this type, by its first `HEAD_BYTES` bytes."""
    decode: Callable[..., DecodedImage] = pictures.decode_picture
    """Decode a page of an open file: `decode(file, *, page: int | None, as_stored: bool)`."""
    find_axes: Callable[[BinaryIO], StackAxes] | None = None
    """Find the axes of a stack; None for types without stacks."""
    has_header_size: bool = False
    """True if `pictures.read_picture_size` can read the size."""


_PNG_KINDS, _PNG_PALETTE = {(): 0, (3,): 2, (4,): 6}, 3
_PNG_FILTER_UP = 2
_PNG_LEVEL = 1
"""libdeflate's fastest level; level 6 takes three times the time for 9 % smaller photographs."""


def _starts_with(*magic: bytes) -> Callable[[bytes], bool]:
    return lambda head: head.startswith(magic)


def _has_brand(*brands: bytes) -> Callable[[bytes], bool]:
    """Match files of boxes, as HEIC and AVIF are, by their brands."""
    return lambda head: head[4:8] == b"ftyp" and any(head[at : at + 4] in brands for at in (8, *range(16, 32, 4)))


def _count_along(axis: str, count: Callable[[BinaryIO], int]) -> Callable[[BinaryIO], StackAxes]:
    def find_axes(file: BinaryIO) -> StackAxes:
        number = count(file)
        return ((axis, number),) if number > 1 else ()

    return find_axes


_find_frames = _count_along("T", pictures.count_pictures)

FILE_TYPES = (
    FileType(
        name="PNG",
        extensions=(".png", ".apng"),
        package="Pillow, imagecodecs",
        matches=_starts_with(pictures.PNG_MAGIC),
        find_axes=_find_frames,
        has_header_size=True,
    ),
    FileType(
        name="JPEG",
        extensions=(".jpg", ".jpeg", ".jfif", ".jpe"),
        package="Pillow, imagecodecs",
        matches=_starts_with(b"\xff\xd8\xff"),
        has_header_size=True,
    ),
    FileType(
        name="TIFF",
        extensions=(".tif", ".tiff"),
        package="tifffile",
        matches=_starts_with(*tiff.TIFF_MAGIC),
        decode=tiff.decode_tiff,
        find_axes=tiff.find_stack_axes,
    ),
    FileType(
        name="BMP",
        extensions=(".bmp", ".dib"),
        package="Pillow",
        matches=_starts_with(b"BM"),
        has_header_size=True,
    ),
    FileType(
        name="WebP",
        extensions=(".webp",),
        package="Pillow",
        matches=lambda head: head[:4] == b"RIFF" and head[8:12] == b"WEBP",
        find_axes=_find_frames,
        has_header_size=True,
    ),
    FileType(
        name="GIF",
        extensions=(".gif",),
        package="Pillow",
        matches=_starts_with(b"GIF87a", b"GIF89a"),
        find_axes=_find_frames,
        has_header_size=True,
    ),
    FileType(
        name="AVIF",
        extensions=(".avif",),
        package="Pillow",
        matches=_has_brand(b"avif", b"avis"),
        find_axes=_find_frames,
        has_header_size=True,
    ),
    FileType(
        name="HEIC",
        extensions=(".heic", ".heif", ".hif"),
        package="pillow-heif",
        extra="heic",
        matches=_has_brand(b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"),
        decode=pictures.decode_heif,
    ),
    FileType(
        name="PNM",
        extensions=(".pgm", ".ppm", ".pnm", ".pbm"),
        package="NumPy, Pillow",
        matches=lambda head: head[:1] == b"P" and head[1:2] in b"123456" and head[2:3].isspace(),
        decode=pictures.decode_netpbm,
    ),
    FileType(
        name="JPEG 2000",
        extensions=(".jp2", ".j2k"),
        package="imagecodecs",
        matches=_starts_with(b"\0\0\0\x0cjP  ", pictures.JPEG_2000_CODESTREAM),
        decode=pictures.decode_jpeg_2000,
    ),
    FileType(
        name="DICOM",
        extensions=(".dcm",),
        package="pydicom",
        extra="dicom",
        matches=lambda head: head[128:132] == b"DICM",
        decode=dicom.decode_dicom,
        find_axes=_count_along("Z", dicom.count_frames),
    ),
    FileType(
        name="NumPy",
        extensions=(".npy",),
        package="NumPy",
        matches=_starts_with(b"\x93NUMPY"),
        decode=arrays.decode_npy,
        find_axes=_count_along("Q", arrays.count_npy_images),
    ),
    FileType(
        name="NumPy archive",
        extensions=(".npz",),
        package="NumPy",
        matches=_starts_with(b"PK\3\4"),
        decode=arrays.decode_npz,
        find_axes=_count_along("Q", arrays.count_npz_images),
    ),
    FileType(
        name="MATLAB",
        extensions=(".mat",),
        package="SciPy; version 7.3: h5py",
        extra="mat (version 7.3)",
        matches=_starts_with(b"MATLAB 5.0 MAT-file", b"MATLAB 7.3 MAT-file"),
        decode=arrays.decode_mat,
        find_axes=_count_along("Q", arrays.count_mat_images),
    ),
)
"""Every type of image that is decoded as a whole. The type of a file follows from its content, not from its name.

`data.rasters` reads further types window by window, and `io.video` reads videos.
"""

IMAGE_EXTENSIONS = tuple(extension for kind in FILE_TYPES for extension in kind.extensions)
TYPE_NAMES = ", ".join(kind.name for kind in FILE_TYPES)
"""The types, for messages."""


def find_file_type(head: bytes) -> FileType | None:
    """Return the type of a file by its first bytes; None for content that is not read."""
    return next((kind for kind in FILE_TYPES if kind.matches(head)), None)


def read_image(path: Path, channels: int | None = None, page: int | None = None) -> Array:
    """Read an image file as (H, W, C) uint8, uint16 or float32.

    Args:
        path: The image file.
        channels: Expected number of channels, which decides whether an alpha channel is data.
        page: Number of the image in a stack, from 0.

    Returns:
        The pixels; missing values are replaced by the mean of their channel.

    Raises:
        PathNotFoundError, PathAccessError, DataError: The file does not exist, is not readable or is damaged.
    """
    decoded = decode_image(path, channels, page)
    try:
        return decoded.fill_missing(channels)[0]
    except DataError as error:
        raise DataError(f"{path}: {error}") from error


def decode_image(path: Path, channels: int | None = None, page: int | None = None) -> DecodedImage:
    """Read an image file as stored, with alpha and missing data."""
    decoded = _read_file(path, lambda file: _decode_image(file, channels, page))
    return decoded if page is not None else add_mask_file(decoded, path)


def add_mask_file(decoded: DecodedImage, path: Path) -> DecodedImage:
    """Return an image with the mask that GDAL stores next to its file, such as a.tif.msk, if there is one."""
    mask_path = path.with_name(f"{path.name}.msk")
    if not mask_path.is_file():
        return decoded
    masked = _read_file(mask_path, _decode_image).pixels[..., :1] == 0
    if masked.shape[:2] != decoded.pixels.shape[:2]:
        raise DataError(f"{mask_path}: The size differs from that of {path.name}. Remove it, or write it again.")
    return replace(decoded, masked=merge_masks(decoded.masked, masked))


def read_mask(path: Path, page: int | None = None) -> Array:
    """Read a mask file as (H, W) values or (H, W, 3) colors, as stored; `NO_LABEL` where it has no data."""
    return mark_unlabeled(decode_mask(path, page))


def decode_mask(path: Path, page: int | None = None) -> Array:
    """Read a mask file, masked where the file declares missing data."""
    return _read_file(path, lambda file: _decode_mask(file, page))


def read_size(path: Path) -> Size:
    """Return (height, width) as `read_image` gives them, from the header if possible."""
    return _read_file(path, _decode_size)


def find_stack_axes(path: Path) -> StackAxes:
    """Find the axes of the pages of a file, mostly from its header; () for a file that cannot be read."""
    kind = _TYPE_OF_EXTENSION.get(path.suffix.lower())
    if kind is None or kind.find_axes is None:
        return ()
    try:
        return _read_file(path, _find_axes)
    except READ_ERRORS:  # reported where it is read
        return ()


def read_image_bytes(content: bytes, name: str, channels: int | None = None) -> Array:
    """Decode an image as `read_image` does; errors call it `name`."""
    return _convert_errors(io.BytesIO(content), name, lambda file: _decode_image(file).fill_missing(channels)[0])


def decode_image_bytes(content: bytes, name: str) -> DecodedImage:
    """Decode an image as stored; errors call it `name`."""
    return _convert_errors(io.BytesIO(content), name, _decode_image)


def read_mask_bytes(content: bytes, name: str) -> Array:
    """Decode a mask as `decode_mask` does; errors call it `name`."""
    return _convert_errors(io.BytesIO(content), name, _decode_mask)


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
    """Encode (H, W), (H, W, 3) or (H, W, 4) uint8 or uint16 as PNG; `palette` makes (H, W) uint8 a palette PNG.

    Each row is stored as its difference from the row above, which libdeflate compresses. A photograph of 360x480 takes
    2.7 ms, with Pillow 12 to 44 ms at the same size.
    """
    height, width = pixels.shape[:2]
    rows = np.ascontiguousarray(pixels, pixels.dtype.newbyteorder(">")).view(np.uint8).reshape(height, -1)
    filtered = np.empty((height, 1 + rows.shape[1]), np.uint8)
    filtered[:, 0] = _PNG_FILTER_UP
    filtered[0, 1:] = rows[0]
    np.subtract(rows[1:], rows[:-1], out=filtered[1:, 1:])
    kind = _PNG_PALETTE if palette else _PNG_KINDS[pixels.shape[2:]]
    chunks = {b"IHDR": struct.pack(">IIBBBBB", width, height, 8 * pixels.itemsize, kind, 0, 0, 0)}
    if palette:
        chunks[b"PLTE"] = bytes(channel for color in palette for channel in color)
    chunks |= {b"IDAT": bytes(imagecodecs.deflate_encode(filtered.tobytes(), _PNG_LEVEL, raw=False)), b"IEND": b""}
    parts = (
        struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(content, zlib.crc32(name)))
        for name, content in chunks.items()
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def _read_file(path: Path, decode: Callable[[BinaryIO], _T]) -> _T:
    with wrap_access_errors(path):
        file = path.open("rb")
    with file:
        return _convert_errors(file, str(path), decode)


def _convert_errors(file: BinaryIO, name: str, decode: Callable[[BinaryIO], _T]) -> _T:
    """Turn all errors of decoders into DataError with the name of the file."""
    try:
        return decode(file)
    except DataError as error:
        raise DataError(f"{name}: {error}") from error
    except Image.DecompressionBombError as error:
        raise DataError(f"{name}: {too_large()}") from error
    except Exception as error:  # decoders raise errors of any type on damaged files
        plain = isinstance(error, OSError | tifffile.TiffFileError) and str(error)
        reason = f" ({describe_cause(error)})" if plain and not isinstance(error, UnidentifiedImageError) else ""
        raise DataError(f"{name}: The file cannot be decoded{reason}. Replace or remove it.") from error


def _detect(file: BinaryIO) -> FileType:
    """Return the type of a file, which is left at its start."""
    head = file.read(HEAD_BYTES)
    file.seek(0)
    if not head:
        raise DataError("The file is empty. Replace or remove it.")
    kind = find_file_type(head)
    if kind is None:
        raise DataError(f"The file is not an image of a known format ({TYPE_NAMES}). Replace or remove it.")
    return kind


def _find_axes(file: BinaryIO) -> StackAxes:
    kind = _detect(file)
    axes = kind.find_axes(file) if kind.find_axes else ()
    file.seek(0)
    return axes


def _decode_size(file: BinaryIO) -> Size:
    if _detect(file).has_header_size:
        return pictures.read_picture_size(file.read())
    height, width = _decode_image(file).pixels.shape[:2]
    return height, width


def _decode_image(file: BinaryIO, channels: int | None = None, page: int | None = None) -> DecodedImage:
    decoded = _decode(file, channels=channels, page=page, as_stored=False)
    return replace(decoded, pixels=convert_dtype(decoded.pixels))


def _decode_mask(file: BinaryIO, page: int | None = None) -> Array:
    """Decode class ids of one channel or colors of three; masked where the file declares missing data."""
    decoded = _decode(file, page=page, as_stored=True)
    try:
        pixels = decoded.drop_alpha(None)
    except DataError as error:
        raise DataError("The mask's alpha channel varies. Save masks without alpha.") from error
    num_channels = pixels.shape[2]
    if num_channels not in (1, 3):
        raise DataError(f"The mask has {num_channels} channels. Save class ids in one channel.")
    missing = decoded.find_missing(None)[1]
    if pixels.dtype.kind == "f":
        pixels = pixels.astype(np.float64)
        is_id = np.abs(pixels) <= MAX_MASK_VALUE  # not NaN, nor -3.4e38, which marks missing data
        pixels = np.where(is_id, pixels, NO_LABEL)
        labeled = pixels[is_id if missing is None else is_id & ~missing]
        if num_channels == 1 and (labeled != np.rint(labeled)).any():
            return np.where(is_id if missing is None else is_id & ~missing, pixels, np.nan)[..., 0]
    else:
        labeled = pixels if missing is None else pixels[~missing]
    _require_range(labeled, num_channels)
    values = _shrink_dtype(pixels) if num_channels == 3 else _shrink_dtype(pixels[..., 0])
    return values if missing is None else np.ma.masked_array(values, missing.reshape(values.shape))


def _require_range(values: Array, num_channels: int) -> None:
    kind, lowest, highest = ("colors", 0, 255) if num_channels == 3 else ("class ids", -MAX_MASK_VALUE, MAX_MASK_VALUE)
    for extreme in (values.min(), values.max()) if values.size else ():
        if not lowest <= extreme <= highest:
            raise DataError(f"The mask contains {extreme}. Save {kind} between {lowest} and {highest}.")


def _shrink_dtype(values: Array) -> Array:
    """Return ids as the first of uint16, int32 and int64 that holds them, 8-bit ids and colors as uint8."""
    lowest, highest = values.min(), values.max()
    is_small = values.dtype in (np.bool_, np.uint8) or values.ndim == 3
    for limits in (np.iinfo(dtype) for dtype in ("u1", "u2", "i4", "i8")[not is_small :]):
        if limits.min <= lowest and highest <= limits.max:
            break
    return values.astype(limits.dtype, copy=False)


def _decode(file: BinaryIO, *, channels: int | None = None, page: int | None = None, as_stored: bool) -> DecodedImage:
    """Decode by the content; `as_stored` keeps the values of masks: palette indices and unscaled gray.

    Without a `page`, a stack is an error, unless its pages are the `channels` of one image.
    """
    kind = _detect(file)
    axes = _find_axes(file)
    if page is not None or not axes:
        return kind.decode(file, page=page if axes else None, as_stored=as_stored)
    if not are_channels(axes, channels):
        raise DataError(describe_stack(axes))
    pages = []
    for number in range(axes[0][1]):
        file.seek(0)
        pages.append(kind.decode(file, page=number, as_stored=as_stored))
    return replace(pages[0], pixels=np.concatenate([page.pixels for page in pages], axis=2))


def are_channels(axes: StackAxes, channels: int | None) -> bool:
    """Return whether the pages of a stack are the expected channels of one image."""
    return len(axes) == 1 and axes[0][0] in UNNAMED_AXES and axes[0][1] == channels


def describe_stack(axes: StackAxes) -> str:
    """Return what is wrong with a stack where one image is expected."""
    number, names = prod(size for _, size in axes), "".join(name for name, _ in axes)
    problem = f"The file is a stack of {number} images (axes {names}YX), but one is expected. Save one image per file"
    if len(axes) == 1 and names in UNNAMED_AXES:
        problem += (
            f", or write 'channels: {number}' into dataset.yaml (create it if there is none) if they are its channels"
        )
    return f"{problem}. A dataset may pair stacks of the same length."


_TYPE_OF_EXTENSION = {extension: kind for kind in FILE_TYPES for extension in kind.extensions}
