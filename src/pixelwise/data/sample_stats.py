"""What one image and one mask show, in few numbers: enough to compare a file with the rest of its set.

Everything is small and cheap beside decoding: a dataset of 10,000 pairs must stay in memory.
"""

import hashlib
from dataclasses import dataclass, field

import cv2
import numpy as np

from pixelwise.data.io.images import Array

THUMBNAIL = 32
"""Rows and columns of the small gray version by which images are compared."""
BALANCE = 8
"""Rows and columns of the small version in which red is weighed against blue."""
_SAMPLED = 64
"""Rows and columns at most from which the gray value of a class is estimated."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageTraits:
    fingerprint: bytes = b""
    """Equal for equal pixels of equal type and size."""
    thumbnail: Array = field(default_factory=lambda: np.zeros(0, np.float16))
    """(THUMBNAIL²,) float16, gray, of mean 0 and length 1; zeros of a constant image."""
    red_minus_blue: Array = field(default_factory=lambda: np.zeros(0, np.float32))
    """(BALANCE²,) float32, raw units; empty unless the image has three channels."""
    not_finite: int = 0
    """Values that are NaN or infinite."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MaskTraits:
    fingerprint: bytes = b""
    between: dict[int, int] = field(default_factory=dict)
    """Mask value → those of its pixels that have a smaller and a larger value beside them."""
    colors: dict[int, int] = field(default_factory=dict)
    """Packed color → pixels, of a mask that is a color picture where none is expected."""
    gray: dict[int, float] = field(default_factory=dict)
    """Mask value → mean of the image under it; of masks of two values alone."""


def image_traits(pixels: Array) -> ImageTraits:
    """Of (H, W, C) pixels of any type; those that are not finite count as 0."""
    not_finite = 0
    if pixels.dtype.kind == "f":
        finite = np.isfinite(pixels)
        not_finite = int(finite.size - np.count_nonzero(finite))
        pixels = np.where(finite, pixels, 0) if not_finite else pixels
    small = _shrunk(pixels, THUMBNAIL)
    balance = np.zeros(0, np.float32)
    if pixels.shape[2] == 3:
        tiny = _shrunk(small, BALANCE)
        balance = (tiny[..., 0] - tiny[..., 2]).ravel()
    return ImageTraits(
        fingerprint=fingerprint(pixels),
        thumbnail=_standardized(small.mean(2).ravel()),
        red_minus_blue=balance,
        not_finite=not_finite,
    )


def mask_traits(mask: Array, values: Array, counted: dict[int, int], image: Array | None) -> MaskTraits:
    """`mask` as read, `values` (H, W) its values in one integer a pixel, `counted` their pixels.

    `image` is the (H, W, C) image of the mask, or None where there is none of this size.
    """
    return MaskTraits(
        fingerprint=fingerprint(values),
        between=_between(mask, values) if len(counted) > 2 else {},
        gray=_gray(values, image) if image is not None and len(counted) == 2 else {},
    )


def fingerprint(pixels: Array) -> bytes:
    """16 bytes that no two different arrays of a dataset share."""
    digest = hashlib.blake2b(f"{pixels.shape} {pixels.dtype}".encode(), digest_size=16)
    digest.update(np.ascontiguousarray(pixels).data)
    return digest.digest()


def count_values(values: Array) -> dict[int, int]:
    """Value → pixels, ascending. Masks are made of long runs of one value, so runs are counted, not pixels."""
    flat = values.ravel()
    if flat.dtype == np.uint8:
        counts = np.bincount(flat)
        return {int(v): int(counts[v]) for v in np.flatnonzero(counts)}
    starts = np.flatnonzero(np.concatenate([[True], flat[1:] != flat[:-1]]))
    lengths = np.diff(np.append(starts, flat.size))
    found, run_of = np.unique(flat[starts], return_inverse=True)
    counts = np.bincount(run_of, weights=lengths)
    return dict(zip(found.tolist(), counts.astype(np.int64).tolist(), strict=True))


def _shrunk(pixels: Array, side: int) -> Array:
    """(side, side, C) float32 means; of more than three channels, the first three."""
    size = (side, side)
    small = cv2.resize(np.ascontiguousarray(pixels[..., :3]), size, interpolation=cv2.INTER_AREA)
    return np.asarray(small, np.float32).reshape(side, side, -1)


def _standardized(values: Array) -> Array:
    centered = values - values.mean()
    length = np.linalg.norm(centered)
    return np.asarray(centered / length if length > 1e-6 else np.zeros_like(centered), np.float16)


def _between(mask: Array, values: Array) -> dict[int, int]:
    """Smooth resizing leaves values that lie between those on both sides; in each channel of a color mask."""
    kernel = np.ones((3, 3), np.uint8)
    inside: Array = (cv2.erode(mask, kernel) < mask) & (mask < cv2.dilate(mask, kernel))
    if inside.ndim == 3:
        inside = np.any(inside, axis=2)
    return count_values(values[inside]) if inside.any() else {}


def _gray(values: Array, image: Array) -> dict[int, float]:
    rows, columns = (slice(None, None, max(1, side // _SAMPLED)) for side in values.shape)
    few = values[rows, columns]
    gray = image[rows, columns].mean(2)
    return {int(v): float(gray[few == v].mean()) for v in np.unique(few)}
