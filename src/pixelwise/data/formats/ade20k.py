"""ADE20K as the Scene Parsing benchmark publishes it: 150 classes, 0 for everything else.

    images/training/ADE_train_00000001.jpg             images/validation/ADE_val_00000001.jpg
    annotations/training/ADE_train_00000001.png        annotations/validation/ADE_val_00000001.png
    objectInfo150.txt

Told from a folder set, whose folders may be called the same, by objectInfo150.txt or the files' names.
"""

from dataclasses import replace
from pathlib import Path

from pixelwise.data.formats._files import Part, by_stem, folders_in, labeled, match, of_splits, outside, read_lines
from pixelwise.data.formats.dataset_index import DatasetIndex
from pixelwise.data.sample import Split
from pixelwise.errors import DataError

NUM_CLASSES = 150

_INFO = "objectInfo150.txt"


def find_pairs(root: Path) -> DatasetIndex:
    """The pairs of training, validation and, where it has masks, testing."""
    splits = of_splits(folders_in(root / "images"))
    return replace(
        match(labeled(_part(root, split, images) for split, images in splits.items())),
        outside_splits=outside([root / "images"], splits.values()),
        description={
            "names": _names(root),
            "ignore": [0],
            "label_mapping": {index + 1: index for index in range(NUM_CLASSES)},
            "coding": "index",
        },
    )


def _part(root: Path, split: Split, images: Path) -> Part:
    return Part(images=by_stem(images), labels=by_stem(root / "annotations" / images.name), split=split)


def _names(root: Path) -> list[str]:
    """The first of each class's names, in the last column; numbers where the table is missing."""
    path = root / _INFO
    if not path.is_file():
        return [str(number) for number in range(1, NUM_CLASSES + 1)]
    names = [line.split("\t")[-1].split(",")[0].strip() for _, line in read_lines(path)[1:]]
    if len(set(names)) != NUM_CLASSES or len(names) != NUM_CLASSES:
        raise DataError(
            f"{path} must hold a heading and {NUM_CLASSES} lines that end in a tab and a class name of "
            f"its own, but {len(set(names))} names are found; restore or remove it."
        )
    return names


def can_read(root: Path) -> bool:
    folder = root / "annotations" / "training"
    if not (folder.is_dir() and (root / "images" / "training").is_dir()):
        return False
    return (root / _INFO).is_file() or next(folder.glob("ADE_train_*.png"), None) is not None
