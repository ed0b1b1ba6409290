"""Check that mask values are those of classes."""

from collections import Counter
from collections.abc import Iterator

from pixelwise.checks.context import Check, CheckContext
from pixelwise.checks.findings import Finding, make_finding, report_files
from pixelwise.data.classes import MAX_FOUND_CLASSES
from pixelwise.data.dataset import describe_unlisted_values
from pixelwise.data.sample_stats import SampleStats

MIN_BETWEEN_SHARE = 0.8
"""Least share of the pixels of an interpolated value that have smaller and larger neighbors: all except those at
corners. For a class that is an area of its own, the share is nearly 0."""
MAX_RARE_SHARE = 0.01
"""A value with a larger share of all pixels is not the result of interpolation."""
MIN_BETWEEN_VALUES = 3
"""Fewer values along borders may be classes of thin lines, such as a membrane or a contour."""


def find_artifact_values(context: CheckContext) -> set[int]:
    """Return the values that JPEG or interpolation created where no classes are declared.

    They are those that no valid mask contains: some of them occur at corners, and not between other values.
    """
    if context.has_declared_classes:
        return set()
    between = _find_between_values(context)
    valid, damaged = set[int](), set[int]()
    for s in context.stats:
        (damaged if _is_jpeg(s) or between & set(s.value_counts) else valid).update(s.value_counts)
    return damaged - valid if valid else between


def _is_jpeg(stats: SampleStats) -> bool:
    return stats.mask_file.format == "JPEG"


def _check_jpeg(context: CheckContext) -> Iterator[Finding]:
    files = context.list_masks(s for s in context.stats if _is_jpeg(s))
    fix = "Create the masks again from their source and save them as PNG: the lost values cannot be restored."
    yield from report_files("jpeg_mask", files, "mask", "saved as JPEG, which changes class indices", fix)


def _find_unlisted(context: CheckContext, stats: SampleStats) -> list[int]:
    """Return the values that neither a class nor `ignore` lists, except in JPEG masks, which have their own finding."""
    listed = set(context.classes.label_mapping) | set(context.classes.ignore)
    return [] if _is_jpeg(stats) else sorted(set(stats.value_counts) - listed)


def _is_interpolated(context: CheckContext, stats: SampleStats) -> bool:
    """Return whether nearly all pixels of unlisted values have smaller and larger neighbors.

    A single value may instead be a class that was not listed.
    """
    unlisted = _find_unlisted(context, stats)
    between = sum(stats.between_counts.get(value, 0) for value in unlisted)
    total = sum(stats.value_counts[value] for value in unlisted)
    return len(unlisted) > 1 and between >= MIN_BETWEEN_SHARE * total


def _find_between_values(context: CheckContext) -> set[int]:
    """Return rare values that occur only between two others, if there are many, where no classes are declared."""
    total, between = Counter[int](), Counter[int]()
    for s in context.stats:
        if not _is_jpeg(s):
            total.update(s.value_counts)
            between.update(s.between_counts)
    max_pixels = MAX_RARE_SHARE * sum(total.values())
    values = {v for v in between if total[v] < max_pixels and between[v] >= MIN_BETWEEN_SHARE * total[v]}
    return values if len(values) >= MIN_BETWEEN_VALUES else set()


def _check_interpolation(context: CheckContext) -> Iterator[Finding]:
    if not context.classes.names:
        return  # pictures: see _check_class_count
    if context.has_declared_classes:
        wrong = [s for s in context.stats if _is_interpolated(context, s)]
        values = {value for s in wrong for value in _find_unlisted(context, s)}
    else:
        values = _find_between_values(context)
        wrong = [s for s in context.stats if values & set(s.value_counts)]
    problem = (
        f"resized with interpolation: {len(values)} values occur only along borders, between the values of both sides"
    )
    fix = "Resize the original masks again with nearest-neighbor interpolation: the lost values cannot be restored."
    yield from report_files("interpolated_mask", context.list_masks(wrong), "mask", problem, fix)


def _check_unlisted_values(context: CheckContext) -> Iterator[Finding]:
    wrong = [s for s in context.stats if _find_unlisted(context, s) and not _is_interpolated(context, s)]
    if wrong and context.classes.names:
        unlisted = sorted({value for s in wrong for value in _find_unlisted(context, s)})
        values, fix = describe_unlisted_values(unlisted, context.classes)
        problem = f"with {values}, which dataset.yaml does not list"
        yield from report_files("unlisted_values", context.list_masks(wrong), "mask", problem, fix)


def _check_all_ignored(context: CheckContext) -> Iterator[Finding]:
    known = set(context.classes.label_mapping)
    empty = [s for s in context.stats if s.value_counts and not set(s.value_counts) & known]
    files = context.list_masks(s for s in empty if context.classes.names and not _find_unlisted(context, s))
    fix = "Label them, or remove the images and masks."
    yield from report_files("all_ignored", files, "mask", "in which all pixels are ignored", fix)


def _check_class_count(context: CheckContext) -> Iterator[Finding]:
    values, names = context.mask_values, context.classes.names
    if len(values) > MAX_FOUND_CLASSES and not names:
        message = f"The masks contain {len(values)} different values, too many to be classes."
        fix = "Check that the masks are not photos. If they are masks, list the class names in dataset.yaml."
        yield make_finding("no_classes", (), message, fix)
    elif values and not values & set(context.classes.label_mapping):
        fix = "Label some pixels, or add their values to 'names' or 'label_mapping' in dataset.yaml."
        yield make_finding("no_classes", (), "No mask contains a pixel of any class.", fix)
    elif len(names) == 1:
        message = f"There is only one class, {names[0]!r}, so there is nothing to distinguish."
        yield make_finding("single_class", (), message, "Label at least two classes, for example a background.")


def _check_ignored_foreground(context: CheckContext) -> Iterator[Finding]:
    if is_foreground_ignored(context):
        name = context.classes.names[1]
        message = f"The masks contain 0 and 255, but 255 is ignored, so class {name!r} does not occur."
        fix = "Write 'label_mapping: {0: 0, 255: 1}' into dataset.yaml."
        yield make_finding("foreground_ignored", (), message, fix)


def is_foreground_ignored(context: CheckContext) -> bool:
    """Return whether two declared classes have masks of 0 and 255, where 255 counts as ignored instead of class 1."""
    is_binary = len(context.classes.names) == 2 and context.classes.coding == "index"
    return is_binary and context.mask_values == {0, 255} and 255 in context.classes.ignore


def _check_undeclared_classes(context: CheckContext) -> Iterator[Finding]:
    classes = context.classes
    if context.has_declared_classes or not classes.names:
        return
    if 255 in classes.label_mapping:
        message = "The masks contain 0 and 255. They are read as background and foreground."
        fix = "To name them, write 'names' and 'label_mapping: {0: 0, 255: 1}' into dataset.yaml."
        yield make_finding("binary_masks", (), message, fix)
    else:
        pairs = ", ".join(f"{v} → {i}" for v, i in list(classes.label_mapping.items())[:12])
        more = ", ..." if len(classes.label_mapping) > 12 else ""
        message = f"No classes are named: mask values became class indices ({pairs}{more}), and 255 is ignored."
        yield make_finding("ids_compacted", (), message, "To choose the classes, list their names in dataset.yaml.")


CHECKS: tuple[Check, ...] = (
    _check_jpeg,
    _check_interpolation,
    _check_unlisted_values,
    _check_all_ignored,
    _check_class_count,
    _check_ignored_foreground,
    _check_undeclared_classes,
)
