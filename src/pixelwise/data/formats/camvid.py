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
    find_images,
    find_split_paths,
    list_path_endings,
    pair_files,
    read_lines,
)
from pixelwise.data.formats.folder import can_read as is_folder_dataset
from pixelwise.data.formats.split_lists import IMAGE_PATH, report_missing_names, report_unlisted
from pixelwise.data.sample import Split, format_location
from pixelwise.errors import DataError

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
    missing: list[Path] = []
    lists = _find_lists(root)
    index = pair_files([_read_list(root, split, path, missing) for split, path in lists.items()])
    names = ", ".join(path.name for path in lists.values())
    is_camvid = all(_VIDEO_NAMES.match(sample.image_path.name) for sample in index.samples)
    return replace(
        index,
        has_lists=True,
        faults=(*report_missing_names(missing), *report_unlisted(_find_unlisted(root, index), names)),
        description=_CLASSES if is_camvid and index.samples else DatasetDescription(),
    )


def _find_unlisted(root: Path, index: DatasetIndex) -> list[Path]:
    """Find the images in no list, in the folders that have images but no masks of the lists."""
    images = {s.image_path for s in index.samples} | {*index.images_without_mask, *index.unlabeled_images}
    masks = {s.mask_path for s in index.samples} | {*index.masks_without_image, *index.same_stem}
    folders = {path.parent for path in images} - {path.parent for path in masks}
    return [path for path in find_images(root) if path.parent in folders and path not in images]


def _find_lists(root: Path) -> dict[Split, Path]:
    """Find the list files by split; none if no list begins with the paths of a pair of images."""
    lists = find_split_paths([path for path in sorted(root.glob("*.txt")) if path.is_file()])
    firsts = [pair for pair in map(_find_first_pair, lists.values()) if len(pair) >= 2]
    is_by_name = is_folder_dataset(root) and not any(_find_below(root, path) for pair in firsts for path in pair)
    return lists if firsts and not is_by_name else {}  # names in images/ and masks/ are of the folder format


def _find_first_pair(path: Path) -> list[str]:
    with path.open(encoding="utf-8-sig", errors="replace") as file:
        return IMAGE_PATH.findall(next((line for line in file if line.strip()), ""))


def _read_list(root: Path, split: Split, path: Path, missing: list[Path]) -> SplitFiles:
    images: dict[str, list[Path]] = {}
    labels: dict[str, list[Path]] = {}
    for texts in _read_pairs(path, has_masks=split != "test"):
        image, label = (_find_below(root, text) for text in texts)
        existing = image or label
        if existing is None:
            missing.append(Path(format_location(str(path), " ".join(texts).strip())))
            continue
        name = existing.relative_to(root).with_suffix("").as_posix().removeprefix(f"{split}/")
        for files, found in ((images, image), (labels, label)):
            if found and found not in files.setdefault(name, []):  # a repeated line is one pair
                files[name].append(found)
    return SplitFiles(images=images, labels=labels, split=split)


def _read_pairs(path: Path, has_masks: bool) -> Iterator[tuple[str, str]]:
    """Yield images and their masks, which may be missing in test; some lists have all their pairs in one line."""
    for number, line in read_lines(path):
        paths = IMAGE_PATH.findall(line)
        if len(paths) == 1 and not has_masks:
            paths.append("")
        if not paths or len(paths) % 2:
            raise DataError(
                f"{path}, line {number} is {line[:100]!r}. Write the path of an image and the path of its mask."
            )
        yield from zip(paths[::2], paths[1::2], strict=True)


def _find_below(root: Path, text: str) -> Path | None:
    ends = (root / ending for ending in list_path_endings(text) if ".." not in ending.split("/"))
    return next((path for path in ends if path.is_file()), None)
