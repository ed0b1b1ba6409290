"""CamVid as in the SegNet tutorial: list files of images and masks.

    train.txt              /SegNet/CamVid/train/0001TP_006690.png /SegNet/CamVid/trainannot/0001TP_006690.png
    train/0001TP_006690.png
    trainannot/0001TP_006690.png
    val.txt, test.txt, ...

Paths may begin with folders of another machine: the longest end of a path that exists below the root is used.
"""

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from pixelwise.data.description import DatasetDescription
from pixelwise.data.formats.dataset_index import (
    DatasetIndex,
    SplitFiles,
    find_split_paths,
    list_path_endings,
    pair_files,
    read_lines,
)
from pixelwise.data.io.images import IMAGE_EXTENSIONS
from pixelwise.data.sample import Split
from pixelwise.errors import DataError

_IMAGE_PATH = re.compile(rf"[^\s,;].*?(?i:{'|'.join(map(re.escape, IMAGE_EXTENSIONS))})(?=[\s,;]|$)")
"""A path up to the extension of an image; it may contain blanks."""
_VIDEO_NAMES = re.compile(r"(0001TP|0006R0|0016E5|Seq05VD)_")
"""Start of the names of images in CamVid's four videos."""
_CLASSES = DatasetDescription(
    names=(
        *("Sky", "Building", "Pole", "Road", "Pavement", "Tree"),
        *("SignSymbol", "Fence", "Car", "Pedestrian", "Bicyclist"),
    ),
    colors=(
        *((128, 128, 128), (128, 0, 0), (192, 192, 128), (128, 64, 128), (60, 40, 222), (128, 128, 0)),
        *((192, 128, 128), (64, 64, 128), (64, 0, 128), (64, 64, 0), (0, 128, 192)),
    ),
    ignore=(11,),
    coding="index",
)
"""The 11 classes of the SegNet paper; 11 is void."""


def can_read(root: Path) -> bool:
    return bool(_find_lists(root))


def find_pairs(root: Path) -> DatasetIndex:
    index = pair_files([_read_list(root, split, path) for split, path in _find_lists(root).items()])
    is_camvid = all(_VIDEO_NAMES.match(sample.image_path.name) for sample in index.samples)
    return replace(index, description=_CLASSES if is_camvid and index.samples else DatasetDescription())


def _find_lists(root: Path) -> dict[Split, Path]:
    """Find the list files by split; none if no list begins with a pair of images."""
    lists = find_split_paths([path for path in sorted(root.glob("*.txt")) if path.is_file()])
    return lists if any(_has_pair(path) for path in lists.values()) else {}


def _has_pair(path: Path) -> bool:
    with path.open(encoding="utf-8-sig", errors="replace") as file:
        first = next((line for line in file if line.strip()), "")
    return len(_IMAGE_PATH.findall(first)) >= 2


def _read_list(root: Path, split: Split, path: Path) -> SplitFiles:
    images: dict[str, list[Path]] = {}
    labels: dict[str, list[Path]] = {}
    for number, *texts in _read_pairs(path):
        image, label = (_find_below(root, text) for text in texts)
        existing = image or label
        if existing is None:
            raise DataError(
                f"{path}, line {number}: neither {texts[0]} nor {texts[1]} exists below {root}. "
                f"Put them back, or remove the line."
            )
        name = existing.relative_to(root).with_suffix("").as_posix().removeprefix(f"{split}/")
        for files, found in ((images, image), (labels, label)):
            if found and found not in files.setdefault(name, []):  # a repeated line is one pair
                files[name].append(found)
    return SplitFiles(images=images, labels=labels, split=split)


def _read_pairs(path: Path) -> Iterator[tuple[int, str, str]]:
    """Yield line number, image and mask; some lists have all their pairs in one line."""
    for number, line in read_lines(path):
        paths = _IMAGE_PATH.findall(line)
        if not paths or len(paths) % 2:
            raise DataError(
                f"{path}, line {number} is {line[:100]!r}. Write the path of an image and the path of its mask."
            )
        yield from ((number, *pair) for pair in zip(paths[::2], paths[1::2], strict=True))


def _find_below(root: Path, text: str) -> Path | None:
    ends = (root / ending for ending in list_path_endings(text) if ".." not in ending.split("/"))
    return next((path for path in ends if path.is_file()), None)
