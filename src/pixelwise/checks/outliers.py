"""Robust test for values whose sign is opposite to that of most others."""

import math

import numpy as np

from pixelwise.data.io.images import Array

MIN_VALUES = 8
"""Fewer values do not show what is usual."""
_MIN_CONSISTENCY = 2.5
"""Least distance of the median from 0 in stds, else signs mean nothing. For red minus blue, synthetic street scenes
have 3.0; CamVid, whose cameras differ in white balance, has 2.2 and is not tested."""
_MIN_DISTANCE = 4.0
"""Distance from the median, in stds, of an outlier among 100 values; one more for each tenfold number, because the
farthest of many valid images is farther away (synthetic street scenes: 5.0 among 4,000)."""
_MIN_NEGATIVE = 0.6
"""Swapped values are about the negative of the median; at least this share of it."""


def is_consistent(values: Array, min_std: float) -> bool:
    """Return whether values (N,) agree in their sign clearly enough to test single ones."""
    if len(values) < MIN_VALUES:
        return False
    median, std = _estimate_distribution(values, min_std)
    return abs(median) > _MIN_CONSISTENCY * std


def find_reversed(values: Array, min_std: float) -> Array:
    """Find values far from the median and near its negative: (N,) bool, all False where values are not consistent.

    It detects up to about a tenth of the values; more of them would change the median.
    """
    if not is_consistent(values, min_std):
        return np.zeros(len(values), bool)
    median, std = _estimate_distribution(values, min_std)
    min_distance = _MIN_DISTANCE + max(0.0, math.log10(len(values) / 100))
    is_far: Array = np.abs(values - median) > min_distance * std
    is_negative: Array = -values * np.sign(median) > _MIN_NEGATIVE * abs(median)
    return np.logical_and(is_far, is_negative)


def _estimate_distribution(values: Array, min_std: float) -> tuple[float, float]:
    """Return the median, and the std of a normal distribution with the same median absolute deviation."""
    median = float(np.median(values))
    return median, max(1.4826 * float(np.median(np.abs(values - median))), min_std)
