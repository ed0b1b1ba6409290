"""Recognition of masks whose values are not class ids: soft edges between classes, and object numbers."""

import math
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from itertools import pairwise

from pixelwise.data.classes import BINARY_NAMES, Classes, ValueRange, classes_from_values
from pixelwise.data.description import DatasetDescription, MaskType, MaskValues, describe_classes
from pixelwise.data.io.decoded_image import NO_LABEL
from pixelwise.data.sample_stats import SampleStats, list_numbers

_MIN_RANGE = 16
"""Least distance of the two values between which there are soft edges."""
_MIN_SOFT_VALUES = 2
"""A single other value may be a class of thin lines. Doubling the size with linear interpolation creates two."""
_MIN_VALUES_AMONG_CLASSES = 8
"""Least number of other values among three or more classes, of which some may be thin lines."""
_MIN_AREA_SHARE = 0.3
"""Least share of the pixels of a class among equal ones, where there are three or more classes."""
_MAX_FLAT_SHARE = 0.05
"""Largest share of other values among equal ones. It is 0 for soft and compressed edges, 0.9 for classes with areas."""
_MIN_EXPLAINED_SHARE = 0.6
"""Least share of other values that are between a smaller and a larger one, or next to one of the two values."""
_MIN_SIDE_SHARE = 0.1
"""Least share of other values in each half of the range: a compressed edge has some at both ends."""

_MIN_WHOLE_SHARE = 0.95
"""Least share of object numbers whose pixels are connected, in all masks together."""
_MIN_OBJECTS = 8
"""Masks with fewer objects cannot be distinguished from masks of classes with one region each."""
_MIN_MISSING = 2
"""Least mean difference between the highest object number of a mask and that of all masks."""
_MIN_SLOTS = 6
"""Least number of object numbers between the lowest and the highest maximum by which gaps are judged."""
_MIN_PRESENT_SHARE = 0.8
"""Least share of the object numbers below the maximum of a mask that occur in it: cropping leaves gaps."""
_MIN_STARTED_SHARE = 0.75
"""Least share of masks whose object numbers start at 1 or 2. Those of vertebrae, which are classes, do not."""
_MAX_OCCURRENCES = 2
"""Largest mean number of masks with the same object number, where numbers do not start at 1 in each mask."""


def infer_classes(stats: Sequence[SampleStats], mask_type: MaskType | None) -> Classes:
    """Find the classes of scanned masks for which none are declared; `mask_type` is that of dataset.yaml."""
    if soft := find_soft_values(stats):
        return describe_classes(describe_soft(soft, max(value for s in stats for value in s.value_counts)))
    if mask_type != "semantic" and has_object_numbers(stats):
        return describe_classes(describe_objects(stats))
    return classes_from_values({value for s in stats for value in s.value_counts})


def describe_soft(values: Sequence[int], highest: int, labels: Sequence[int] | None = None) -> DatasetDescription:
    """Describe masks with soft edges between `values`, each of which stands for the class nearest to it.

    Args:
        values: What `find_soft_values` returns, or the values of classes.
        highest: The highest value that occurs.
        labels: Class index of each value, if they are not in order; None: a threshold suffices for two classes.
    """
    limits = [(low + high + 1) // 2 for low, high in pairwise(values)]
    if len(values) == 2 and labels is None:
        return DatasetDescription(threshold=limits[0])
    ranges = map(ValueRange, [0, *limits], [*limits, max(highest, 255) + 1])
    mapping: dict[MaskValues, str | int] = dict(zip(ranges, labels or range(len(values)), strict=True))
    return DatasetDescription(names=tuple(map(str, values)), label_mapping=mapping)


def find_soft_values(stats: Iterable[SampleStats]) -> tuple[int, ...] | None:
    """Find the values between which all others are soft edges, as antialiasing, resizing and JPEG create them."""
    total, between, flat = Counter[int](), Counter[int](), Counter[int]()
    for s in stats:
        total.update({value: pixels for value, pixels in s.value_counts.items() if value >= 0})
        between.update(s.between_counts)
        flat.update(s.flat_counts)
    if len(total) < 2 + _MIN_SOFT_VALUES or max(total) - min(total) < _MIN_RANGE:
        return None
    middle = (min(total) + max(total)) / 2
    ends = tuple(max(half, key=total.__getitem__) for half in _divide(total, middle))
    others = total.keys() - set(ends)
    sides = [sum(total[v] for v in half) for half in _divide(others, middle)]
    if min(sides) >= _MIN_SIDE_SHARE * sum(sides) and _are_edges(others, ends, total, between, flat):
        return ends
    areas: list[int] = []
    for value, pixels in total.most_common():
        if flat[value] >= _MIN_AREA_SHARE * pixels and all(abs(value - area) >= _MIN_RANGE for area in areas):
            areas.append(value)
    others = total.keys() - set(areas)
    if len(areas) > 2 and len(others) >= _MIN_VALUES_AMONG_CLASSES and _are_edges(others, areas, total, between, flat):
        return tuple(sorted(areas))
    return None


def _divide(values: Collection[int], middle: float) -> tuple[list[int], list[int]]:
    return [v for v in values if v < middle], [v for v in values if v >= middle]


def _are_edges(
    others: Collection[int],
    values: Sequence[int],
    total: Counter[int],
    between: Counter[int],
    flat: Counter[int],
) -> bool:
    """Return whether `others` are few, have no area, and are between other values or next to one of `values`."""
    num_pixels = sum(total[v] for v in others)
    near = min(high - low for low, high in pairwise(sorted(values))) / _MIN_RANGE
    explained = sum(total[v] if min(abs(v - value) for value in values) <= near else between[v] for v in others)
    return (
        2 * num_pixels <= total.total()
        and sum(flat[v] for v in others) <= _MAX_FLAT_SHARE * num_pixels
        and explained >= _MIN_EXPLAINED_SHARE * num_pixels
    )


def describe_objects(stats: Iterable[SampleStats]) -> DatasetDescription:
    """Describe masks that number objects: what the background is, and whether 255 is ignored."""
    values = {value for s in stats for value in s.value_counts}
    ignore = (255,) if 255 in values and 254 not in values else None
    if 0 in values or NO_LABEL not in values:
        return DatasetDescription(mask_type="instances", ignore=ignore)
    mapping: dict[MaskValues, str | int] = {NO_LABEL: 0, ValueRange(0, math.inf): 1}
    return DatasetDescription(names=BINARY_NAMES, label_mapping=mapping, ignore=ignore)


def has_object_numbers(stats: Iterable[SampleStats]) -> bool:
    """Return whether mask values number objects: each is one region, and their number differs between masks.

    The numbers start at 1 in each mask, with few gaps, or each occurs in one or two masks only. Masks of classes with
    one region each have none of this: a class occurs in many masks, and others are missing below the highest one. The
    file names of Cellpose suffice.
    """
    masks = [s for s in stats if list_numbers(s)]
    numbers = [set(list_numbers(s)) for s in masks]
    highest = [max(values) for values in numbers]
    if any(s.sample.mask_path.stem.endswith("_cp_masks") for s in masks):
        return max(highest) > 1
    num_whole, num_divided = (sum(counts) for counts in zip((0, 0), *(s.region_counts for s in masks), strict=True))
    if not masks or num_whole < _MIN_WHOLE_SHARE * (num_whole + num_divided):
        return False
    num_distinct = len(set().union(*numbers))
    is_rare = sum(map(len, numbers)) <= _MAX_OCCURRENCES * num_distinct
    if max(highest) > 255 and num_distinct >= _MIN_OBJECTS and is_rare:
        return True
    return max(highest) >= _MIN_OBJECTS and _differ_at_the_end(numbers, highest)


def _differ_at_the_end(numbers: Sequence[set[int]], highest: Sequence[int]) -> bool:
    """Return whether sets of numbers have few gaps below their maximum, and differ in their maximum."""
    num_started = sum(min(values) <= 2 for values in numbers)
    if num_started < _MIN_STARTED_SHARE * len(numbers) or max(highest) - sum(highest) / len(highest) < _MIN_MISSING:
        return False
    for first in (1, min(highest) + 1):
        num_slots = sum(max(0, end - first) for end in highest)
        num_present = sum(
            sum(first <= value < end for value in values) for values, end in zip(numbers, highest, strict=True)
        )
        if num_slots < _MIN_SLOTS or num_present < _MIN_PRESENT_SHARE * num_slots:
            return False
    return True
