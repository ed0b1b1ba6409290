"""Check which classes occur in which splits, and how often."""

from collections import Counter, defaultdict
from collections.abc import Collection, Iterator
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np

from pixelwise.checks.context import Check, CheckContext
from pixelwise.checks.findings import Finding, format_names, make_finding, report_files
from pixelwise.checks.masks import find_artifact_values, has_single_class, is_foreground_ignored
from pixelwise.data.class_names import find_similar_names
from pixelwise.data.description import format_changes, read_description
from pixelwise.data.sample import SPLITS, Split
from pixelwise.data.sample_stats import SampleStats
from pixelwise.data.scan import count_class_pixels
from pixelwise.errors import format_count
from pixelwise.files import READ_ERRORS

MIN_CLASS_SHARE = 1e-3
"""A class with a smaller share of the labeled pixels hardly contributes to the loss."""


def _list_classes(context: CheckContext) -> list[tuple[int, str]]:
    """Return index and name of the classes, without those that damaged masks created; none if values are misread."""
    if context.is_misread:
        return []
    artifacts = {context.classes.get_label(value) for value in find_artifact_values(context)}
    return [(index, name) for index, name in enumerate(context.classes.names) if index not in artifacts]


def _find_masks_with_class(context: CheckContext, index: int) -> list[SampleStats]:
    return [s for s in context.stats if index in map(context.classes.get_label, s.value_counts)]


def _check_similar_names(context: CheckContext) -> Iterator[Finding]:
    names = context.classes.names
    masks = {name: context.list_masks(_find_masks_with_class(context, i)) for i, name in enumerate(names)}
    groups = [sorted(group, key=lambda name: -len(masks[name])) for group in find_similar_names(names)]
    if not groups:
        return
    changed = {name: kept for kept, *others in groups for name in others}
    description, declared = read_description(context.dataset.folders[0]), context.dataset.index.description.names
    lines = format_changes(description, declared, names, changed)
    fix = f"If they mean the same, write this into {context.description_file}:\n{lines}"
    shown = "; ".join(
        ", ".join(f"{name!r} in {format_count(len(masks[name]), 'mask')}" for name in group) for group in groups
    )
    files = sorted({file for name in changed for file in masks[name]})
    message = f"Names of classes differ only in case, blanks or the encoding of accents: {shown}."
    yield make_finding("similar_names", files, message, fix)


def _check_presence(context: CheckContext) -> Iterator[Finding]:
    """Report which classes do not occur where; nothing about splits with masks that could not be read."""
    if has_single_class(context):
        return  # that finding gives the reason
    similar = {name for group in find_similar_names(context.classes.names) for name in group}
    split_of = {sample: split for split in SPLITS for sample in context.splits[split]}
    used = {split_of[s.sample] for s in context.stats if s.value_counts}
    unread = {split_of[s.sample] for s in context.stats if s.mask_error}
    unused: list[str] = []
    rare: dict[str, str] = {}
    absent: dict[tuple[Split, ...], list[str]] = defaultdict(list)
    for index, name in _list_classes(context):
        containing = _find_masks_with_class(context, index)
        present = {split_of[s.sample] for s in containing}
        missing = tuple(split for split in SPLITS if split in used - present - unread)
        if not containing:
            if not (unread or is_foreground_ignored(context)):  # that finding gives the reason
                unused.append(name)
        elif name in similar:
            continue  # the class is divided, which that finding reports
        elif len(containing) == 1:
            if not unread:
                rare[name] = context.list_masks(containing)[0]
        elif missing:
            absent[missing].append(name)
    if unused:
        message = f"{_name_classes(unused, 'does', 'do')} not occur in any mask."
        fix = "Remove it from the list of classes, or check that the labels contain it."
        yield make_finding("class_unused", (), message, fix)
    if rare:
        message = f"{_name_classes(rare, 'occurs', 'occur')} in one mask only: {format_names([*rare.values()])}."
        fix = "Label more images of this class, for training and for validation."
        yield make_finding("class_in_one_image", sorted({*rare.values()}), message, fix)
    for missing, names in absent.items():
        they = "it is" if len(names) == 1 else "they are"
        if "train" in missing:
            where = " and ".join(split for split in SPLITS if split in used and split not in missing)
            message = f"{_name_classes(names, 'occurs', 'occur')} in {where}, but not in train, so {they} not learned."
            yield make_finding("class_not_in_train", (), message, "Move some images of this class to train.")
        else:
            where = " or ".join(missing)
            message = f"{_name_classes(names, 'does', 'do')} not occur in {where}, so {they} not evaluated there."
            yield make_finding("class_not_in_split", (), message, f"Move some images of this class to {where}.")


def _name_classes(names: Collection[str], verb: str, plural_verb: str) -> str:
    """Return `Class 'road' occurs` or `2 classes ('road', 'sky') occur`."""
    shown = ", ".join(map(repr, names))
    return f"Class {shown} {verb}" if len(names) == 1 else f"{len(names)} classes ({shown}) {plural_verb}"


def _check_imbalance(context: CheckContext) -> Iterator[Finding]:
    pixels = count_class_pixels(context.dataset, (s.sample for s in context.stats)).sum(0)
    shares = pixels / max(int(pixels.sum()), 1)
    rare = {name: shares[index] for index, name in _list_classes(context) if 0 < shares[index] < MIN_CLASS_SHARE}
    if rare:
        shown = " and ".join(f"{100 * share:.4f} %" for share in rare.values())
        message = (
            f"{_name_classes(rare, 'has', 'have')} {shown} of the labeled pixels, less than "
            f"{100 * MIN_CLASS_SHARE:g} %."
        )
        fix = (
            f"Label more images of each, merge it with another class by 'label_mapping' in "
            f"{context.description_file}, or train with --set loss.class_weights=inverse_log."
        )
        yield make_finding("extreme_imbalance", (), message, fix)


def _check_empty_masks(context: CheckContext) -> Iterator[Finding]:
    if has_single_class(context):
        return
    if context.is_misread:
        return
    only_background = {context.classes.background}
    empty = [s for s in context.stats if context.find_labels(s) == only_background]
    absent = [s for s in empty if not s.sample.mask_path.exists()]  # YOLO has files only of images with objects
    fix = "If the images show no object, nothing needs to be done. Otherwise restore their label files."
    problem = "without a label file, read as background"
    yield from report_files("empty_mask", context.list_images(absent), "image", problem, fix)
    present = context.list_masks(s for s in empty if s.sample.mask_path.exists())
    fix = "If the images show no object, nothing needs to be done. Otherwise label the objects."
    yield from report_files("empty_mask", present, "mask", "with only background", fix)


def _check_tiny_objects(context: CheckContext) -> Iterator[Finding]:
    if context.resolution is None:
        return
    with ThreadPoolExecutor(max_workers=4) as pool:
        lost = list(pool.map(lambda s: _count_lost_regions(context, s), context.stats))
    names = {index: name for index, name in _list_classes(context) if any(regions[index] for regions in lost)}
    files = context.list_masks(s for s, regions in zip(context.stats, lost, strict=True) if names.keys() & +regions)
    if files:
        number = sum(regions[index] for regions in lost for index in names)
        message = (
            f"{format_count(number, 'region')} of class {', '.join(map(repr, names.values()))} would be smaller than a "
            f"pixel at {'x'.join(map(str, context.resolution))}, in {format_count(len(files), 'mask')}: "
            f"{format_names(files)}."
        )
        yield make_finding("tiny_objects", files, message, "Train on crops, or at a higher resolution.")


def _count_lost_regions(context: CheckContext, stats: SampleStats) -> Counter[int]:
    """Count the connected regions of each class whose area is below one pixel after scaling."""
    lost = Counter[int]()
    assert context.resolution is not None
    try:
        labels = context.dataset.read_labels(stats.sample)
    except READ_ERRORS:
        return lost  # reported by other checks
    scale = context.resolution[0] * context.resolution[1] / labels.size
    for index in np.unique(labels).tolist() if scale < 1 else []:
        _, _, regions, _ = cv2.connectedComponentsWithStats((labels == index).astype(np.uint8), connectivity=8)
        lost[index] = int((regions[1:, cv2.CC_STAT_AREA] * scale < 1).sum())
    return lost


CHECKS: tuple[Check, ...] = (
    _check_similar_names,
    _check_presence,
    _check_imbalance,
    _check_empty_masks,
    _check_tiny_objects,
)
