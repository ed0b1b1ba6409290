"""Cityscapes: images and fine masks by split and city, in the 19 classes that are scored.

    leftImg8bit/train/aachen/aachen_000000_000019_leftImg8bit.png
    gtFine/train/aachen/aachen_000000_000019_gtFine_labelTrainIds.png

Or `_gtFine_labelIds.png`, mapped.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from pixelwise.data.formats._files import Part, by_stem, labeled, match, outside
from pixelwise.data.formats.dataset_index import DatasetIndex
from pixelwise.data.sample import SPLITS, Split

CLASSES: Sequence[tuple[str, int, tuple[int, int, int]]] = (
    ("road", 7, (128, 64, 128)),
    ("sidewalk", 8, (244, 35, 232)),
    ("building", 11, (70, 70, 70)),
    ("wall", 12, (102, 102, 156)),
    ("fence", 13, (190, 153, 153)),
    ("pole", 17, (153, 153, 153)),
    ("traffic light", 19, (250, 170, 30)),
    ("traffic sign", 20, (220, 220, 0)),
    ("vegetation", 21, (107, 142, 35)),
    ("terrain", 22, (152, 251, 152)),
    ("sky", 23, (70, 130, 180)),
    ("person", 24, (220, 20, 60)),
    ("rider", 25, (255, 0, 0)),
    ("car", 26, (0, 0, 142)),
    ("truck", 27, (0, 0, 70)),
    ("bus", 28, (0, 60, 100)),
    ("train", 31, (0, 80, 100)),
    ("motorcycle", 32, (0, 0, 230)),
    ("bicycle", 33, (119, 11, 32)),
)
"""Name, id and color in the order of the trainIds 0..18."""

_IMAGES, _LABELS = "leftImg8bit", "gtFine"
_TRAIN_IDS, _IDS = "_gtFine_labelTrainIds", "_gtFine_labelIds"
_UNLABELED_CITIES = {"berlin", "bielefeld", "bonn", "leverkusen", "mainz", "munich"}
"""The published test split: its mask files hold no class, since its labels are kept secret."""
_COARSE = "train_extra"
"""Images that have coarse masks only."""


def find_pairs(root: Path) -> DatasetIndex:
    """The pairs of train, val and test, in trainIds where as many masks have that form, else in ids."""
    by_train_ids, by_ids = (_pairs(root, ending) for ending in (_TRAIN_IDS, _IDS))
    in_ids = len(by_ids.samples) > len(by_train_ids.samples)
    return replace(
        by_ids if in_ids else by_train_ids,
        outside_splits=outside([root / _IMAGES], [root / _IMAGES / name for name in (*SPLITS, _COARSE)]),
        description=_description({id_: index for index, (_, id_, _) in enumerate(CLASSES)} if in_ids else None),
    )


def _pairs(root: Path, ending: str) -> DatasetIndex:
    return match(labeled(_part(root, split, ending) for split in SPLITS))


def _part(root: Path, split: Split, ending: str) -> Part:
    images = {name.removesuffix("_leftImg8bit"): paths for name, paths in by_stem(root / _IMAGES / split).items()}
    labels = {
        name.removesuffix(ending): paths
        for name, paths in by_stem(root / _LABELS / split).items()
        if name.endswith(ending)
    }
    if split == "test":
        images, labels = _published(images), _published(labels)
    return Part(images=images, labels=labels, split=split)


def _published(files: Mapping[str, list[Path]]) -> dict[str, list[Path]]:
    return {name: paths for name, paths in files.items() if name.partition("/")[0] not in _UNLABELED_CITIES}


def _description(mapping: Mapping[int, int] | None) -> dict[str, Any]:
    """What stands for no class is ignored, whatever its value."""
    listed = range(len(CLASSES)) if mapping is None else mapping
    return {
        "names": [name for name, _, _ in CLASSES],
        "colors": [list(color) for _, _, color in CLASSES],
        "ignore": [value for value in range(256) if value not in listed],
        "coding": "index",
        **({} if mapping is None else {"label_mapping": mapping}),
    }


def can_read(root: Path) -> bool:
    return (root / _IMAGES).is_dir() and (root / _LABELS).is_dir()
