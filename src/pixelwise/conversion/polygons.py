"""Writers of formats with objects: COCO and YOLO. Each region of one class becomes an object.

Readers treat pixels without an object as background. A class named `background` at index 0 therefore has no
objects. Ignored pixels become objects of their own category, or background.
"""

import json
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from pixelwise.conversion.polygonize import Position, Region, find_regions, trace_polygon
from pixelwise.conversion.writer import EncodedSample, format_image_keys, make_nested_name, write_file
from pixelwise.data.classes import Classes
from pixelwise.data.dataset import Dataset
from pixelwise.data.io.images import Array
from pixelwise.errors import DataError, format_count, missing_extra
from pixelwise.shapes import Size

BACKGROUND_NAME = "background"
IGNORE_NAME = "ignore"
"""Category of ignored pixels in COCO."""


def get_object_labels(classes: Classes) -> range:
    """Return the classes that become objects: all except a background."""
    return range(int(classes.names[0].lower() == BACKGROUND_NAME), len(classes.names))


def get_coco_category(classes: Classes, label: int) -> int:
    """Return the COCO category of a label. Categories start at 1, because 0 is the background."""
    return label + 1 - get_object_labels(classes).start


def make_coco_categories(classes: Classes) -> list[dict[str, Any]]:
    """Return a COCO category for each class that becomes objects."""
    return [
        {"id": get_coco_category(classes, label), "name": classes.names[label], "color": list(classes.colors[label])}
        for label in get_object_labels(classes)
    ]


class CocoWriter:
    """Writer of annotations/instances_SPLIT.json and images/SPLIT, with masks as compressed run lengths."""

    def __init__(self, root: Path, dataset: Dataset) -> None:
        try:
            from pycocotools import mask
        except ImportError as error:
            raise missing_extra("writing COCO", "pycocotools", "coco") from error
        if IGNORE_NAME in dataset.classes.names:
            raise DataError(f"A class is named {IGNORE_NAME!r}, which COCO uses for ignored pixels. Rename it.")
        self.encode = mask.encode
        self.root, self.classes = root, dataset.classes
        if text := format_image_keys(dataset.channels, dataset.nodata):
            write_file(root / "dataset.yaml", text)
        self.images: dict[str, list[dict[str, Any]]] = defaultdict(list)
        self.annotations: dict[str, list[dict[str, Any]]] = defaultdict(list)
        self.has_ignored = False

    def add(self, encoded: EncodedSample) -> None:
        split, (height, width) = encoded.split or "train", encoded.labels.shape
        number = len(self.images[split]) + 1
        file_name = f"{make_nested_name(encoded.sample)}{encoded.suffix}"
        self.images[split].append({"id": number, "file_name": file_name, "width": width, "height": height})
        write_file(self.root / "images" / split / file_name, encoded.image)
        ignore_index = self.classes.ignore_index
        for region in find_regions(encoded.labels, get_object_labels(self.classes)):
            self._annotate(split, number, region, (height, width), is_ignored=False)
        for region in find_regions(encoded.labels, range(ignore_index, ignore_index + 1)):
            self._annotate(split, number, region, (height, width), is_ignored=True)

    def _annotate(self, split: str, image: int, region: Region, size: Size, *, is_ignored: bool) -> None:
        annotations = self.annotations[split]
        height, width = region.inside.shape
        label = len(self.classes.names) if is_ignored else region.label
        entry = {
            "id": len(annotations) + 1,
            "image_id": image,
            "category_id": get_coco_category(self.classes, label),
            "iscrowd": int(is_ignored),
            "bbox": [region.left, region.top, width, height],
            "area": int(region.inside.sum()),
            "segmentation": self._encode_mask(region, size),
        }
        if is_ignored:
            entry["ignore"] = 1
            self.has_ignored = True
        annotations.append(entry)

    def _encode_mask(self, region: Region, size: Size) -> dict[str, Any]:
        mask: Array = np.zeros(size, np.uint8, order="F")
        height, width = region.inside.shape
        mask[region.top : region.top + height, region.left : region.left + width] = region.inside
        encoded = self.encode(mask)
        return {"size": list(encoded["size"]), "counts": encoded["counts"].decode()}

    def finish(self) -> list[str]:
        categories = make_coco_categories(self.classes)
        if self.has_ignored:
            category = get_coco_category(self.classes, len(self.classes.names))
            categories.append({"id": category, "name": IGNORE_NAME})
        for split, images in self.images.items():
            values = {"images": images, "categories": categories, "annotations": self.annotations[split]}
            text = json.dumps(values, ensure_ascii=False) + "\n"
            write_file(self.root / "annotations" / f"instances_{split}.json", text)
        return []


class YoloWriter:
    """Writer of images/SPLIT, labels/SPLIT with a polygon in each line, and data.yaml.

    Polygons follow the edges of pixels and exclude holes, so the pixels whose centers are inside are those of the
    region; large regions come first. The format cannot represent ignored pixels.
    """

    def __init__(self, root: Path, dataset: Dataset) -> None:
        self.root, self.classes = root, dataset.classes
        if text := format_image_keys(dataset.channels, dataset.nodata):
            write_file(root / "dataset.yaml", text)
        self.objects = get_object_labels(dataset.classes)
        self.splits: Counter[str] = Counter()
        self.num_ignored: list[int] = []
        """Number of ignored pixels of each image that has some."""

    def add(self, encoded: EncodedSample) -> None:
        split, name = encoded.split or "train", make_nested_name(encoded.sample)
        regions = sorted(find_regions(encoded.labels, self.objects), key=lambda region: -region.inside.size)
        lines = [
            f"{region.label - self.objects.start} {_format_polygon(trace_polygon(region), encoded.labels.shape)}\n"
            for region in regions
        ]
        write_file(self.root / "images" / split / f"{name}{encoded.suffix}", encoded.image)
        write_file(self.root / "labels" / split / f"{name}.txt", "".join(lines))
        self.splits[split] += 1
        if ignored := int((encoded.labels == self.classes.ignore_index).sum()):
            self.num_ignored.append(ignored)

    def finish(self) -> list[str]:
        values = {
            "path": ".",
            **{split: f"images/{split}" for split in self.splits},
            "names": dict(enumerate(self.classes.names[self.objects.start :])),
        }
        write_file(self.root / "data.yaml", yaml.safe_dump(values, sort_keys=False, allow_unicode=True))
        if not self.num_ignored:
            return []
        return [
            f"YOLO cannot represent ignored pixels: {sum(self.num_ignored):,} ignored pixels of "
            f"{format_count(len(self.num_ignored), 'image')} became background"
        ]


def _format_polygon(points: list[Position], size: tuple[int, ...]) -> str:
    """Format x and y as fractions of width and height; six digits move no corner by half a pixel in any image."""
    return " ".join(f"{x / size[1]:.6f} {y / size[0]:.6f}" for x, y in points)
