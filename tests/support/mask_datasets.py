"""Tiny datasets of all formats whose labels are mask files, and the expected results of reading them."""

import itertools
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from pixelwise.data.io.images import Array, write_png

SIZE = (4, 6)


_seeds = itertools.count()


def image(channels: int = 3) -> Array:
    """Make a random image; equal images would be reported as duplicates."""
    pixels = np.random.default_rng(next(_seeds)).integers(0, 256, (*SIZE, channels), np.uint8)
    return pixels if channels > 1 else pixels[..., 0]


def mask(*values: int) -> Array:
    """Make a mask that repeats the values row by row."""
    return np.resize(np.array(values, np.uint8), SIZE)


def pairs(root: Path, values: tuple[int, ...], *names: tuple[str, str]) -> None:
    """Write an image and a mask of the values for each pair of names."""
    for image_name, mask_name in names:
        write_png(root / image_name, image())
        write_png(root / mask_name, mask(*values))


def text(path: Path, content: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content, encoding="utf-8")


def folder(root: Path) -> None:
    names = ((f"img_dir/{part}/{i}.png", f"ann_dir/{part}/{i}.png") for part in ("train", "val") for i in "ab")
    pairs(root, (0, 1, 255), *names)


def camvid(root: Path) -> None:
    for split, stems in {"train": ("0001TP_1", "0016E5_2"), "val": ("0001TP_3",), "test": ("Seq05VD_f4",)}.items():
        pairs(root, (0, 3, 10, 11), *((f"{split}/{s}.png", f"{split}annot/{s}.png") for s in stems))
        lines = [f"/SegNet/CamVid/{split}/{s}.png /SegNet/CamVid/{split}annot/{s}.png\n" for s in stems]
        text(root / f"{split}.txt", "".join(lines))


def voc(root: Path) -> None:
    """Write VOC with palette masks in arbitrary colors."""
    for stem in ("2007_000032", "2007_000039", "2008_000051"):
        write_png(root / f"JPEGImages/{stem}.png", image())
        write_png(root / f"SegmentationClass/{stem}.png", mask(0, 15, 20, 255), [(i, 255 - i, 7) for i in range(256)])
    write_png(root / "JPEGImages/2009_000001.png", image())  # for detection, as most of VOC's images are
    lists = root / "ImageSets/Segmentation"
    text(lists / "train.txt", "2007_000032\n2008_000051\n")
    text(lists / "val.txt", "2007_000039\n")
    text(lists / "trainval.txt", "2007_000032\n2007_000039\n2008_000051\n")


def _cityscapes(root: Path, form: str, values: tuple[int, ...]) -> None:
    for place in ("train/aachen/aachen_0", "train/zurich/zurich_0", "val/lindau/lindau_0", "test/berlin/berlin_0"):
        pairs(root, values, (f"leftImg8bit/{place}_leftImg8bit.png", f"gtFine/{place}_gtFine_{form}.png"))
        write_png(root / f"gtFine/{place}_gtFine_instanceIds.png", mask(0))
        text(root / f"gtFine/{place}_gtFine_polygons.json", "{}")


def cityscapes(root: Path) -> None:
    _cityscapes(root, "labelTrainIds", (0, 18, 255))


def cityscapes_ids(root: Path) -> None:
    _cityscapes(root, "labelIds", (7, 33, 4))


def ade20k(root: Path) -> None:
    for split, short, numbers in (("training", "train", (1, 2)), ("validation", "val", (1,))):
        for number in numbers:
            stem = f"{split}/ADE_{short}_{number:08d}"
            pairs(root, (0, 1, 150), (f"images/{stem}.png", f"annotations/{stem}.png"))
    names = ["wall", "bed ", "building, edifice", *(f"thing{number}" for number in range(147))]
    rows = [f"{number}\t0.1\t10\t1\t{name}\n" for number, name in enumerate(names, 1)]
    text(root / "objectInfo150.txt", "Idx\tRatio\tTrain\tVal\tName\n" + "".join(rows))


INFO = {
    "channel_names": {"0": "red", "1": "infrared"},
    "labels": {"background": 0, "tree": 1, "ignore": 2},
    "numTraining": 3,
    "file_ending": ".png",
}


def nnunet(root: Path) -> None:
    """Write cases of two channel files, and a test split with labels."""
    for part, cases in {"Tr": ("road_a", "road_b"), "Ts": ("road_c",)}.items():
        for case in cases:
            for channel in range(2):
                write_png(root / f"images{part}/{case}_{channel:04d}.png", image(1))
            write_png(root / f"labels{part}/{case}.png", mask(0, 1, 2))
    text(root / "dataset.json", json.dumps(INFO))


def nnunet_rgb(root: Path) -> None:
    """Write cases of one RGB file, and a test split without labels."""
    pairs(root, (0, 1), *((f"imagesTr/{case}_0000.png", f"labelsTr/{case}.png") for case in "ab"))
    write_png(root / "imagesTs/c_0000.png", image())
    channels = {"0": "R", "1": "G", "2": "B"}
    text(root / "dataset.json", json.dumps(INFO | {"channel_names": channels, "labels": {"background": 0, "x": 1}}))


@dataclass(frozen=True, slots=True, kw_only=True)
class MaskDataset:
    """A dataset and the expected results of reading it."""

    build: Callable[[Path], None]
    format: str
    samples: list[tuple[str, str | None]]
    """Expected name and split of each sample."""
    values: tuple[int, ...]
    """Values that every mask repeats."""
    labels: tuple[int, ...]
    """Expected labels of these values."""
    classes: dict[int, str]
    """Expected names of some classes by index; the highest index is the last."""
    channels: int = 3
    codes: list[str] = field(default_factory=list)
    """Codes of the findings of `check`, without those of unused classes."""


def _of(split: str, *names: str) -> list[tuple[str, str | None]]:
    return [(f"{split}/{name}", split) for name in names]


MASK_DATASETS = {
    "folder": MaskDataset(
        build=folder,
        format="folder",
        samples=_of("train", "a", "b") + _of("val", "a", "b"),
        values=(0, 1, 255),
        labels=(0, 1, 255),
        classes={0: "0", 1: "1"},
        codes=["ids_compacted"],
    ),
    "camvid": MaskDataset(
        build=camvid,
        format="camvid",
        samples=_of("test", "Seq05VD_f4") + _of("train", "0001TP_1", "0016E5_2") + _of("val", "0001TP_3"),
        values=(0, 3, 10, 11),
        labels=(0, 3, 10, 255),
        classes={0: "Sky", 10: "Bicyclist"},
    ),
    "voc": MaskDataset(
        build=voc,
        format="voc",
        samples=_of("train", "2007_000032", "2008_000051") + _of("val", "2007_000039"),
        values=(0, 15, 20, 255),
        labels=(0, 15, 20, 255),
        classes={0: "background", 15: "person", 20: "tvmonitor"},
        codes=["split_lists"],
    ),
    "cityscapes": MaskDataset(
        build=cityscapes,
        format="cityscapes",
        samples=_of("train", "aachen/aachen_0", "zurich/zurich_0") + _of("val", "lindau/lindau_0"),
        values=(0, 18, 255),
        labels=(0, 18, 255),
        classes={0: "road", 18: "bicycle"},
    ),
    "cityscapes in ids": MaskDataset(
        build=cityscapes_ids,
        format="cityscapes",
        samples=_of("train", "aachen/aachen_0", "zurich/zurich_0") + _of("val", "lindau/lindau_0"),
        values=(7, 33, 4),
        labels=(0, 18, 255),
        classes={0: "road", 18: "bicycle"},
    ),
    "ade20k": MaskDataset(
        build=ade20k,
        format="ade20k",
        samples=_of("train", "ADE_train_00000001", "ADE_train_00000002") + _of("val", "ADE_val_00000001"),
        values=(0, 1, 150),
        labels=(255, 0, 149),
        classes={0: "wall", 1: "bed", 2: "building", 149: "thing146"},
    ),
    "nnunet": MaskDataset(
        build=nnunet,
        format="nnunet",
        samples=_of("test", "road_c") + _of("train", "road_a", "road_b"),
        values=(0, 1, 2),
        labels=(0, 1, 255),
        classes={0: "background", 1: "tree"},
        channels=2,
        codes=["split_made"],
    ),
    "nnunet of RGB files": MaskDataset(
        build=nnunet_rgb,
        format="nnunet",
        samples=[("a", None), ("b", None)],
        values=(0, 1),
        labels=(0, 1),
        classes={0: "background", 1: "x"},
        codes=["unlabeled_images", "split_made"],
    ),
}
