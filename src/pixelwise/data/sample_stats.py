"""Statistics of one image and its mask, by which a sample is compared with the rest of its dataset.

They are small and cheap compared with decoding: those of 10,000 samples must fit in memory.
"""

import hashlib
from dataclasses import dataclass, field

import cv2
import numpy as np

from pixelwise.data.io.file_info import FileInfo
from pixelwise.data.io.images import Array
from pixelwise.data.sample import Sample
from pixelwise.shapes import Size

THUMBNAIL_SIDE = 32
"""Rows and columns of the gray thumbnail by which images are compared."""
COLOR_MAP_SIDE = 8
"""Rows and columns of the map of red minus blue."""
_MAX_SAMPLED_SIDE = 64
"""Largest number of rows and of columns from which the mean gray of a class is estimated."""


@dataclass(slots=True, kw_only=True)
class SampleStats:
    """Measurements of one sample by a scan; fields of unreadable files keep their defaults."""

    sample: Sample
    image_file: FileInfo = field(default_factory=FileInfo)
    mask_file: FileInfo = field(default_factory=FileInfo)
    image_error: str | None = None
    mask_error: str | None = None

    size: Size | None = None
    channels: int = 0
    dtype: str = ""
    alpha_dropped: bool = False
    is_constant: bool = False
    num_nonfinite: int = 0
    """Number of NaN and infinite values of the image."""
    num_valid: Array = field(default_factory=lambda: np.zeros(0))
    """(C,) float64 number of values that are not missing."""
    mean: Array = field(default_factory=lambda: np.zeros(0))
    """(C,) float64 mean of the valid values in raw units; 0 where there are none."""
    square_mean: Array = field(default_factory=lambda: np.zeros(0))
    """(C,) float64 mean of the squares of the valid values; 0 where there are none."""
    image_fingerprint: bytes = b""
    """Hash of the pixels, their dtype and their shape."""
    thumbnail: Array = field(default_factory=lambda: np.zeros(0, np.float16))
    """(THUMBNAIL_SIDE²,) float16 gray with mean 0 and norm 1; zeros for a constant image."""
    red_minus_blue: Array = field(default_factory=lambda: np.zeros(0, np.float32))
    """(COLOR_MAP_SIDE²,) float32 in raw units; empty unless the image has three channels."""

    mask_size: Size | None = None
    value_counts: dict[int, int] = field(default_factory=dict)
    """Mask value → number of pixels where the image has data; 0 for a value that only occurs where it has none."""
    mask_fingerprint: bytes = b""
    between_counts: dict[int, int] = field(default_factory=dict)
    """Mask value → number of its pixels that have both a smaller and a larger value among their neighbors."""
    color_counts: dict[int, int] = field(default_factory=dict)
    """Packed color → number of pixels, for a color mask where class indices are expected."""
    mean_gray: dict[int, float] = field(default_factory=dict)
    """Mask value → mean of the image under it; only for masks of two values."""


def compute_fingerprint(pixels: Array) -> bytes:
    """Compute a 16-byte hash of an array's values, dtype and shape."""
    digest = hashlib.blake2b(f"{pixels.shape} {pixels.dtype}".encode(), digest_size=16)
    digest.update(np.ascontiguousarray(pixels).data)
    return digest.digest()


def compute_thumbnails(pixels: Array) -> tuple[Array, Array]:
    """Compute the gray thumbnail and the map of red minus blue of a finite image (H, W, C).

    Returns:
        The values of `SampleStats.thumbnail` and `SampleStats.red_minus_blue`.
    """
    small = _shrink(pixels, THUMBNAIL_SIDE)
    color_map = np.zeros(0, np.float32)
    if pixels.shape[2] == 3:
        tiny = _shrink(small, COLOR_MAP_SIDE)
        color_map = (tiny[..., 0] - tiny[..., 2]).ravel()
    gray = small.mean(2).ravel()
    gray -= gray.mean()
    norm = np.linalg.norm(gray)
    return np.asarray(gray / norm if norm > 1e-6 else np.zeros_like(gray), np.float16), color_map


def count_values(values: Array) -> dict[int, int]:
    """Count the pixels of each value, in ascending order of the values.

    Above 8 bits it counts runs instead of pixels: masks consist of long runs of one value.
    """
    flat = values.ravel()
    if flat.dtype == np.uint8:
        counts = np.bincount(flat)
        return {int(v): int(counts[v]) for v in np.flatnonzero(counts)}
    starts = np.flatnonzero(np.concatenate([[True], flat[1:] != flat[:-1]]))
    lengths = np.diff(np.append(starts, flat.size))
    distinct, value_of_run = np.unique(flat[starts], return_inverse=True)
    counts = np.bincount(value_of_run, weights=lengths)
    return dict(zip(distinct.tolist(), counts.astype(np.int64).tolist(), strict=True))


def count_between(mask: Array, values: Array) -> dict[int, int]:
    """Count the pixels that have smaller and larger neighbors: interpolation creates such values.

    Args:
        mask: The mask as read, (H, W) or (H, W, 3); of a color mask, each channel is compared.
        values: (H, W) one integer per pixel of the mask.
    """
    kernel = np.ones((3, 3), np.uint8)
    if mask.dtype not in (np.uint8, np.uint16):  # OpenCV takes no wider integers
        mask = mask.astype(np.float64)
    between: Array = (cv2.erode(mask, kernel) < mask) & (mask < cv2.dilate(mask, kernel))
    if between.ndim == 3:
        between = np.any(between, axis=2)
    return count_values(values[between]) if between.any() else {}


def compute_mean_gray(values: Array, image: Array) -> dict[int, float]:
    """Estimate the mean of the image (H, W, C) under each mask value (H, W)."""
    rows, columns = (slice(None, None, max(1, side // _MAX_SAMPLED_SIDE)) for side in values.shape)
    sampled = values[rows, columns]
    gray = image[rows, columns].mean(2)
    return {int(v): float(gray[sampled == v].mean()) for v in np.unique(sampled)}


def _shrink(pixels: Array, side: int) -> Array:
    """Average (H, W, C) to (side, side, min(C, 3)) float32."""
    small = cv2.resize(np.ascontiguousarray(pixels[..., :3]), (side, side), interpolation=cv2.INTER_AREA)
    return np.asarray(small, np.float32).reshape(side, side, -1)
