"""Folders of images and masks with the same names; masks may also be marked, and then be in the folder of the images.

    images/0001.jpg          images/train/0001.jpg      train/images/0001.jpg     train/0001.jpg
    masks/0001.png           masks/train/0001.png       train/masks/0001.png      train_labels/0001.png

Marked names are such as `0001_mask.png` and `label_0001.png`.
"""

import csv
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from pixelwise.data.description import DatasetDescription
from pixelwise.data.formats.dataset_index import (
    DatasetIndex,
    FilesByName,
    SplitFiles,
    find_files,
    find_images_outside,
    find_split_paths,
    group_by_stem,
    list_folders,
    pair_files,
    parse_class_colors,
    read_class_names,
    read_lines,
    require_folder,
)
from pixelwise.data.io.images import IMAGE_EXTENSIONS
from pixelwise.data.sample import Split
from pixelwise.errors import DataError, PathNotFoundError

IMAGE_FOLDERS = ("images", "image", "img_dir")
LABEL_FOLDERS = ("masks", "labels", "annotations", "mask", "label", "ann_dir")
LABEL_SUFFIXES = ("_labels", "_masks", "_label", "_mask", "_annotations", "_annot", "annot", "_gt")
"""Suffixes of a folder with the masks of a folder such as `train`."""

_WORDS = "(?i:masks?|labels?|annotations?|segmentation|seg|groundtruth|gt)"
_MASK_MARK = re.compile(rf"^{_WORDS}[-_](?=.)|(?<=.)[-_]{_WORDS}$|(?<=.)_[LP]$")
_IMAGE_MARK = re.compile(r"^(?i:image|img)[-_](?=.)|(?<=.)[-_](?i:image|img|sat)$")


def can_read(root: Path) -> bool:
    try:
        return bool(_find_folders(root))
    except (DataError, PathNotFoundError):
        return False


def find_pairs(root: Path) -> DatasetIndex:
    pairs = _find_folders(root)
    used = {folder for pair in pairs for folder in (pair.images, pair.labels)}
    return replace(
        pair_files(map(_find_split_files, pairs)),
        outside_splits=find_images_outside(_find_known_folders(root, pairs), used),
        foreign_files=tuple(
            path
            for folder in sorted(used)
            for path in find_files(folder)
            if path.suffix.lower() not in IMAGE_EXTENSIONS and path.parent != root
        ),
        description=_describe(root),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _FolderPair:
    """A folder of images and the folder of their masks, which may be the same."""

    images: Path
    labels: Path
    split: Split | None


def _find_folders(root: Path) -> list[_FolderPair]:
    """Find the folders of images and masks of each split."""
    require_folder(root)
    splits = find_split_paths(list_folders(root))
    if inner := {split: images for split, folder in splits.items() if (images := _find_image_folder(folder))}:
        return [_FolderPair(images=images, labels=_find_labels(images), split=s) for s, images in inner.items()]
    if images := _find_image_folder(root):
        labels = _find_labels(images)
        image_splits, label_splits = (find_split_paths(list_folders(folder)) for folder in (images, labels))
        return [  # folders of masks may use other names of the splits
            _FolderPair(images=path, labels=label_splits.get(split, labels / path.name), split=split)
            for split, path in image_splits.items()
        ] or [_FolderPair(images=images, labels=labels, split=None)]
    for suffix in LABEL_SUFFIXES:
        labels_of = {folder: folder.with_name(folder.name + suffix) for folder in splits.values()}
        if any(labels.is_dir() for labels in labels_of.values()):
            return [_FolderPair(images=path, labels=labels_of[path], split=split) for split, path in splits.items()]
    if any(_has_marked_masks(folder) for folder in splits.values()):
        return [_FolderPair(images=folder, labels=folder, split=split) for split, folder in splits.items()]
    if _has_marked_masks(root):
        return [_FolderPair(images=root, labels=root, split=None)]
    raise DataError(
        f"{root} has no folder 'images'. Put the images into images/ and the masks of the "
        f"same stem into masks/, or use images/train and masks/train."
    )


def _find_image_folder(parent: Path) -> Path | None:
    return next((parent / name for name in IMAGE_FOLDERS if (parent / name).is_dir()), None)


def _find_labels(images: Path) -> Path:
    """Find the folder of masks next to a folder of images."""
    parent = images.parent
    found = [parent / name for name in LABEL_FOLDERS if (parent / name).is_dir()]
    if not found and _has_marked_masks(images):
        return images
    if not found:
        raise DataError(f"{parent} contains no mask folder. Name it {' or '.join(LABEL_FOLDERS[:3])}.")
    if len(found) > 1:
        raise DataError(
            f"{parent} contains several mask folders ({', '.join(p.name for p in found)}). "
            f"Keep the one to train on and move the others away."
        )
    return found[0]


def _has_marked_masks(folder: Path) -> bool:
    return bool(_separate_masks(group_by_stem(folder))[1])


def _find_known_folders(root: Path, pairs: list[_FolderPair]) -> Iterator[Path]:
    """Yield every folder with a name of images or masks, read or not."""
    first = pairs[0]
    if first.images == root:
        return
    if first.images.parent == root and first.split:  # train/0001.jpg
        yield from list_folders(root)
        return
    is_inner = first.split and first.images.name in IMAGE_FOLDERS  # train/images/0001.jpg
    for parent in [root, *(list_folders(root) if is_inner else ())]:
        yield from (parent / name for name in (*IMAGE_FOLDERS, *LABEL_FOLDERS) if (parent / name).is_dir())


def _find_split_files(pair: _FolderPair) -> SplitFiles:
    """Find the files of a pair of folders, with masks under the names of their images."""
    if pair.images == pair.labels:
        images, labels = _separate_masks(group_by_stem(pair.images))
    else:
        images, labels = group_by_stem(pair.images), group_by_stem(pair.labels)
    labels = _rename_masks(images, labels)
    return SplitFiles(images=images, labels=labels, split=pair.split)


def _separate_masks(files: FilesByName) -> tuple[FilesByName, FilesByName]:
    """Separate images and masks of one folder by the marks that at least one mask of an image has."""
    image_of = _map_to_images(files)
    split_names = {name: _split_mark(name, _MASK_MARK) for name in files}
    marks = {mark for core, mark in split_names.values() if mark and core in image_of}
    labels = {name: paths for name, paths in files.items() if split_names[name][1] in marks}
    return {name: paths for name, paths in files.items() if name not in labels}, labels


def _rename_masks(images: FilesByName, labels: FilesByName) -> FilesByName:
    """Rename masks to the names of their images; a mask without an image keeps its name."""
    image_of = _map_to_images(images)
    renamed: dict[str, list[Path]] = {}
    for name, paths in labels.items():
        target = image_of.get(_split_mark(name, _MASK_MARK)[0], name)
        keep = name in images or target in labels
        renamed.setdefault(name if keep else target, []).extend(paths)
    return renamed


def _map_to_images(files: FilesByName) -> dict[str, str]:
    """Map names with and without the mark of an image to the name."""
    return {**{_split_mark(name, _IMAGE_MARK)[0]: name for name in files}, **{name: name for name in files}}


def _split_mark(name: str, marks: re.Pattern[str]) -> tuple[str, str]:
    """Split a name into the rest and its mark: `city/1_mask` → `city/1` and `_mask`."""
    folder, slash, last = name.rpartition("/")
    match = marks.search(last)
    if not match:
        return name, ""
    return folder + slash + last[: match.start()] + last[match.end() :], match[0]


def _describe(root: Path) -> DatasetDescription:
    """Describe the classes by the names in codes.txt, or the names and colors in class_dict.csv."""
    if (root / "codes.txt").is_file():
        return DatasetDescription(names=tuple(read_class_names(root / "codes.txt")))
    path = root / "class_dict.csv"
    if path.is_file():
        return parse_class_colors(path, read_lines(path)[1:], _split_row, "name,r,g,b")
    return DatasetDescription()


def _split_row(line: str) -> tuple[str, list[str]]:
    name, *color = next(csv.reader([line]))
    return name, color[:3]
