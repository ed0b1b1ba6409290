"""Pascal VOC: images, palette masks, and lists of names; labelme2voc and CVAT write the same form.

    JPEGImages/2007_000032.jpg
    SegmentationClass/2007_000032.png
    ImageSets/Segmentation/train.txt     2007_000032

Names and colors are those of labelmap.txt, class_names.txt or labels.txt, else VOC's where the images
are called as VOC's are.
"""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

from pixelwise.data.formats._files import Part, by_stem, labeled, match, of_splits, read_lines, read_names
from pixelwise.data.formats.dataset_index import DatasetIndex
from pixelwise.data.sample import Split
from pixelwise.errors import DataError

NAMES = (
    *("background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow"),
    *("diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor"),
)

_IMAGES = "JPEGImages"
_LABELS = ("SegmentationClassPNG", "SegmentationClass")
"""The first is labelme's older name; SegmentationClass then holds arrays."""
_LISTS = Path("ImageSets", "Segmentation")
_VOC_NAME = re.compile(r"20(0[5-9]|1[0-2])_\d{6}")


def voc_color(index: int) -> list[int]:
    """VOC's color of a class: bits 0, 3, 6 of the index are the top bits of red, and so on.

    `voc_color(1) == [128, 0, 0]`, `voc_color(15) == [192, 128, 128]`.
    """
    return [sum((index >> 3 * bit + channel & 1) << 7 - bit for bit in range(3)) for channel in range(3)]


def find_pairs(root: Path) -> DatasetIndex:
    """The pairs that the lists name; all where there are none. DataError names a line without any file."""
    everything = Part(images=by_stem(root / _IMAGES), labels=by_stem(_label_folder(root)), split=None)
    lists = _lists(root)
    parts = labeled(_listed(everything, split, path) for split, path in lists.items()) if lists else [everything]
    found = match(parts)
    return replace(found, description=_description(root, found))


def _label_folder(root: Path) -> Path:
    return next((root / name for name in _LABELS if (root / name).is_dir()), root / _LABELS[-1])


def _lists(root: Path) -> dict[Split, Path]:
    """List files by split; trainval is read where no list of train is."""
    lists = of_splits(sorted((root / _LISTS).glob("*.txt")))
    both = root / _LISTS / "trainval.txt"
    return {"train": both, **lists} if both.is_file() else lists


def _listed(everything: Part, split: Split, path: Path) -> Part:
    names = dict.fromkeys(_checked(everything, path))
    images, labels = (
        {name: files[name] for name in names if name in files} for files in (everything.images, everything.labels)
    )
    return Part(images=images, labels=labels, split=split)


def _checked(everything: Part, path: Path) -> list[str]:
    lines = read_lines(path)
    for number, name in lines:
        if name not in everything.images and name not in everything.labels:
            raise DataError(
                f"{path}, line {number}: {name!r} has neither an image nor a mask; put them back, or remove the line."
            )
    return [name for _, name in lines]


def _description(root: Path, found: DatasetIndex) -> dict[str, Any]:
    if (root / "labelmap.txt").is_file():
        return _label_map(root / "labelmap.txt")
    for path in (root / "class_names.txt", root / "labels.txt"):
        if path.is_file():
            return {"names": [name for name in read_names(path) if name != "__ignore__"]}
    if found.samples and all(_VOC_NAME.fullmatch(sample.image_path.stem) for sample in found.samples):
        colors = [voc_color(index) for index in range(len(NAMES))]
        return {"names": list(NAMES), "colors": colors, "coding": "index"}
    return {}


def _label_map(path: Path) -> dict[str, Any]:
    """CVAT's `name:r,g,b:parts:actions`, a class a line, below a heading that begins with #."""
    rows = [line.split(":") for _, line in read_lines(path) if not line.startswith("#")]
    try:
        colors = [[int(value) for value in row[1].split(",")] for row in rows]
    except (ValueError, IndexError) as error:
        raise DataError(f"{path} cannot be read ({error}); write lines such as road:128,64,128:: into it.") from error
    return {"names": [row[0] for row in rows], "colors": colors}


def can_read(root: Path) -> bool:
    return (root / _IMAGES).is_dir() and any((root / name).is_dir() for name in _LABELS)
