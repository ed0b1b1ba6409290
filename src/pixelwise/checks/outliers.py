"""One robust question: which of many values have the wrong sign, against what the others have in common?"""

import math

import numpy as np

from pixelwise.data.io.images import Array

MIN_VALUES = 8
"""Fewer do not say what is usual."""
_CONSISTENT = 2.5
"""Deviations that lie between the usual value and 0, at least; else signs mean nothing. Of red minus blue, drawn
street scenes have 3.0; CamVid, whose cameras disagree on white, has 2.2 and is not judged."""
_FAR = 4.0
"""Deviations from the usual value that make one of a hundred values unusual; one more for each tenfold number,
because the farthest of many sound images lies farther off (drawn street scenes: 5.0 among 4,000)."""
_MIRRORED = 0.6
"""An exchanged pair gives the negative of the usual value; at least so much of it."""


def is_consistent(values: Array, floor: float) -> bool:
    """Whether values (N,) share a sign clearly enough to judge single ones. `floor` is their least std."""
    if len(values) < MIN_VALUES:
        return False
    middle, std = _usual(values, floor)
    return abs(middle) > _CONSISTENT * std


def reversed_ones(values: Array, floor: float) -> Array:
    """(N,) bool: far from the usual value, and near its negative. Nobody where values are not consistent.

    It holds for up to about a tenth of the values; more of them would count as usual.
    """
    if not is_consistent(values, floor):
        return np.zeros(len(values), bool)
    middle, std = _usual(values, floor)
    unusual = _FAR + max(0.0, math.log10(len(values) / 100))
    far: Array = np.abs(values - middle) > unusual * std
    near: Array = -values * np.sign(middle) > _MIRRORED * abs(middle)
    return np.logical_and(far, near)


def _usual(values: Array, floor: float) -> tuple[float, float]:
    """Median, and the std of a normal distribution of the same median absolute std."""
    middle = float(np.median(values))
    return middle, max(1.4826 * float(np.median(np.abs(values - middle))), floor)
