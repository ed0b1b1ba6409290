"""Statistics of one image and its mask, by which a sample is compared with the rest of its dataset.

They are small and cheap compared with decoding: those of 10,000 samples must fit in memory.
"""

import hashlib
import math
from dataclasses import dataclass, field

import cv2
import numpy as np

from pixelwise.data.classes import Classes
from pixelwise.data.io.decoded_image import ChannelMeans
from pixelwise.data.io.file_info import FileInfo
from pixelwise.data.io.images import Array
from pixelwise.data.sample import Sample
from pixelwise.shapes import Size

THUMBNAIL_SIDE = 32
"""Rows and columns of the gray thumbnail by which images are compared."""
MASK_GRID_SIDE = 24
"""Rows and columns of the grid at whose points masks are compared."""
_MAX_SAMPLED_SIDE = 64
"""Largest number of rows and of columns from which the appearance of a class is estimated."""
_MAX_REGION_SIDE = 4096
"""Largest number of rows and of columns in which connected regions are counted."""
_MIN_LARGEST_SHARE = 0.95
"""A value is one region if its largest one has at least this share of its pixels."""
_MIN_SHARE = 0.005
"""A class with a smaller share of the sampled pixels has no measurable appearance."""
MAX_SHIFT = 12
"""Largest shift between mask and image that is measured, in pixels of an image of 256 rows or columns."""
_COARSE_SIDE = 256
"""Rows and columns of the reduced image in which shifts are looked for; a clear one is measured at twice the size."""
_MIN_BORDER_PIXELS = 50
"""Fewer pixels on borders between classes do not show a shift."""


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

    mask_size: Size | None = None
    value_counts: dict[int, int] = field(default_factory=dict)
    """Mask value → number of pixels where the image has data; 0 for a value that only occurs where it has none."""
    mask_fingerprint: bytes = b""
    mask_grid: Array = field(default_factory=lambda: np.zeros(0, np.int32))
    """(MASK_GRID_SIDE²,) int32 mask values at the points of a regular grid."""
    between_counts: dict[int, int] = field(default_factory=dict)
    """Mask value → number of its pixels that have both a smaller and a larger value among their neighbors."""
    flat_counts: dict[int, int] = field(default_factory=dict)
    """Mask value → number of its pixels whose neighbors all have the same value."""
    region_counts: tuple[int, int] = (0, 0)
    """Number of positive mask values that are one region, and that are several; (0, 0) where none is above 1."""
    color_counts: dict[int, int] = field(default_factory=dict)
    """Packed color → number of pixels, for a color mask where class indices are expected."""
    appearances: dict[int, Array] = field(default_factory=dict)
    """Mask value → what the image looks like under it and where; see `measure_appearances`."""
    shift: "Shift | None" = None
    """None where mask and image cannot be compared."""


@dataclass(frozen=True, slots=True)
class Shift:
    """By how much a mask is shifted against its image."""

    rows: int
    """Pixels down; negative: up."""
    columns: int
    """Pixels to the right; negative: to the left."""
    contrast: float
    """Mean edge strength under the borders after they are moved back, in robust stds above the median of all shifts."""
    gain: float
    """`contrast` minus the best contrast of shifts by at most one pixel of the reduced image."""


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


def sample_mask_grid(values: Array) -> Array:
    """Return the values of a mask (H, W) at the centers of the cells of a regular grid."""
    rows, columns = ((np.arange(MASK_GRID_SIDE) * 2 + 1) * side // (2 * MASK_GRID_SIDE) for side in values.shape)
    return values[np.ix_(rows, columns)].ravel().astype(np.int32)


def compute_thumbnail(pixels: Array) -> Array:
    """Compute `SampleStats.thumbnail` of a finite image (H, W, C)."""
    small = cv2.resize(
        np.ascontiguousarray(pixels[..., :3]), (THUMBNAIL_SIDE, THUMBNAIL_SIDE), interpolation=cv2.INTER_AREA
    )
    gray = np.asarray(small, np.float32).reshape(THUMBNAIL_SIDE**2, -1).mean(1)
    gray -= gray.mean()
    norm = np.linalg.norm(gray)
    return np.asarray(gray / norm if norm > 1e-6 else np.zeros_like(gray), np.float16)


def count_values(values: Array) -> dict[int, int]:
    """Count the pixels of each value, in ascending order of the values.

    Above 8 bits it counts runs instead of pixels: masks consist of long runs of one value.
    """
    if not values.size:
        return {}
    flat = values.ravel()
    if flat.dtype == np.uint8:
        counts = np.bincount(flat)
        return {int(v): int(counts[v]) for v in np.flatnonzero(counts)}
    starts = np.flatnonzero(np.concatenate([[True], flat[1:] != flat[:-1]]))
    lengths = np.diff(np.append(starts, flat.size))
    distinct, value_of_run = np.unique(flat[starts], return_inverse=True)
    counts = np.bincount(value_of_run, weights=lengths)
    return dict(zip(distinct.tolist(), counts.astype(np.int64).tolist(), strict=True))


def measure_values(stats: SampleStats, mask: Array, values: Array, declared: Classes | None) -> None:
    """Measure what the values of a mask say about its kind.

    Args:
        stats: The statistics to complete.
        mask: The mask as read.
        values: (H, W) one integer per pixel.
        declared: Declared classes; regions are only counted if they do not list all values.
    """
    stats.mask_size, stats.value_counts = values.shape[:2], count_values(values)
    if len(stats.value_counts) > 2:
        stats.between_counts, stats.flat_counts = count_neighbors(mask, values)
    is_listed = declared is not None and all(declared.get_label(v) is not None for v in stats.value_counts)
    if not is_listed and list_numbers(stats) not in ([], [1]):
        stats.region_counts = count_regions(np.where(values == 255, 0, values) if is_void(stats) else values)


def list_numbers(stats: SampleStats) -> list[int]:
    """Return the positive values of a mask, without 255 where it is not a number like the others."""
    return [value for value in stats.value_counts if value > 0 and not (value == 255 and is_void(stats))]


def is_void(stats: SampleStats) -> bool:
    """Return whether 255 occurs as the only high value of a mask, as on the borders of objects in VOC."""
    return 255 in stats.value_counts and 254 not in stats.value_counts


def count_regions(values: Array) -> tuple[int, int]:
    """Count the positive values (H, W) whose pixels are one region, apart from a few stray ones, and all others.

    Of large masks, only the upper left part is measured.
    """
    values = values[:_MAX_REGION_SIDE, :_MAX_REGION_SIDE]
    # Every pixel is a node, and a pixel between two of them joins them if they are equal.
    graph = np.zeros([2 * side - 1 for side in values.shape], np.uint8)
    graph[::2, ::2] = values > 0
    graph[::2, 1::2] = (values[:, 1:] == values[:, :-1]) & (values[:, 1:] > 0)
    graph[1::2, ::2] = (values[1:] == values[:-1]) & (values[1:] > 0)
    num_regions, regions = cv2.connectedComponents(graph, connectivity=4)
    regions = regions[::2, ::2].ravel()
    value_of_region = np.zeros(num_regions, values.dtype)
    value_of_region[regions] = values.ravel()
    areas = np.bincount(regions, minlength=num_regions)[1:]
    found, inverse = np.unique(value_of_region[1:], return_inverse=True)
    largest = np.zeros(len(found), np.int64)
    np.maximum.at(largest, inverse, areas)
    num_whole = np.count_nonzero(largest >= _MIN_LARGEST_SHARE * np.bincount(inverse, areas, len(found)))
    return int(num_whole), len(found) - int(num_whole)


def count_neighbors(mask: Array, values: Array) -> tuple[dict[int, int], dict[int, int]]:
    """Count the pixels between smaller and larger neighbors, as interpolation creates them, and those among equal ones.

    Args:
        mask: The mask as read, (H, W) or (H, W, 3); of a color mask, each channel is compared.
        values: (H, W) one integer per pixel of the mask.
    """
    kernel = np.ones((3, 3), np.uint8)
    if mask.dtype not in (np.uint8, np.uint16):  # OpenCV takes no wider integers
        mask = mask.astype(np.float64)
    lowest, highest = cv2.erode(mask, kernel), cv2.dilate(mask, kernel)
    between, flat = np.atleast_3d((lowest < mask) & (mask < highest)).any(2), np.atleast_3d(lowest == highest).all(2)
    return count_values(values[between]), count_values(values[flat])


def measure_appearances(values: Array, image: Array) -> dict[int, Array]:
    """Measure what each mask value covers, so that masks of different images can be compared.

    Args:
        values: (H, W) mask values.
        image: (H, W, C) finite image.

    Returns:
        Mask value → (min(C, 3) + 4,) float64: the mean color minus that of the image, in stds of the image; the row and
        column of the center as fractions; the logarithms of the share of the pixels and of the relative std.
    """
    rows, columns = (slice(None, None, max(1, side // _MAX_SAMPLED_SIDE)) for side in values.shape)
    sampled = values[rows, columns]
    colors = image[rows, columns, :3].reshape(sampled.size, -1).astype(np.float64)
    colors -= colors.mean(0)
    colors /= max(float(colors.std()), 1e-9)
    found, inverse, counts = np.unique(sampled.ravel(), return_inverse=True, return_counts=True)
    centers = [
        (index.ravel() + 0.5) / side for index, side in zip(np.indices(sampled.shape), sampled.shape, strict=True)
    ]
    measured = np.stack([*colors.T, *centers, (colors**2).mean(1)])
    means = np.stack([np.bincount(inverse, row) for row in measured]) / counts
    std = np.sqrt(np.maximum(means[-1] - (means[:-3] ** 2).mean(0), 1e-6))
    appearances = np.stack([*means[:-1], np.log(counts / sampled.size), np.log(std)], 1)
    return {int(found[i]): appearances[i] for i in np.flatnonzero(counts >= _MIN_SHARE * sampled.size)}


def measure_shift(values: Array, image: Array) -> Shift | None:
    """Measure by how many pixels a mask (H, W) is shifted against its finite image (H, W, C); None without borders.

    Borders between classes coincide with edges of the image, so the mean edge strength under them is compared at all
    shifts: first in a small image, which suffices for the many masks that are not shifted.
    """
    coarse = _measure_shift_within(values, image, _COARSE_SIDE)
    if coarse is None or coarse.gain == 0 or max(values.shape) <= _COARSE_SIDE:
        return coarse
    return _measure_shift_within(values, image, 2 * _COARSE_SIDE) or coarse


def _measure_shift_within(values: Array, image: Array, side: int) -> Shift | None:
    """Measure the shift after image and mask are reduced to at most `side` rows and columns."""
    height, width = values.shape
    factor = -(-max(height, width) // side)
    size = (width // factor, height // factor)
    limit = MAX_SHIFT * side // _COARSE_SIDE
    if min(size) < 4 * limit:
        return None
    reduced = cv2.resize(np.ascontiguousarray(image[..., :3]), size, interpolation=cv2.INTER_AREA)
    gray = reduced.reshape(*size[::-1], -1).mean(2, dtype=np.float32)
    labels = cv2.resize(values.astype(np.float32), size, interpolation=cv2.INTER_NEAREST)
    edges = cv2.magnitude(cv2.Sobel(gray, cv2.CV_32F, 1, 0), cv2.Sobel(gray, cv2.CV_32F, 0, 1))
    edges = np.minimum(edges, edges.mean() + 2 * edges.std())  # one bright line must not decide
    kernel = np.ones((3, 3), np.uint8)
    borders = (cv2.dilate(labels, kernel) != cv2.erode(labels, kernel))[limit:-limit, limit:-limit]
    num_borders = np.count_nonzero(borders)
    if num_borders < _MIN_BORDER_PIXELS:
        return None
    strength = cv2.matchTemplate(edges - edges.mean(), borders.astype(np.float32), cv2.TM_CCORR) / num_borders
    deviation = strength - np.median(strength)
    contrast = deviation / max(1.4826 * float(np.median(np.abs(deviation))), 1e-9)
    row, column = np.unravel_index(contrast.argmax(), contrast.shape)
    best, near = float(contrast.max()), float(contrast[limit - 1 : limit + 2, limit - 1 : limit + 2].max())
    return Shift(factor * (limit - int(row)), factor * (limit - int(column)), best, best - near)
