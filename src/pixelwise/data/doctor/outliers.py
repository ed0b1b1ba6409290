"""One robust question: which of many values look like the mirror image of what the others are?"""

import numpy as np

from pixelwise.data.images import Array

MIN_VALUES = 8
"""Fewer do not say what is usual."""
_FAR, _NEAR = 6.0, 3.0
"""Deviations: a value beyond the first is unusual, one within the second is usual."""


def usual(values: Array) -> tuple[float, float]:
    """Median, and the deviation of a normal distribution of the same median absolute deviation."""
    middle = float(np.median(values))
    return middle, 1.4826 * float(np.median(np.abs(values - middle)))


def reversed_ones(values: Array, mirrored: Array, floor: float) -> Array:
    """(N,) bool: values far from the usual whose mirror image is usual. Nobody among too few.

    `floor` is the least deviation that is taken for one, in the unit of the values: where all are
    nearly equal, small differences mean nothing.
    """
    if len(values) < MIN_VALUES:
        return np.zeros(len(values), bool)
    middle, deviation = usual(values)
    deviation = max(deviation, floor)
    reversed_: Array = (np.abs(values - middle) > _FAR * deviation) & (np.abs(mirrored - middle) < _NEAR * deviation)
    return reversed_
