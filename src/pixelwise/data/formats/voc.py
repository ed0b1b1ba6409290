"""Pascal VOC: images, palette masks, and lists of names; labelme2voc and CVAT write the same form.

    JPEGImages/2007_000032.jpg
    SegmentationClass/2007_000032.png
    ImageSets/Segmentation/train.txt     2007_000032

Names and colors are from labelmap.txt, class_names.txt or labels.txt, or else VOC's own if the images have names
of VOC.
"""

import re
from dataclasses import replace
from pathlib import Path

from pixelwise.data.colors import Color
from pixelwise.data.description import DatasetDescription
from pixelwise.data.formats.dataset_index import (
    DatasetIndex,
    SplitFiles,
    group_by_stem,
    pair_files,
    parse_class_colors,
    read_class_names,
    read_lines,
)

NAMES = (
    *("background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow"),
    *("diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor"),
)

_IMAGES = "JPEGImages"
_LABELS = ("SegmentationClassPNG", "SegmentationClass", "SegmentationClassAug")
"""The first is an older name of labelme2voc; SegmentationClass then contains NumPy arrays. The last has the masks of
the augmented VOC set, which its lists name in a second column."""
_VOC_NAME = re.compile(r"20(0[5-9]|1[0-2])_\d{6}")


def can_read(root: Path) -> bool:
    return (root / _IMAGES).is_dir() and any((root / name).is_dir() for name in _LABELS)


def find_pairs(root: Path) -> DatasetIndex:
    """Find all pairs; `split_lists` selects those that the lists name."""
    labels = next((root / name for name in _LABELS if (root / name).is_dir()), root / _LABELS[1])
    index = pair_files([SplitFiles(images=group_by_stem(root / _IMAGES), labels=group_by_stem(labels), split=None)])
    return replace(index, description=_describe(root, index))


def voc_color(index: int) -> Color:
    """Compute VOC's color of a class: bits 0, 3, 6 of the index are the highest bits of red, and so on.

    `voc_color(1) == (128, 0, 0)`, `voc_color(15) == (192, 128, 128)`.
    """
    red, green, blue = (sum((index >> 3 * bit + channel & 1) << 7 - bit for bit in range(3)) for channel in range(3))
    return red, green, blue


def _describe(root: Path, index: DatasetIndex) -> DatasetDescription:
    """Describe the classes by the files of other tools, or by VOC's own for images of VOC."""
    path = root / "labelmap.txt"
    if path.is_file():  # CVAT's `name:r,g,b:parts:actions`
        lines = ((number, line) for number, line in read_lines(path) if not line.startswith("#"))
        return parse_class_colors(path, lines, _split_label, "road:128,64,128::")
    for path in (root / "class_names.txt", root / "labels.txt"):
        if path.is_file():
            return DatasetDescription(names=tuple(name for name in read_class_names(path) if name != "__ignore__"))
    if index.samples and all(_VOC_NAME.fullmatch(sample.image_path.stem) for sample in index.samples):
        return DatasetDescription(names=NAMES, colors=tuple(map(voc_color, range(len(NAMES)))), coding="index")
    return DatasetDescription()


def _split_label(line: str) -> tuple[str, list[str]]:
    name, color = line.split(":")[:2]
    return name, color.split(",")
