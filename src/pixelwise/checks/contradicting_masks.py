"""Find masks that contradict the other masks of a dataset: two classes are exchanged, or the mask is shifted."""

from collections.abc import Iterator
from itertools import combinations

import numpy as np

from pixelwise.checks.context import Check, CheckContext
from pixelwise.checks.findings import Finding, report_files
from pixelwise.data.io.images import Array
from pixelwise.data.sample_stats import SampleStats, Shift

MIN_MASKS = 8
"""Fewer masks do not show what is usual."""
MIN_LOG_RATIO = 30.0
"""Least logarithm of the likelihood ratio between a mask with two classes exchanged and the mask as it is. Of 20,754
pairs of classes in CamVid's 701 masks, none reaches it; of the same pairs exchanged on purpose, 61 %."""
_MAX_SQUARE = 25.0
"""Largest squared distance of one measurement, in squared stds: no single one decides."""
_MIN_STD = (0.03, 0.03, 0.2, 0.1)
"""Least std of the row, the column, the logarithm of the share and that of the relative std of a class."""
_MIN_COLOR_STD = 0.05

MIN_SHIFT = 3
"""Smaller shifts are within the accuracy of annotations."""
_MIN_CONTRAST = 4.0
"""Least contrast of a shifted mask, and of the median of all masks. The median of CamVid is 4.7; of masks that have
nothing to do with their images, 3."""
_MIN_GAIN = 2.0


def _check_exchanged_classes(context: CheckContext) -> Iterator[Finding]:
    """Compare what a mask's classes look like, where they are and how large they are with the other masks."""
    mapping, names = context.classes.label_mapping, context.classes.names
    by_value = {value: [s for s in context.stats if value in s.appearances] for value in sorted(mapping)}
    by_value = {value: found for value, found in by_value.items() if len(found) >= MIN_MASKS}
    usual = {value: _estimate_distribution(found, value) for value, found in by_value.items()}
    exchanged: dict[str, list[SampleStats]] = {}
    for first, second in combinations(by_value, 2):
        both = [s for s in by_value[first] if second in s.appearances]
        if both and mapping[first] != mapping[second]:
            ratio = sum(
                _compute_log_likelihood(both, value, usual[other]) - _compute_log_likelihood(both, value, usual[value])
                for value, other in ((first, second), (second, first))
            )
            pair = f"{names[mapping[first]]!r} and {names[mapping[second]]!r}"
            for index in np.flatnonzero(np.asarray(ratio) > MIN_LOG_RATIO):
                exchanged.setdefault(pair, []).append(both[index])
    code = "inverted_mask" if len(names) == 2 else "exchanged_classes"
    for pair, masks in exchanged.items():
        problem = f"in which {pair} seem to be exchanged, compared with the other masks"
        fix = "Look at them. If they are wrong, exchange the two values."
        yield from report_files(code, context.list_masks(masks), "mask", problem, fix)


def _estimate_distribution(stats: list[SampleStats], value: int) -> tuple[Array, Array]:
    """Return the median and the robust std of the appearance of a mask value, each (F,)."""
    appearances = _stack(stats, value)
    median = np.median(appearances, 0)
    std = 1.4826 * np.median(np.abs(appearances - median), 0)
    return median, np.maximum(std, [*[_MIN_COLOR_STD] * (len(median) - len(_MIN_STD)), *_MIN_STD])


def _compute_log_likelihood(stats: list[SampleStats], value: int, distribution: tuple[Array, Array]) -> Array:
    """Return the log-likelihood of the appearance of a mask value in each of N masks: (N,)."""
    median, std = distribution
    squares = np.minimum(((_stack(stats, value) - median) / std) ** 2, _MAX_SQUARE)
    return np.asarray(-(squares / 2 + np.log(std)).sum(1))


def _stack(stats: list[SampleStats], value: int) -> Array:
    """Stack the appearances of a mask value: (N, F). Gray images among RGB ones have three equal colors."""
    rows = [s.appearances[value] for s in stats]
    length = max(map(len, rows))
    return np.stack([row if len(row) == length else np.concatenate([np.repeat(row[:1], 3), row[1:]]) for row in rows])


def _check_shifted_masks(context: CheckContext) -> Iterator[Finding]:
    """Find masks whose borders coincide with edges of the image only after a shift, unlike those of most masks."""
    shifts = [(s, s.shift) for s in context.stats if s.shift is not None]
    if len(shifts) < MIN_MASKS or np.median([shift.contrast for _, shift in shifts]) < _MIN_CONTRAST:
        return
    shifted = [(s, shift) for s, shift in shifts if _is_clear(shift)]
    items = [f"{context.list_masks([s])[0]} by {_describe_shift(shift)}" for s, shift in shifted]
    files = context.list_masks(s for s, _ in shifted)
    fix = "Look at them. If they are wrong, move the mask back, or crop image and mask in the same way."
    yield from report_files("shifted_mask", files, "mask", "shifted against the image", fix, items=items)


def _is_clear(shift: Shift) -> bool:
    distance = max(abs(shift.rows), abs(shift.columns))
    return distance >= MIN_SHIFT and shift.contrast >= _MIN_CONTRAST and shift.gain >= _MIN_GAIN


def _describe_shift(shift: Shift) -> str:
    """Describe a shift: `6 pixels down and 4 left`."""
    parts = [
        f"{abs(pixels)} {positive if pixels > 0 else negative}"
        for pixels, positive, negative in ((shift.rows, "down", "up"), (shift.columns, "right", "left"))
        if pixels
    ]
    return " and ".join(parts).replace(" ", " pixels ", 1)


CHECKS: tuple[Check, ...] = (_check_exchanged_classes, _check_shifted_masks)
