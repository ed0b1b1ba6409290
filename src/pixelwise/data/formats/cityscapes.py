"""Cityscapes: images and fine masks by split and city, in the 19 evaluated classes.

leftImg8bit/train/aachen/aachen_000000_000019_leftImg8bit.png
gtFine/train/aachen/aachen_000000_000019_gtFine_labelTrainIds.png, or ..._gtFine_labelIds.png
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from pixelwise.data.description import DatasetDescription, MaskValues
from pixelwise.data.formats.dataset_index import (
    DatasetIndex,
    SplitFiles,
    find_images_outside,
    group_by_stem,
    pair_files,
)
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
"""Name, id and color in the order of the trainIds 0 to 18."""

_IMAGES, _LABELS = "leftImg8bit", "gtFine"
_TRAIN_IDS, _IDS = "_gtFine_labelTrainIds", "_gtFine_labelIds"
_UNLABELED_CITIES = {"berlin", "bielefeld", "bonn", "leverkusen", "mainz", "munich"}
"""The published test split: its labels are secret, and its mask files contain no class."""
_COARSE = "train_extra"
"""Images with coarse masks only."""


def can_read(root: Path) -> bool:
    return (root / _IMAGES).is_dir() and (root / _LABELS).is_dir()


def find_pairs(root: Path) -> DatasetIndex:
    """Find the pairs with trainIds, or with ids if there are more of them."""
    by_train_ids, by_ids = (
        pair_files(_find_files(root, split, suffix) for split in SPLITS) for suffix in (_TRAIN_IDS, _IDS)
    )
    use_ids = len(by_ids.samples) > len(by_train_ids.samples)
    mapping: dict[MaskValues, str | int] = {id_: index for index, (_, id_, _) in enumerate(CLASSES)}
    values = mapping if use_ids else range(len(CLASSES))
    description = DatasetDescription(
        names=tuple(name for name, _, _ in CLASSES),
        colors=tuple(color for _, _, color in CLASSES),
        ignore=tuple(value for value in range(256) if value not in values),
        label_mapping=mapping if use_ids else None,
        coding="index",
    )
    return replace(
        by_ids if use_ids else by_train_ids,
        outside_splits=find_images_outside([root / _IMAGES], [root / _IMAGES / name for name in (*SPLITS, _COARSE)]),
        description=description,
    )


def _find_files(root: Path, split: Split, label_suffix: str) -> SplitFiles:
    images, labels = (
        {
            name.removesuffix(suffix): paths
            for name, paths in group_by_stem(root / folder / split).items()
            if name.endswith(required) and not (split == "test" and name.partition("/")[0] in _UNLABELED_CITIES)
        }
        for folder, suffix, required in ((_IMAGES, "_leftImg8bit", ""), (_LABELS, label_suffix, label_suffix))
    )
    return SplitFiles(images=images, labels=labels, split=split)
