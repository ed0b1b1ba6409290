"""Which classes are there to learn and to measure, and how much of them."""

from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np

from pixelwise.checks.findings import Case, Finding, Look, count, finding, some
from pixelwise.checks.mask_values import doubtful_values, is_foreground_ignored
from pixelwise.data.sample import SPLITS
from pixelwise.data.scan import Reading
from pixelwise.errors import InvalidArgumentError
from pixelwise.files import READ_ERRORS
from pixelwise.shapes import Size

IMBALANCE = 1e-3
"""A class of a smaller share of the labeled pixels hardly adds to the loss."""
BACKGROUND_NAMES = ("background", "_background_", "__background__", "bg")


def require_usable(resolution: Size | None) -> None:
    """InvalidArgumentError for a planned resolution without a pixel."""
    if resolution is not None and min(resolution) < 1:
        raise InvalidArgumentError(
            f"the resolution {resolution} has no pixels; give height and width, such as 256 512."
        )


def _classes(case: Case) -> list[tuple[int, str]]:
    """Index and name, less the classes that faults of the masks made."""
    doubtful = {case.classes.label_mapping.get(value) for value in doubtful_values(case)}
    return [(index, name) for index, name in enumerate(case.classes.names) if index not in doubtful]


def _shown(case: Case, index: int) -> list[Reading]:
    """The readings whose mask shows a class."""
    values = {value for value, to in case.classes.label_mapping.items() if to == index}
    return [r for r in case.readings if values & set(r.values)]


def _presence(case: Case) -> Iterator[Finding]:
    split_of = {sample: split for split in SPLITS for sample in case.splits[split]}
    used = {split_of[r.sample] for r in case.readings if r.values}
    for index, name in _classes(case):
        shown = _shown(case, index)
        there = {split_of[r.sample] for r in shown}
        missing = [split for split in SPLITS if split in used - there]
        if not shown:
            if not is_foreground_ignored(case):  # which says why
                message = f"class {name!r} is named, but occurs in no mask."
                yield finding("class_unused", (), message, "Remove it, or check the mask values.")
        elif len(shown) == 1:
            files = case.mask_names(shown)
            message = f"class {name!r} occurs in one image alone: {files[0]}."
            yield finding("class_in_one_image", files, message, "It cannot be learned and measured: label more of it.")
        elif "train" in missing:
            where = " and ".join(split for split in SPLITS if split in there)
            message = f"class {name!r} occurs in {where}, but not in train."
            yield finding("class_not_in_train", (), message, "It cannot be learned: move images.")
        elif missing:
            message = f"class {name!r} does not occur in {' or '.join(missing)}."
            yield finding("class_not_in_split", (), message, "It is not measured there: move images.")


def _imbalance(case: Case) -> Iterator[Finding]:
    total = Counter[int]()
    for r in case.readings:
        for value, pixels in r.values.items():
            if value in case.classes.label_mapping:
                total[case.classes.label_mapping[value]] += pixels
    for index, name in _classes(case):
        share = total[index] / max(total.total(), 1)
        if 0 < share < IMBALANCE:
            message = f"class {name!r} holds {share:.4%} of the labeled pixels, less than {IMBALANCE:.1%}."
            fix = "Label more of it, merge it with another by 'label_mapping', or weigh classes: loss.class_weights."
            yield finding("extreme_imbalance", (), message, fix)


def _empty(case: Case) -> Iterator[Finding]:
    background = _background(case)
    values = {value for value, index in case.classes.label_mapping.items() if index == background}
    other = set(case.classes.label_mapping) - values
    if files := case.mask_names(r for r in case.readings if set(r.values) & values and not set(r.values) & other):
        message = f"{count(len(files), 'mask')} of background alone: {some(files)}."
        yield finding("empty_mask", files, message, "Nothing to do if these images show nothing; else label them.")


def _background(case: Case) -> int | None:
    """The class that is named so; without names, 0 beside a single other value."""
    names = [name.strip().lower() for name in case.classes.names]
    named = [index for index, name in enumerate(names) if name in BACKGROUND_NAMES]
    if not named and not case.surveyed.classes_described and len(names) == 2 and names[0] == "0":
        return 0
    return named[0] if named else None


def _tiny_objects(case: Case) -> Iterator[Finding]:
    if case.resolution is None:
        return
    with ThreadPoolExecutor(max_workers=4) as pool:
        lost = list(pool.map(lambda r: _lost_regions(case, r), case.readings))
    shown = "x".join(map(str, case.resolution))
    for index, name in _classes(case):
        if files := case.mask_names(r for r, regions in zip(case.readings, lost, strict=True) if regions[index]):
            number = sum(regions[index] for regions in lost)
            message = (
                f"{count(number, 'region')} of class {name!r} would be smaller than a pixel at {shown}, "
                f"in {count(len(files), 'mask')}: {some(files)}."
            )
            yield finding("tiny_objects", files, message, "Train on crops, or at a larger resolution.")


def _lost_regions(case: Case, reading: Reading) -> Counter[int]:
    """Class index → its connected regions whose area, scaled, falls below one pixel."""
    lost = Counter[int]()
    assert case.resolution is not None
    try:
        labels = case.surveyed.dataset.read_labels(reading.sample)
    except READ_ERRORS:
        return lost  # told elsewhere
    scale = case.resolution[0] * case.resolution[1] / labels.size
    for index in np.unique(labels).tolist() if scale < 1 else []:
        _, _, statistics, _ = cv2.connectedComponentsWithStats((labels == index).astype(np.uint8), connectivity=8)
        lost[index] = int((statistics[1:, cv2.CC_STAT_AREA] * scale < 1).sum())
    return lost


LOOKS: tuple[Look, ...] = (_presence, _imbalance, _empty, _tiny_objects)
