"""Whether mask values are those of classes."""

from collections import Counter
from collections.abc import Iterator

from pixelwise.checks.findings import Case, Finding, Look, count, finding, sentence, some
from pixelwise.data.dataset import unlisted_message
from pixelwise.data.scan import MAX_FOUND_CLASSES, Reading

BETWEEN_SHARE = 0.8
"""Of the pixels of a value that interpolation made, at least so many lie strictly between two others: all but
those at corners. Of a class that is an area of its own, nearly none do."""
RARE_SHARE = 0.01
"""A value of a larger share of the set's pixels was not made by interpolation."""
MIN_BETWEEN_VALUES = 3
"""Fewer values along borders may be classes of thin lines: a membrane, a contour."""


def doubtful_values(case: Case) -> set[int]:
    """Values that JPEG or interpolation made where no classes are named. They are told once, not as classes.

    They are those that no sound mask holds: some lie at corners, and not between others.
    """
    if case.surveyed.classes_described:
        return set()
    between = _between_values(case)
    sound, damaged = set[int](), set[int]()
    for r in case.readings:
        (damaged if _is_jpeg(r) or between & set(r.values) else sound).update(r.values)
    return damaged - sound if sound else between


def _is_jpeg(reading: Reading) -> bool:
    return reading.mask_content.format == "JPEG"


def _jpeg(case: Case) -> Iterator[Finding]:
    if files := case.mask_names(r for r in case.readings if _is_jpeg(r)):
        message = f"{count(len(files), 'mask')} saved as JPEG, which changes the values of pixels: {some(files)}."
        fix = "Save masks as PNG, from the source: what JPEG changed cannot be told any more."
        yield finding("jpeg_mask", files, message, fix)


def _unlisted(case: Case, reading: Reading) -> list[int]:
    """Values that neither a class nor `ignore` names. Those of JPEG masks are told by `_jpeg`."""
    listed = set(case.classes.label_mapping) | set(case.classes.ignore)
    return [] if _is_jpeg(reading) else sorted(set(reading.values) - listed)


def _is_interpolated(case: Case, reading: Reading) -> bool:
    """Whether nearly all pixels of unlisted values lie between others. A single value may be a forgotten id."""
    unlisted = _unlisted(case, reading)
    between = sum(reading.mask_traits.between.get(value, 0) for value in unlisted)
    return len(unlisted) > 1 and between >= BETWEEN_SHARE * sum(reading.values[value] for value in unlisted)


def _between_values(case: Case) -> set[int]:
    """Where no classes are named: rare values that lie only between two others, if they are many."""
    total, between = Counter[int](), Counter[int]()
    for r in case.readings:
        if not _is_jpeg(r):
            total.update(r.values)
            between.update(r.mask_traits.between)
    rare = RARE_SHARE * sum(total.values())
    made = {v for v in between if total[v] < rare and between[v] >= BETWEEN_SHARE * total[v]}
    return made if len(made) >= MIN_BETWEEN_VALUES else set()


def _interpolated(case: Case) -> Iterator[Finding]:
    if not case.classes.names:
        return  # pictures, which `_class_count` tells
    if case.surveyed.classes_described:
        wrong = [r for r in case.readings if _is_interpolated(case, r)]
        values = {value for r in wrong for value in _unlisted(case, r)}
    else:
        values = _between_values(case)
        wrong = [r for r in case.readings if values & set(r.values)]
    if files := case.mask_names(wrong):
        message = (
            f"{count(len(files), 'mask')} resized with smoothing: {len(values)} values lie on borders alone, "
            f"between those on both sides: {some(files)}."
        )
        fix = "Resize masks by nearest neighbor, from the source: what was smoothed cannot be told any more."
        yield finding("interpolated_mask", files, message, fix)


def _unlisted_values(case: Case) -> Iterator[Finding]:
    if not case.classes.names:
        return
    wrong = [r for r in case.readings if _unlisted(case, r) and not _is_interpolated(case, r)]
    if files := case.mask_names(wrong):
        values = sorted({value for r in wrong for value in _unlisted(case, r)})
        fault, _, cure = unlisted_message(values, case.classes).removeprefix("holds ").rpartition("; ")
        message = f"{count(len(files), 'mask')} with {fault}: {some(files)}."
        yield finding("unlisted_values", files, message, sentence(cure))


def _all_ignored(case: Case) -> Iterator[Finding]:
    if not case.classes.names:
        return
    known = set(case.classes.label_mapping)
    ignored = [r for r in case.readings if r.values and not set(r.values) & known and not _unlisted(case, r)]
    if files := case.mask_names(ignored):
        message = f"{count(len(files), 'mask')} of ignored pixels alone: {some(files)}."
        yield finding("all_ignored", files, message, "Label them, or remove the pairs.")


def _class_count(case: Case) -> Iterator[Finding]:
    values = {value for r in case.readings for value in r.values}
    names = case.classes.names
    if len(values) > MAX_FOUND_CLASSES and not names:
        message = f"the masks hold {len(values)} different values, too many to be classes."
        fix = "Name the classes in dataset.yaml, and check that the masks are not pictures."
        yield finding("no_classes", (), message, fix)
    elif values and not values & set(case.classes.label_mapping):
        fix = "Label some pixels, or name their values in dataset.yaml."
        yield finding("no_classes", (), "no mask holds a pixel of any class.", fix)
    elif len(names) == 1:
        message = f"there is only one class, {names[0]!r}, so there is nothing to tell apart."
        yield finding("single_class", (), message, "Label at least two classes.")


def _ignored_foreground(case: Case) -> Iterator[Finding]:
    if is_foreground_ignored(case):
        name = case.classes.names[1]
        message = f"the masks hold 0 and 255, but 255 is ignored, so class {name!r} never occurs."
        yield finding("foreground_ignored", (), message, "Write 'label_mapping: {0: 0, 255: 1}' into dataset.yaml.")


def is_foreground_ignored(case: Case) -> bool:
    """Two named classes over masks of 0 and 255 alone: 255 is surely the second, but counts as ignored."""
    values = {value for r in case.readings for value in r.values}
    binary = len(case.classes.names) == 2 and case.classes.coding == "index" and values == {0, 255}
    return binary and 255 in case.classes.ignore


def _coding(case: Case) -> Iterator[Finding]:
    classes = case.classes
    if case.surveyed.classes_described or not classes.names:
        return
    if 255 in classes.label_mapping:
        message = "the masks hold 0 and 255: read as background and foreground."
        fix = "To name them, write 'names' and 'label_mapping: {0: 0, 255: 1}' into dataset.yaml."
        yield finding("binary_masks", (), message, fix)
    else:
        pairs = ", ".join(f"{v} → {i}" for v, i in list(classes.label_mapping.items())[:12])
        more = ", ..." if len(classes.label_mapping) > 12 else ""
        message = f"no classes named: mask values became classes ({pairs}{more}); 255 is ignored."
        yield finding("ids_compacted", (), message, "Name the classes in dataset.yaml to choose them.")


LOOKS: tuple[Look, ...] = (
    _jpeg,
    _interpolated,
    _unlisted_values,
    _all_ignored,
    _class_count,
    _ignored_foreground,
    _coding,
)
