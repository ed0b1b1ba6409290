"""Folder pairs: images in one folder, masks of the same name in another, or marked ones in the same.

    images/0001.jpg          images/train/0001.jpg      train/images/0001.jpg     train/0001.jpg
    masks/0001.png           masks/train/0001.png       train/masks/0001.png      train_labels/0001.png

The mask may be marked, as in `0001_mask.png` or `label_0001.png`; it may then lie beside its image.
"""

import csv
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pixelwise.data.formats._files import (
    Files,
    Part,
    by_stem,
    files_below,
    folders_in,
    is_picture,
    match,
    of_splits,
    outside,
    read_lines,
    read_names,
    require_folder,
)
from pixelwise.data.formats.dataset_index import DatasetIndex
from pixelwise.data.sample import Split
from pixelwise.errors import DataError

IMAGE_FOLDERS = ("images", "image", "img_dir")
LABEL_FOLDERS = ("masks", "labels", "annotations", "mask", "label", "ann_dir")
BESIDE = ("_labels", "_masks", "_label", "_mask", "_annotations", "_annot", "annot", "_gt")
"""What the folder of masks beside a folder such as train is called after it."""

_WORDS = "(?i:masks?|labels?|annotations?|segmentation|seg|groundtruth|gt)"
_MASK = re.compile(rf"^{_WORDS}[-_](?=.)|(?<=.)[-_]{_WORDS}$|(?<=.)_[LP]$")
_IMAGE = re.compile(r"^(?i:image|img)[-_](?=.)|(?<=.)[-_](?i:image|img|sat)$")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Folders:
    """A folder of images and the folder of their masks, which may be the same one."""

    images: Path
    labels: Path
    split: Split | None


def find_pairs(root: Path) -> DatasetIndex:
    """All pairs of a folder format; nothing is dropped silently."""
    folders = _folders(root)
    used = {folder for f in folders for folder in (f.images, f.labels)}
    within = [path for folder in sorted(used) for path in files_below(folder)]
    return replace(
        match(part for f in folders for part in _parts(root, f)),
        outside_splits=outside(_all_folders(root, folders), used),
        foreign_files=tuple(p for p in within if not is_picture(p) and p.parent != root),
        description=_description(root),
    )


def _folders(root: Path) -> list[_Folders]:
    """Where the images and masks of each split lie."""
    require_folder(root)
    splits = of_splits(folders_in(root))
    if inner := {split: images for split, folder in splits.items() if (images := _image_folder(folder))}:
        return [_Folders(images=images, labels=_labels_for(images), split=s) for s, images in inner.items()]
    if images := _image_folder(root):
        return _below(images, _labels_for(images))
    if word := next((w for w in BESIDE for folder in splits.values() if _beside(folder, w).is_dir()), None):
        return [_Folders(images=folder, labels=_beside(folder, word), split=s) for s, folder in splits.items()]
    if any(_holds_both(folder) for folder in splits.values()):
        return [_Folders(images=folder, labels=folder, split=s) for s, folder in splits.items()]
    if _holds_both(root):
        return [_Folders(images=root, labels=root, split=None)]
    raise DataError(
        f"{root} holds no folder 'images'; put the images into images/ and the masks of the "
        f"same stem into masks/, or use images/train and masks/train."
    )


def _image_folder(parent: Path) -> Path | None:
    return next((parent / name for name in IMAGE_FOLDERS if (parent / name).is_dir()), None)


def _labels_for(images: Path) -> Path:
    parent = images.parent
    found = [parent / name for name in LABEL_FOLDERS if (parent / name).is_dir()]
    if not found and _holds_both(images):
        return images
    if not found:
        raise DataError(f"{parent} holds no folder of masks; name it {' or '.join(LABEL_FOLDERS[:3])}.")
    if len(found) > 1:
        raise DataError(
            f"{parent} holds several folders of masks ({', '.join(p.name for p in found)}); "
            f"keep the one to train on and move the others away."
        )
    return found[0]


def _below(images: Path, labels: Path) -> list[_Folders]:
    """The splits in a folder of images; their masks may use another word for a split."""
    splits, masks = of_splits(folders_in(images)), of_splits(folders_in(labels))
    if not splits:
        return [_Folders(images=images, labels=labels, split=None)]
    return [_Folders(images=i, labels=masks.get(s, labels / i.name), split=s) for s, i in splits.items()]


def _beside(folder: Path, word: str) -> Path:
    return folder.with_name(folder.name + word)


def _holds_both(folder: Path) -> bool:
    """Whether masks lie among images, told by their marks."""
    return bool(_told_apart(by_stem(folder))[1])


def _all_folders(root: Path, folders: list[_Folders]) -> Iterator[Path]:
    """Every folder that looks like one of images or masks, whether it is read or not."""
    first = folders[0]
    if first.images == root:
        return
    if first.images.parent == root and first.split:  # train/0001.jpg
        yield from folders_in(root)
        return
    inner = first.split and first.images.name in IMAGE_FOLDERS  # train/images/0001.jpg
    for place in [root, *(folders_in(root) if inner else ())]:
        yield from (place / n for n in (*IMAGE_FOLDERS, *LABEL_FOLDERS) if (place / n).is_dir())


def _parts(root: Path, folders: _Folders) -> Iterator[Part]:
    """What is to be paired, masks under the names of their images."""
    if folders.images == folders.labels:
        images, labels = _told_apart(by_stem(folders.images))
    else:
        images, labels = by_stem(folders.images), by_stem(folders.labels)
    part = Part(images=images, labels=_named_as(images, labels), split=folders.split)
    yield from [part] if folders.split else _listed_val(root, part)


def _told_apart(files: Files) -> tuple[Files, Files]:
    """Images and masks of one folder; of masks, every mark counts that some image's mask has."""
    bare = {**{_bare(name, _IMAGE)[0]: name for name in files}, **{name: name for name in files}}
    marks = {mark for core, mark in (_bare(name, _MASK) for name in files) if mark and core in bare}
    labels = {name: paths for name, paths in files.items() if _bare(name, _MASK)[1] in marks - {""}}
    return {name: paths for name, paths in files.items() if name not in labels}, labels


def _named_as(images: Files, labels: Files) -> Files:
    """Masks under their image's name; one that is of no image keeps its own."""
    by_core = {**{_bare(name, _IMAGE)[0]: name for name in images}, **{name: name for name in images}}
    renamed: dict[str, list[Path]] = {}
    for name, paths in labels.items():
        target = by_core.get(_bare(name, _MASK)[0], name)
        own = name in images or target in labels
        renamed.setdefault(name if own else target, []).extend(paths)
    return renamed


def _bare(name: str, marks: re.Pattern[str]) -> tuple[str, str]:
    """A name without its mark, and the mark: `city/1_mask` → `city/1` and `_mask`."""
    folder, slash, last = name.rpartition("/")
    found = marks.search(last)
    if not found:
        return name, ""
    return folder + slash + last[: found.start()] + last[found.end() :], found[0]


def _listed_val(root: Path, part: Part) -> list[Part]:
    """A set without splits, less those that valid.txt lists by the names of their image files."""
    path = root / "valid.txt"
    if not path.is_file():
        return [part]
    names = {image.name: name for name, paths in part.images.items() for image in paths}
    listed = set()
    for number, line in read_lines(path):
        if line not in names:
            raise DataError(f"{path}, line {number}: no image is called {line!r}; restore it or remove the line.")
        listed.add(names[line])
    splits: tuple[Split, Split] = ("train", "val")
    return [_some(part, split, listed) for split in splits]


def _some(part: Part, split: Split, listed: set[str]) -> Part:
    images, labels = (
        {name: paths for name, paths in files.items() if (name in listed) == (split == "val")}
        for files in (part.images, part.labels)
    )
    return Part(images=images, labels=labels, split=split)


def _description(root: Path) -> dict[str, Any]:
    """Names from codes.txt, or names and colors from class_dict.csv."""
    if (root / "codes.txt").is_file():
        return {"names": read_names(root / "codes.txt")}
    path = root / "class_dict.csv"
    if not path.is_file():
        return {}
    rows = list(csv.reader(line for _, line in read_lines(path)))[1:]
    try:
        return {"names": [row[0].strip() for row in rows], "colors": [[int(v) for v in row[1:4]] for row in rows]}
    except (ValueError, IndexError) as error:
        raise DataError(f"{path} cannot be read ({error}); write lines of name,r,g,b below a heading.") from error


def can_read(root: Path) -> bool:
    try:
        return bool(_folders(root))
    except DataError:
        return False
