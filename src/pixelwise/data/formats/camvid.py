"""Lists of image and mask, as the SegNet tutorial keeps CamVid: `train.txt`, `val.txt`, `test.txt`.

    train.txt              /SegNet/CamVid/train/0001TP_006690.png /SegNet/CamVid/trainannot/0001TP_006690.png
    train/0001TP_006690.png
    trainannot/0001TP_006690.png

Paths may begin with folders of another machine: what counts is the longest end that lies below the root.
"""

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from pixelwise.data.formats._files import Part, match, of_splits, read_lines
from pixelwise.data.formats.dataset_index import DatasetIndex
from pixelwise.data.io.images import IMAGE_EXTENSIONS
from pixelwise.data.sample import Split
from pixelwise.errors import DataError

_PATH = re.compile(rf"[^\s,;].*?(?i:{'|'.join(map(re.escape, IMAGE_EXTENSIONS))})(?=[\s,;]|$)")
"""A path up to the ending of a picture: it may hold blanks."""

_SEQUENCES = re.compile(r"(0001TP|0006R0|0016E5|Seq05VD)_")
"""How the images of CamVid's four videos are called."""
_CLASSES: dict[str, Any] = {
    "names": [
        *("Sky", "Building", "Pole", "Road", "Pavement", "Tree"),
        *("SignSymbol", "Fence", "Car", "Pedestrian", "Bicyclist"),
    ],
    "colors": [
        *([128, 128, 128], [128, 0, 0], [192, 192, 128], [128, 64, 128], [60, 40, 222], [128, 128, 0]),
        *([192, 128, 128], [64, 64, 128], [64, 0, 128], [64, 64, 0], [0, 128, 192]),
    ],
    "ignore": [11],
    "coding": "index",
}
"""The 11 classes of the SegNet paper; 11 is void."""


def find_pairs(root: Path) -> DatasetIndex:
    """The pairs that the lists name. DataError names a line whose image and mask are both missing."""
    found = match([_part(root, split, path) for split, path in _lists(root).items()])
    camvid = all(_SEQUENCES.match(sample.image_path.name) for sample in found.samples)
    return replace(found, description=_CLASSES if camvid and found.samples else {})


def _lists(root: Path) -> dict[Split, Path]:
    """The lists by split, all of them where one names pairs: another that does not is at fault."""
    lists = of_splits([path for path in sorted(root.glob("*.txt")) if path.is_file()])
    return lists if any(_is_list(path) for path in lists.values()) else {}


def _is_list(path: Path) -> bool:
    """Whether the first line that is not empty names two pictures."""
    with path.open(encoding="utf-8-sig", errors="replace") as file:
        first = next((line for line in file if line.strip()), "")
    return len(_PATH.findall(first)) >= 2


def _part(root: Path, split: Split, path: Path) -> Part:
    images: dict[str, list[Path]] = {}
    labels: dict[str, list[Path]] = {}
    for number, image_text, label_text in _pairs(path):
        image, label = _below(root, image_text), _below(root, label_text)
        there = image or label
        if there is None:
            raise DataError(
                f"{path}, line {number}: neither {image_text} nor {label_text} lies below {root}; "
                f"put them back, or remove the line."
            )
        name = there.relative_to(root).with_suffix("").as_posix().removeprefix(f"{split}/")
        _add(images, name, image)
        _add(labels, name, label)
    return Part(images=images, labels=labels, split=split)


def _pairs(path: Path) -> Iterator[tuple[int, str, str]]:
    """Line number, image and mask; some lists hold all their pairs in one line."""
    for number, line in read_lines(path):
        found = _PATH.findall(line)
        if not found or len(found) % 2:
            raise DataError(
                f"{path}, line {number} holds {line[:100]!r}; write the path of an image and the path of its mask."
            )
        yield from ((number, *pair) for pair in zip(found[::2], found[1::2], strict=True))


def _below(root: Path, text: str) -> Path | None:
    """The file below the root that the longest end of a path names."""
    steps = [step for step in text.replace("\\", "/").split("/") if step not in ("", ".")]
    ends = (root.joinpath(*steps[i:]) for i in range(len(steps)) if ".." not in steps[i:])
    return next((path for path in ends if path.is_file()), None)


def _add(files: dict[str, list[Path]], name: str, path: Path | None) -> None:
    """A line that stands there twice is one pair; two masks of an image clash."""
    if path and path not in files.setdefault(name, []):
        files[name].append(path)


def can_read(root: Path) -> bool:
    return bool(_lists(root))
