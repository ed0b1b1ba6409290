"""ADE20K as published by the Scene Parsing benchmark: 150 classes; mask value 0 is everything else.

    images/training/ADE_train_00000001.jpg             images/validation/ADE_val_00000001.jpg
    annotations/training/ADE_train_00000001.png        annotations/validation/ADE_val_00000001.png
    objectInfo150.txt

The folder format may have the same folders: ADE20K is recognized by objectInfo150.txt or by the names of the files.
"""

from dataclasses import replace
from pathlib import Path

from pixelwise.data.description import DatasetDescription
from pixelwise.data.formats.dataset_index import (
    DatasetIndex,
    SplitFiles,
    find_images_outside,
    find_split_paths,
    group_by_stem,
    list_folders,
    pair_files,
    read_lines,
)
from pixelwise.errors import DataError

NUM_CLASSES = 150

_INFO = "objectInfo150.txt"


def can_read(root: Path) -> bool:
    folder = root / "annotations" / "training"
    if not (folder.is_dir() and (root / "images" / "training").is_dir()):
        return False
    return (root / _INFO).is_file() or next(folder.glob("ADE_train_*.png"), None) is not None


def find_pairs(root: Path) -> DatasetIndex:
    splits = find_split_paths(list_folders(root / "images"))
    parts = (
        SplitFiles(images=group_by_stem(images), labels=group_by_stem(root / "annotations" / images.name), split=split)
        for split, images in splits.items()
    )
    return replace(
        pair_files(parts),
        outside_splits=find_images_outside([root / "images"], splits.values()),
        description=DatasetDescription(
            names=tuple(_read_names(root / _INFO)),
            ignore=(0,),
            label_mapping={index + 1: index for index in range(NUM_CLASSES)},
            coding="index",
        ),
    )


def _read_names(path: Path) -> list[str]:
    """Read the first of each class's names in the last column; without the table, use numbers."""
    if not path.is_file():
        return [str(number) for number in range(1, NUM_CLASSES + 1)]
    names = [line.split("\t")[-1].split(",")[0].strip() for _, line in read_lines(path)[1:]]
    if len(set(names)) != NUM_CLASSES or len(names) != NUM_CLASSES:
        raise DataError(
            f"{path} has {len(set(names))} different class names. Expected a heading and {NUM_CLASSES} lines that "
            f"each end in a tab and a class name. Restore or remove it."
        )
    return names
