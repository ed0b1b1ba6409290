"""Checks of the images: channels, pixel types and values, compared with the rest of the dataset."""

import math
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from pixelwise.checks.context import Check, CheckContext
from pixelwise.checks.findings import Finding, format_names, make_finding, report_files
from pixelwise.data.io.images import Array
from pixelwise.data.sample_stats import SampleStats

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


def _check_channels(context: CheckContext) -> Iterator[Finding]:
    expected = context.dataset.channels
    accepted = {expected, 1} if expected == 3 else {expected}
    if odd := [s for s in context.decoded_images if s.channels not in accepted]:
        yield _report_mix(context, odd, f"{expected} channels", lambda s: f"{s.channels}", "mixed_channels")
    gray = [s for s in context.decoded_images if s.channels == 1 and expected == 3]
    fix = "They are repeated to 3 channels. If they should be in color, replace them."
    yield from report_files("gray_repeated", context.list_images(gray), "gray image", "among RGB images", fix)
    files = context.list_images(s for s in context.decoded_images if s.alpha_dropped)
    fix = "The alpha channel is not used. Nothing needs to be done."
    yield from report_files("alpha_dropped", files, "image", "with a constant alpha channel", fix)


def _check_types(context: CheckContext) -> Iterator[Finding]:
    types = sorted(s.dtype for s in context.decoded_images)
    usual = max(types, key=types.count, default="")
    if odd := [s for s in context.decoded_images if s.dtype != usual]:
        yield _report_mix(context, odd, f"{usual} pixels", lambda s: s.dtype, "mixed_bit_depth")


def _report_mix(
    context: CheckContext, odd: Sequence[SampleStats], expected: str, get: Callable[[SampleStats], str], code: str
) -> Finding:
    """Report images that differ from the others in a way that training does not allow."""
    files = context.list_images(odd)
    found = ", ".join(sorted({get(s) for s in odd}))
    verb = "has" if len(files) == 1 else "have"
    message = f"images should have {expected}, but {len(files)} of them {verb} {found}: {format_names(files)}."
    return make_finding(code, files, message, "Convert them to the format of the other images.")


def _check_values(context: CheckContext) -> Iterator[Finding]:
    nonfinite = [s for s in context.decoded_images if s.num_nonfinite]
    problem = f"with NaN or infinite values ({sum(s.num_nonfinite for s in nonfinite):,} in total)"
    fix = "Replace them by a number and mark the pixels as ignored in the masks: one NaN makes the loss NaN."
    yield from report_files("not_finite", context.list_images(nonfinite), "image", problem, fix)
    files = context.list_images(s for s in context.decoded_images if s.is_constant)
    fix = "Replace the images, or remove them with their masks."
    yield from report_files("constant_image", files, "image", "with the same value in all pixels", fix)


def _check_swapped_channels(context: CheckContext) -> Iterator[Finding]:
    """Compare each image's map of red minus blue with the median map.

    Where red exceeds blue is similar in all images of a dataset: sky above, skin, stain or soil. With red and blue
    swapped, the cosine between the maps is the negative of the usual one.
    """
    colored = [s for s in context.decoded_images if s.red_minus_blue.any()]
    if len(colored) < MIN_VALUES:
        return
    maps = np.stack([s.red_minus_blue for s in colored])
    typical = np.median(maps, axis=0)
    cosines = maps @ typical / (np.linalg.norm(maps, axis=1) * max(float(np.linalg.norm(typical)), 1e-9))
    odd = [s for s, is_reversed in zip(colored, find_reversed(cosines, 0.02), strict=True) if is_reversed]
    problem = "in which red and blue seem to be swapped, compared with the other images"
    fix = "Look at them. If the colors are wrong, swap the channels: OpenCV reads and writes BGR."
    yield from report_files("swapped_channels", context.list_images(odd), "image", problem, fix)


def _check_inverted_masks(context: CheckContext) -> Iterator[Finding]:
    """Compare the difference in brightness between two classes, or else their areas, with the other masks."""
    values = sorted(filter(context.classes.is_class_value, context.mask_values))
    if len(values) != 2:
        return
    low, high = values
    both = [s for s in context.stats if s.mean_gray.keys() == {low, high}]
    contrast = np.array([s.mean_gray[high] - s.mean_gray[low] for s in both])
    share = np.array([s.value_counts[high] / (s.value_counts[high] + s.value_counts[low]) for s in both])
    min_std = 0.02 * float(np.abs(contrast).max(initial=0.0))
    if is_consistent(contrast, min_std):
        reversed_masks = find_reversed(contrast, min_std)
    else:
        reversed_masks = find_reversed(share - 0.5, 0.02)
    files = context.list_masks(s for s, is_reversed in zip(both, reversed_masks, strict=True) if is_reversed)
    problem = "in which the two classes seem to be swapped, compared with the other masks"
    fix = "Look at them. If they are wrong, swap the two values."
    yield from report_files("inverted_mask", files, "mask", problem, fix)


CHECKS: tuple[Check, ...] = (
    _check_channels,
    _check_types,
    _check_values,
    _check_swapped_channels,
    _check_inverted_masks,
)
