"""Formats of objects, not of pixels: COCO and YOLO. A region of one class becomes an object.

Pixels that no object covers are background to whoever reads them, so a class called `background` at
index 0 has no objects, and ignored pixels need some of their own or become background.
"""

import json
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from pixelwise.conversion.polygonize import Point, Region, polygon, regions
from pixelwise.conversion.writer import Content, Pair, nested_name, write_file
from pixelwise.data.classes import Classes
from pixelwise.data.io.images import Array
from pixelwise.errors import DataError, missing_extra
from pixelwise.shapes import Size

BACKGROUND = "background"
IGNORED = "ignore"
"""Category of ignored pixels in COCO."""


def object_labels(classes: Classes) -> range:
    """Classes that become objects: all but a background."""
    return range(int(classes.names[0].lower() == BACKGROUND), len(classes.names))


def coco_category(classes: Classes, label: int) -> int:
    """Numbers of COCO's categories begin at 1; 0 is left for the background."""
    return label + 1 - object_labels(classes).start


def coco_categories(classes: Classes) -> list[dict[str, Any]]:
    """One for each class that becomes objects."""
    return [
        {"id": coco_category(classes, label), "name": classes.names[label], "color": list(classes.colors[label])}
        for label in object_labels(classes)
    ]


class CocoWriter:
    """annotations/instances_SPLIT.json over images/SPLIT, masks as compressed run lengths: pixel for pixel."""

    def __init__(self, root: Path, content: Content) -> None:
        self.encode = _run_length_encoder()
        if IGNORED in content.classes.names:
            raise DataError(f"a class is named {IGNORED!r}, which stands for pixels to ignore; rename it.")
        self.root, self.classes = root, content.classes
        self.objects = object_labels(content.classes)
        self.images: dict[str, list[dict[str, Any]]] = defaultdict(list)
        self.annotations: dict[str, list[dict[str, Any]]] = defaultdict(list)
        self.ignores = False

    def add(self, pair: Pair) -> None:
        split, (height, width) = pair.split or "train", pair.labels.shape
        number = len(self.images[split]) + 1
        file_name = f"{nested_name(pair.sample)}{pair.ending}"
        self.images[split].append({"id": number, "file_name": file_name, "width": width, "height": height})
        write_file(self.root / "images" / split / file_name, pair.image)
        for region in regions(pair.labels, self.objects):
            self._annotate(split, number, region, (height, width), ignored=False)
        for region in regions(pair.labels, range(self.classes.ignore_index, self.classes.ignore_index + 1)):
            self._annotate(split, number, region, (height, width), ignored=True)

    def _annotate(self, split: str, image: int, region: Region, size: Size, *, ignored: bool) -> None:
        found = self.annotations[split]
        height, width = region.inside.shape
        entry = {
            "id": len(found) + 1,
            "image_id": image,
            "category_id": coco_category(self.classes, len(self.classes.names) if ignored else region.label),
            "iscrowd": int(ignored),
            "bbox": [region.left, region.top, width, height],
            "area": int(region.inside.sum()),
            "segmentation": self.encode(_whole(region, size)),
        }
        found.append({**entry, "ignore": 1} if ignored else entry)
        self.ignores |= ignored

    def finish(self) -> list[str]:
        categories = coco_categories(self.classes)
        if self.ignores:
            categories.append({"id": coco_category(self.classes, len(self.classes.names)), "name": IGNORED})
        for split, images in self.images.items():
            values = {"images": images, "categories": categories, "annotations": self.annotations[split]}
            text = json.dumps(values, ensure_ascii=False) + "\n"
            write_file(self.root / "annotations" / f"instances_{split}.json", text)
        return []


def _run_length_encoder() -> Any:
    try:
        from pycocotools import mask
    except ImportError as error:
        raise missing_extra("writing COCO", "pycocotools", "coco") from error

    def encode(pixels: Array) -> dict[str, Any]:
        coded = mask.encode(np.asfortranarray(pixels.astype(np.uint8)))
        return {"size": list(coded["size"]), "counts": coded["counts"].decode()}

    return encode


def _whole(region: Region, size: Size) -> Array:
    """(H, W) bool of the whole image."""
    mask = np.zeros(size, bool)
    height, width = region.inside.shape
    mask[region.top : region.top + height, region.left : region.left + width] = region.inside
    return mask


class YoloWriter:
    """images/SPLIT, labels/SPLIT with a polygon a line, and data.yaml.

    Polygons run along the edges of pixels and cut out holes, so that pixels whose centers are inside
    are those of the region; larger ones come first. There is no word for ignored pixels.
    """

    def __init__(self, root: Path, content: Content) -> None:
        self.root, self.classes = root, content.classes
        self.objects = object_labels(content.classes)
        self.splits: Counter[str] = Counter()
        self.lost: list[int] = []
        """Ignored pixels of each image that has some."""

    def add(self, pair: Pair) -> None:
        split, name = pair.split or "train", nested_name(pair.sample)
        found = sorted(regions(pair.labels, self.objects), key=lambda region: -region.inside.size)
        lines = [
            f"{region.label - self.objects.start} {_fractions(polygon(region), pair.labels.shape)}\n"
            for region in found
        ]
        write_file(self.root / "images" / split / f"{name}{pair.ending}", pair.image)
        write_file(self.root / "labels" / split / f"{name}.txt", "".join(lines))
        self.splits[split] += 1
        if ignored := int((pair.labels == self.classes.ignore_index).sum()):
            self.lost.append(ignored)

    def finish(self) -> list[str]:
        values = {
            "path": ".",
            **{split: f"images/{split}" for split in self.splits},
            "names": dict(enumerate(self.classes.names[self.objects.start :])),
        }
        write_file(self.root / "data.yaml", yaml.safe_dump(values, sort_keys=False, allow_unicode=True))
        if not self.lost:
            return []
        return [
            f"YOLO cannot say which pixels to ignore: {sum(self.lost):,} pixels of {len(self.lost)} image(s) "
            f"that were ignored are background now"
        ]


def _fractions(points: list[Point], size: tuple[int, ...]) -> str:
    """x and y as shares of width and height; six digits move no corner by half a pixel in any image."""
    return " ".join(f"{x / size[1]:.6f} {y / size[0]:.6f}" for x, y in points)
