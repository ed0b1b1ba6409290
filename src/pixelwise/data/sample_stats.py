"""Statistics of one image and its mask, by which a sample is compared with the rest of its dataset.

They are small and cheap compared with decoding: those of 10,000 samples must fit in memory.
"""

import hashlib
import math
from dataclasses import dataclass, field

import cv2
import numpy as np

from pixelwise.data.io.decoded_image import ChannelMeans
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
    nonfinite_counts: dict[str, int] = field(default_factory=dict)
    """nan, inf or -inf → number of such values in the image."""
    suspects: dict[float, Array] = field(default_factory=dict)
    """Value that may mark missing data → (C,) number of such values; see `find_suspects`."""
    low: Array = field(default_factory=lambda: np.zeros(0))
    """(C,) float64 lowest value without missing and suspect ones; infinite where there are none. Floats only."""
    high: Array = field(default_factory=lambda: np.zeros(0))
    """(C,) float64 highest of these values; -infinite where there are none."""
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


LISTED_NODATA = frozenset(
    {-99, -999, -9999, -99999, -999999, -32767, -32768, -(2**31), 9999, 99999, 999999, 2**31, 2**32}
)
"""Values that often mark missing data, as float32 has them. 0, 255, 32767 and 65535 are also black and saturated."""
_ASTRONOMIC = 1e18
"""Values beyond it, such as 1e20 and the largest of float32, are not measurements."""
MIN_REPEATED = 16
"""Fewer equal values may be outliers, unless their isolation is `MIN_OUTLIER_ISOLATION`."""
MIN_OUTLIER_ISOLATION = 1e4


def find_suspects(pixels: Array, missing: Array | None) -> tuple[dict[float, Array], Array, Array, Array]:
    """Find values of a float image that may mark missing data: extremes that are listed, or far from all others.

    Whether they do is decided by the range of the whole dataset.

    Args:
        pixels: (H, W, C) float32; NaN and infinite values are skipped.
        missing: (H, W, C) bool of the values that are known to be missing, or None.

    Returns:
        The values of `SampleStats.suspects`, `low` and `high`, and the pixels with the mean of their channel instead of
        suspects, NaN and infinite values.
    """
    num_channels = pixels.shape[2]
    suspects: dict[float, Array] = {}
    low, high = np.full(num_channels, np.inf), np.full(num_channels, -np.inf)
    ordinary = np.isfinite(pixels)
    if missing is not None:
        ordinary &= ~missing
    for channel in range(num_channels):
        values = pixels[..., channel][ordinary[..., channel]]
        while values.size:
            extremes = float(values.min()), float(values.max())
            suspect = next((value for value in extremes if _is_suspect(value, values)), None)
            if suspect is None:
                low[channel], high[channel] = extremes
                break
            counts = suspects.setdefault(suspect, np.zeros(num_channels, np.int64))
            others = values[values != suspect]
            counts[channel], values = values.size - others.size, others
    if not suspects and ordinary.all():
        return suspects, low, high, pixels
    replaced = ~ordinary | np.isin(pixels, np.array([*suspects], np.float32))
    means = ChannelMeans()
    means.add(pixels, replaced)
    return suspects, low, high, means.fill(pixels, replaced)


def compute_isolation(value: float, low: float, high: float) -> float:
    """Compute the distance of a value from a range, as a multiple of the length of the range; negative inside."""
    distance = max(low - value, value - high)
    return distance / (high - low) if high > low else math.inf


def min_isolation(value: float) -> float:
    """Return the isolation from which a value marks missing data.

    A listed value with a gap to all others does. Other negative values are often made up for the purpose; positive
    ones may be saturated, and must be farther away than any sensor can measure.
    """
    if value in LISTED_NODATA:
        return 0.1 if value < 0 else 1.0
    return 50.0 if value < 0 else 1e4


def _is_suspect(value: float, values: Array) -> bool:
    if abs(value) > _ASTRONOMIC or value in LISTED_NODATA:
        return True
    # A part of the values has a shorter range and a larger gap, so it decides most images.
    others = values
    for part in (values[:: max(1, values.size // 4096)], values):
        others = part[part != value]
        if others.size and compute_isolation(value, others.min(), others.max()) < min_isolation(value):
            return False
    return values.size - others.size >= MIN_REPEATED and others.size > 0 and bool((others != others[0]).any())


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
