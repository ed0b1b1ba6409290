"""Decoding of arrays: NumPy's .npy and .npz, and MATLAB's .mat. Nothing is unpickled.

An array is an image (H, W) or (H, W, C), or a stack of images (N, H, W) or (N, H, W, C). The last axis holds channels
if it is the shortest.
"""

import io
import zipfile
import zlib
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO

import numpy as np
from numpy.lib import format as npy

from pixelwise.data.io.decoded_image import Array, DecodedImage, add_channel_axis, require_size
from pixelwise.errors import DataError

MAX_ARRAY_BYTES = 2**31
"""Largest array in a compressed file, which can claim any size."""

Shape = tuple[int, ...]


def find_axes(shape: Shape) -> str:
    """Return the axes of an array as in TIFF: Y and X, S for channels, Q for the images of a stack.

    Raises:
        DataError: The array is not an image.
    """
    has_channels = len(shape) > 2 and shape[-1] < min(shape[-3:-1])
    axes = {(2, False): "YX", (3, True): "YXS", (3, False): "QYX", (4, True): "QYXS"}.get((len(shape), has_channels))
    if axes is None or not all(shape):
        sides = "x".join(map(str, shape)) or "a single number"
        raise DataError(
            f"The array ({sides}) is not an image. Save it as height x width, or height x width x channels."
        )
    require_size(shape[axes.index("Y")], shape[axes.index("X")])
    return axes


def count_npy_images(file: BinaryIO) -> int:
    """Count the images of a .npy file by its header."""
    return _count_images(_read_npy_header(file)[0])


def decode_npy(file: BinaryIO, *, page: int | None, as_stored: bool) -> DecodedImage:
    """Decode a .npy file; of a stack only the image is read."""
    shape, fortran_order, dtype = _read_npy_header(file)
    if page is None or fortran_order:
        return _make_image(_read_npy_data(file, shape, fortran_order, dtype), page, as_stored)
    file.seek(page * int(np.prod(shape[1:])) * dtype.itemsize, io.SEEK_CUR)
    return _make_image(_read_npy_data(file, shape[1:], False, dtype)[None], 0, as_stored)


def count_npz_images(file: BinaryIO) -> int:
    """Count the images of the array in a .npz file by its header."""
    with _open_npz(file) as member:
        return _count_images(_read_npy_header(member)[0])


def decode_npz(file: BinaryIO, *, page: int | None, as_stored: bool) -> DecodedImage:
    """Decode the only array of a .npz file."""
    with _open_npz(file) as member:
        header = _read_npy_header(member)
        _require_bytes(header[0], header[2])
        return _make_image(_read_npy_data(member, *header), page, as_stored)


def count_mat_images(file: BinaryIO) -> int:
    """Count the images of the array in a .mat file."""
    return _count_images(_read_mat(file).shape)


def decode_mat(file: BinaryIO, *, page: int | None, as_stored: bool) -> DecodedImage:
    """Decode the only image among the variables of a .mat file."""
    return _make_image(_read_mat(file), page, as_stored)


def _count_images(shape: Shape) -> int:
    return shape[0] if find_axes(shape).startswith("Q") else 1


def _make_image(array: Array, page: int | None, as_stored: bool) -> DecodedImage:
    find_axes(array.shape)
    pixels = array if page is None else array[page]
    if pixels.dtype.kind not in "biuf":
        raise DataError(f"The array holds {pixels.dtype}. Save numbers.")
    if pixels.dtype.kind == "b" and not as_stored:
        pixels = pixels.astype(np.uint8) * 255
    native = pixels.astype(pixels.dtype.newbyteorder("="), order="C", copy=False)
    return DecodedImage(pixels=add_channel_axis(native), alpha=False)


def _read_npy_header(file: Any) -> tuple[Shape, bool, np.dtype[Any]]:
    """Read the header as far as the data: shape, Fortran order and type."""
    version = npy.read_magic(file)
    read: Callable[[Any], Any] = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
    shape, fortran_order, dtype = read(file)
    if dtype.hasobject:
        raise DataError("It holds Python objects, which are not read because they could run code. Save numbers.")
    find_axes(shape)
    return shape, fortran_order, dtype


def _read_npy_data(file: Any, shape: Shape, fortran_order: bool, dtype: np.dtype[Any]) -> Array:
    num_bytes = int(np.prod(shape)) * dtype.itemsize
    content = file.read(num_bytes)
    if len(content) < num_bytes:
        raise DataError(f"{num_bytes - len(content):,} bytes are missing at its end. Copy it again.")
    return np.frombuffer(content, dtype).reshape(shape, order="F" if fortran_order else "C")


def _open_npz(file: BinaryIO) -> Any:
    """Open the only array of an archive; nothing is unpacked to disk."""
    archive = zipfile.ZipFile(file)
    names = archive.namelist()
    if len(names) != 1 or not names[0].endswith(".npy"):
        found = ", ".join(name.removesuffix(".npy") for name in names[:4]) or "nothing"
        raise DataError(f"It holds {len(names)} arrays ({found}). Save one array per file.")
    return archive.open(names[0])


def _require_bytes(shape: Shape, dtype: np.dtype[Any]) -> None:
    if int(np.prod(shape)) * dtype.itemsize > MAX_ARRAY_BYTES:
        raise DataError(f"The array has more than {MAX_ARRAY_BYTES >> 30} GB. Save its images as single files.")


def _read_mat(file: BinaryIO) -> Array:
    """Read the only variable that can be an image; of a structure, the only such field."""
    is_hdf5 = file.read(10) == b"MATLAB 7.3"
    file.seek(0)
    arrays = dict(_read_hdf5(file) if is_hdf5 else _read_mat_5(file))
    if len(arrays) != 1:
        found = ", ".join(arrays) or "none"
        raise DataError(
            f"One variable must be an image, but {len(arrays)} could be ({found}). Save one image per file."
        )
    return next(iter(arrays.values()))


def _read_mat_5(file: BinaryIO) -> Iterator[tuple[str, Array]]:
    from scipy.io import loadmat

    content = file.read()
    _require_small_mat(content)
    for name, value in loadmat(io.BytesIO(content), chars_as_strings=False).items():
        if not name.startswith("__"):
            yield from _find_images(name, value)


def _find_images(name: str, value: Any) -> Iterator[tuple[str, Array]]:
    """Yield the arrays of numbers with at least two rows and columns in a variable and its fields."""
    if not isinstance(value, np.ndarray):
        return
    if value.dtype.names and value.size == 1:
        for field in value.dtype.names:
            yield from _find_images(f"{name}.{field}", value.item()[value.dtype.names.index(field)])
    elif value.dtype.kind in "biuf" and _is_image_shape(value.shape):
        yield name, value


def _is_image_shape(shape: Shape) -> bool:
    return len(shape) > 1 and min(shape[:2]) > 1


def _require_small_mat(content: bytes) -> None:
    """Raise DataError if the variables of a version 5 file have more than `MAX_ARRAY_BYTES` in total."""
    order = ">" if content[126:128] == b"MI" else "<"
    position, total = 128, 0
    while position + 8 <= len(content):
        kind, size = np.frombuffer(content, f"{order}u4", 2, position).tolist()
        element = content[position + 8 : position + 8 + size]
        decompress = zlib.decompressobj()
        while kind == 15 and element and total <= MAX_ARRAY_BYTES:  # 15: a compressed variable
            total += len(decompress.decompress(element, 1 << 24))
            element = decompress.unconsumed_tail
        position += 8 + size
    if total > MAX_ARRAY_BYTES:
        raise DataError(f"Its variables have more than {MAX_ARRAY_BYTES >> 30} GB. Save single images.")


def _read_hdf5(file: BinaryIO) -> Iterator[tuple[str, Array]]:
    """Yield the variables of a version 7.3 file that can be images; links to other files are not followed."""
    try:
        import h5py
    except ImportError as error:
        raise DataError(
            'MATLAB 7.3 needs h5py, which is not installed. Install it: pip install "pixelwise[mat]".'
        ) from error
    with h5py.File(file, "r") as hdf5:
        for name in hdf5:
            value: Any = hdf5[name] if isinstance(hdf5.get(name, getlink=True), h5py.HardLink) else None
            if not isinstance(value, h5py.Dataset) or value.external or value.is_virtual:
                continue
            if value.dtype.kind in "biuf" and _is_image_shape(value.shape[::-1]):
                _require_bytes(value.shape, value.dtype)
                array = value[()].T  # MATLAB stores columns first
                yield name, array.astype(bool) if value.attrs.get("MATLAB_class") == b"logical" else array
