"""Tiny datasets of all formats that name their classes, each with the same three areas in every image."""

import io
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pixelwise.data.io.images import Array, encode_png, write_png

SIZE = (6, 8)
AREAS = np.zeros(SIZE, int)
"""Number of the area of each pixel."""
AREAS[1:4, 1:5] = 1
AREAS[2:6, 5:7] = 2
BOXES = {1: (1, 1, 5, 4), 2: (5, 2, 7, 6)}
"""Left, top, right and bottom of the areas 1 and 2."""
DRAWN = {1: "box", 2: "disc"}
"""Areas that formats of shapes draw, and their names."""
STEMS = ("a", "b", "c", "d")


def make_image(stem: str) -> Array:
    return np.random.default_rng(ord(stem[-1])).integers(0, 256, (*SIZE, 3), np.uint8)


def write_text(path: Path, content: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")


def write_masks(
    root: Path, values: Iterable[Any], image: str = "images/{}.png", mask: str = "masks/{}.png", stems: Any = STEMS
) -> None:
    table = np.array(list(values), np.uint8)
    for stem in stems:
        write_png(root / image.format(stem), make_image(stem))
        write_png(root / mask.format(stem), table[AREAS])


def write_images(root: Path, pattern: str = "images/{}.png") -> None:
    for stem in STEMS:
        write_png(root / pattern.format(stem), make_image(stem))


def outline(area: int) -> list[list[int]]:
    left, top, right, bottom = BOXES[area]
    return [[left, top], [right, top], [right, bottom], [left, bottom]]


def codes(root: Path) -> None:
    write_masks(root, (0, 1, 2))
    write_text(root / "codes.txt", "background\nbox\ndisc\n")


def class_dict(root: Path, coded: bool) -> None:
    colors = [(9, 0, 0), (0, 9, 0), (0, 0, 9)]
    write_masks(root, colors if coded else (0, 1, 2))
    rows = zip(("background", "box", "disc"), colors, strict=True)
    write_text(root / "class_dict.csv", "name,r,g,b\n" + "".join(f"{n},{r},{g},{b}\n" for n, (r, g, b) in rows))


def mask_per_class(root: Path) -> None:
    for area, name in ((1, "box"), (2, "disc")):
        write_masks(root, [255 * (number == area) for number in range(3)], mask=f"masks/{name}/{{}}.png")


def camvid(root: Path) -> None:
    stems = [f"0001TP_{stem}" for stem in STEMS]
    write_masks(root, (0, 8, 5), "train/{}.png", "trainannot/{}.png", stems)
    write_text(root / "train.txt", "".join(f"train/{stem}.png trainannot/{stem}.png\n" for stem in stems))


VOC = ("JPEGImages/{}.png", "SegmentationClass/{}.png")


def voc(root: Path) -> None:
    write_masks(root, (0, 15, 11), *VOC, stems=[f"2007_00000{i}" for i in range(4)])


def voc_of_cvat(root: Path) -> None:
    write_masks(root, [(0, 0, 0), (1, 2, 3), (4, 5, 6)], *VOC)
    write_text(root / "labelmap.txt", "# label\nbackground:0,0,0::\nbox:1,2,3::\ndisc:4,5,6::\n")


def voc_of_labelme(root: Path) -> None:
    write_masks(root, (0, 1, 2), *VOC)
    write_text(root / "class_names.txt", "_background_\nbox\ndisc\n")


def cityscapes(root: Path, form: str, values: tuple[int, ...]) -> None:
    image, mask = "leftImg8bit/train/x/x_{}_leftImg8bit.png", f"gtFine/train/x/x_{{}}_gtFine_{form}.png"
    write_masks(root, values, image, mask)


def ade20k(root: Path) -> None:
    write_masks(root, (3, 1, 2), "images/training/ADE_{}.png", "annotations/training/ADE_{}.png")
    rows = [f"{i}\t0.1\t10\t1\tthing{i}\n" for i in range(1, 151)]
    write_text(root / "objectInfo150.txt", "Idx\tRatio\tTrain\tVal\tName\n" + "".join(rows))


def nnunet(root: Path) -> None:
    write_masks(root, (0, 7, 3), "imagesTr/{}_0000.png", "labelsTr/{}.png")
    labels = {"background": 0, "box": 7, "disc": 3}
    write_text(root / "dataset.json", {"channel_names": {"0": "R"}, "labels": labels, "file_ending": ".png"})


def huggingface(root: Path, has_file: bool = True) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    values = np.array((0, 7, 3) if has_file else (0, 1, 2), np.uint8)
    picture = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    columns = {
        "image": pa.array([{"bytes": encode_png(make_image(s)), "path": s} for s in STEMS], picture),
        "label": pa.array([{"bytes": encode_png(values[AREAS]), "path": s} for s in STEMS], picture),
    }
    names = {"feature": {"_type": "ClassLabel", "names": ["background", "box", "disc"]}}
    features = {} if has_file else {"objects": names}
    noted = {"huggingface": json.dumps({"info": {"features": features}})}
    root.mkdir(parents=True, exist_ok=True)
    buffer = io.BytesIO()
    pq.write_table(pa.table(columns).replace_schema_metadata(noted), buffer)
    (root / "train-00000-of-00001.parquet").write_bytes(buffer.getvalue())
    if has_file:
        write_text(root / "id2label.json", {"0": "background", "7": "box", "3": "disc"})


def coco(root: Path) -> None:
    write_images(root)
    images = [{"id": i, "file_name": f"{s}.png", "height": SIZE[0], "width": SIZE[1]} for i, s in enumerate(STEMS)]
    ids = {"box": 9, "disc": 4}
    drawn = [(area, ids[name], [np.ravel(outline(area)).tolist()]) for area, name in DRAWN.items()]
    annotations = [
        {"id": 10 * i + area, "image_id": i, "category_id": key, "segmentation": parts}
        for i in range(len(STEMS))
        for area, key, parts in drawn
    ]
    categories = [{"id": key, "name": name} for name, key in ids.items()]
    write_text(root / "train.json", {"images": images, "annotations": annotations, "categories": categories})


def labelme(root: Path) -> None:
    write_images(root, "{}.png")
    shapes = [{"label": name, "points": outline(area), "shape_type": "polygon"} for area, name in DRAWN.items()]
    for stem in STEMS:
        content = {"shapes": shapes, "imagePath": f"{stem}.png", "imageHeight": SIZE[0], "imageWidth": SIZE[1]}
        write_text(root / f"{stem}.json", content)


def cvat(root: Path) -> None:
    write_images(root)
    labels = "".join(f"<label><name>{name}</name></label>" for name in ("disc", "box"))
    shapes = "".join(
        f'<polygon label="{name}" points="{";".join(f"{x},{y}" for x, y in outline(area))}"/>'
        for area, name in DRAWN.items()
    )
    images = "".join(f'<image name="{s}.png" width="{SIZE[1]}" height="{SIZE[0]}">{shapes}</image>' for s in STEMS)
    meta = f"<meta><task><labels>{labels}</labels></task></meta>"
    write_text(root / "annotations.xml", f"<annotations>{meta}{images}</annotations>")


def yolo(root: Path) -> None:
    write_images(root, "images/train/{}.png")
    write_text(root / "data.yaml", "train: images/train\nnames: {0: disc, 1: box}\n")
    lines = [
        f"{('disc', 'box').index(name)} " + " ".join(f"{x / SIZE[1]} {y / SIZE[0]}" for x, y in outline(area)) + "\n"
        for area, name in DRAWN.items()
    ]
    for stem in STEMS:
        write_text(root / f"labels/train/{stem}.txt", "".join(lines))


def supervisely(root: Path) -> None:
    write_images(root, "ds/img/{}.png")
    classes = [{"title": name, "shape": "polygon"} for name in ("disc", "box")]
    write_text(root / "meta.json", {"classes": classes})
    objects = []
    for area, name in DRAWN.items():
        left, top, right, bottom = BOXES[area]  # pixel numbers include the last
        points = {"exterior": [[left, top], [right - 1, bottom - 1]]}
        objects.append({"classTitle": name, "geometryType": "rectangle", "points": points})
    content = {"size": {"height": SIZE[0], "width": SIZE[1]}, "objects": objects}
    for stem in STEMS:
        write_text(root / f"ds/ann/{stem}.png.json", content)


@dataclass(frozen=True, slots=True, kw_only=True)
class NamedDataset:
    """A dataset of a format that names its classes."""

    build: Callable[[Path], None]
    format: str
    names: tuple[str, str, str] = ("background", "box", "disc")
    """Names of the areas 0, 1 and 2; the format may have more classes."""


NAMED_DATASETS = {
    "codes.txt": NamedDataset(build=codes, format="folder"),
    "class_dict.csv": NamedDataset(build=lambda root: class_dict(root, coded=False), format="folder"),
    "class_dict.csv of colors": NamedDataset(build=lambda root: class_dict(root, coded=True), format="folder"),
    "a mask per class": NamedDataset(build=mask_per_class, format="folder"),
    "camvid": NamedDataset(build=camvid, format="camvid", names=("Sky", "Car", "Tree")),
    "voc": NamedDataset(build=voc, format="voc", names=("background", "person", "diningtable")),
    "voc of CVAT": NamedDataset(build=voc_of_cvat, format="voc"),
    "voc of labelme": NamedDataset(build=voc_of_labelme, format="voc", names=("_background_", "box", "disc")),
    "cityscapes": NamedDataset(
        build=lambda root: cityscapes(root, "labelTrainIds", (0, 13, 8)),
        format="cityscapes",
        names=("road", "car", "vegetation"),
    ),
    "cityscapes in ids": NamedDataset(
        build=lambda root: cityscapes(root, "labelIds", (7, 26, 21)),
        format="cityscapes",
        names=("road", "car", "vegetation"),
    ),
    "ade20k": NamedDataset(build=ade20k, format="ade20k", names=("thing3", "thing1", "thing2")),
    "nnunet": NamedDataset(build=nnunet, format="nnunet"),
    "huggingface with id2label": NamedDataset(build=huggingface, format="huggingface"),
    "huggingface with a column": NamedDataset(
        build=lambda root: huggingface(root, has_file=False), format="huggingface"
    ),
    "coco": NamedDataset(build=coco, format="coco"),
    "labelme": NamedDataset(build=labelme, format="labelme"),
    "cvat": NamedDataset(build=cvat, format="cvat"),
    "yolo": NamedDataset(build=yolo, format="yolo"),
    "supervisely": NamedDataset(build=supervisely, format="supervisely"),
}
