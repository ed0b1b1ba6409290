"""Predictions for annotation tools: LabelMe, COCO and CVAT for images.

A region of one class becomes one polygon along the edges of its pixels. Holes are cut out by bridges of
no width, so whoever takes pixels whose centers are inside reads the same labels. A class called
`background` at index 0 has no objects.
"""

import json
import os
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any, Protocol
from xml.sax.saxutils import escape, quoteattr

from pixelwise.conversion.polygonize import Point, find_regions, trace_polygon
from pixelwise.conversion.polygons import (
    BACKGROUND_NAME,
    IGNORE_NAME,
    get_coco_category,
    get_object_labels,
    make_coco_categories,
)
from pixelwise.data.classes import Classes
from pixelwise.errors import InvalidArgumentError
from pixelwise.files import write_atomically
from pixelwise.prediction.outputs.prediction_view import Labeled

TAKEN = (BACKGROUND_NAME, "_background_", IGNORE_NAME, "__ignore__")
"""Names that readers take for pixels without an object, in any case of letters."""


class JobFile(Protocol):
    """A file on all images of a job."""

    def add(self, made: Labeled) -> None:
        """The next image."""

    def mark(self) -> tuple[int, ...]:
        """Where the file stands, for `back_to`."""

    def back_to(self, mark: tuple[int, ...]) -> None:
        """Takes out what was added since."""

    def content(self) -> bytes:
        """The file, once all images are in it."""


def require_nameable(kind: str, classes: Classes) -> None:
    """InvalidArgumentError where an object's class would be read as background, or as pixels to ignore."""
    for label in get_object_labels(classes):
        if (name := classes.names[label]).lower() in TAKEN:
            raise InvalidArgumentError(
                f"readers of {kind} files take {name!r} for no object, but class {label} has this name; "
                f"save polygons or labels instead, or rename the class and train again."
            )


def write_labelme(path: Path, made: Labeled) -> None:
    """One JSON file of LabelMe; `imagePath` leads from it to the image."""
    shapes: list[dict[str, Any]] = [
        {
            "label": made.classes.names[label],
            "points": points,
            "group_id": None,
            "description": "",
            "shape_type": "polygon",
            "flags": {},
        }
        for label, points in _polygons(made)
    ]
    height, width = made.labels.shape
    content = {
        "version": "5.0.0",
        "flags": {},
        "shapes": shapes,
        "imagePath": _way(path, made.source) if made.source else PurePosixPath(made.name).name,
        "imageData": None,
        "imageHeight": height,
        "imageWidth": width,
    }
    write_atomically(path, (json.dumps(content, ensure_ascii=False) + "\n").encode())


class CocoFile:
    """`images`, `categories` and `annotations` of instances; numbers begin at 1."""

    def __init__(self, classes: Classes) -> None:
        self.classes = classes
        self.images: list[dict[str, Any]] = []
        self.annotations: list[str] = []
        """Each as its JSON: a thousandth of the memory that the lists of corners would take."""

    def add(self, made: Labeled) -> None:
        height, width = made.labels.shape
        number = len(self.images) + 1
        self.images.append({"id": number, "file_name": made.name, "width": width, "height": height})
        for region in find_regions(made.labels, get_object_labels(self.classes)):
            tall, wide = region.inside.shape
            values = {
                "id": len(self.annotations) + 1,
                "image_id": number,
                "category_id": get_coco_category(self.classes, region.label),
                "iscrowd": 0,
                "bbox": [region.left, region.top, wide, tall],
                "area": int(region.inside.sum()),
                "segmentation": [[number for point in trace_polygon(region) for number in point]],
            }
            self.annotations.append(json.dumps(values))

    def mark(self) -> tuple[int, ...]:
        return len(self.images), len(self.annotations)

    def back_to(self, mark: tuple[int, ...]) -> None:
        del self.images[mark[0] :], self.annotations[mark[1] :]

    def content(self) -> bytes:
        lists = (
            f'"images": {json.dumps(self.images, ensure_ascii=False)}',
            f'"categories": {json.dumps(make_coco_categories(self.classes), ensure_ascii=False)}',
            f'"annotations": [{", ".join(self.annotations)}]',
        )
        return ("{" + ",\n".join(lists) + "}\n").encode()


class CvatFile:
    """CVAT for images 1.1."""

    def __init__(self, classes: Classes) -> None:
        self.classes = classes
        self.images: list[str] = []

    def add(self, made: Labeled) -> None:
        height, width = made.labels.shape
        head = f'<image id="{len(self.images)}" name={quoteattr(made.name)} width="{width}" height="{height}">'
        shapes = [
            f"    <polygon label={quoteattr(self.classes.names[label])} source="
            f'"auto" occluded="0" points="{_pairs(points)}" z_order="0"></polygon>'
            for label, points in _polygons(made)
        ]
        self.images.append("\n".join([f"  {head}", *shapes, "  </image>"]))

    def mark(self) -> tuple[int, ...]:
        return (len(self.images),)

    def back_to(self, mark: tuple[int, ...]) -> None:
        del self.images[mark[0] :]

    def content(self) -> bytes:
        labels = [
            f"        <label><name>{escape(self.classes.names[i])}</name>"
            f"<color>#{bytes(self.classes.colors[i]).hex()}</color><attributes></attributes></label>"
            for i in get_object_labels(self.classes)
        ]
        lines = [
            '<?xml version="1.0" encoding="utf-8"?>',
            "<annotations>",
            "  <version>1.1</version>",
            "  <meta>\n    <job>\n      <labels>",
            *labels,
            "      </labels>\n    </job>\n  </meta>",
            *self.images,
            "</annotations>\n",
        ]
        return "\n".join(lines).encode()


def _polygons(made: Labeled) -> list[tuple[int, list[Point]]]:
    return [
        (region.label, trace_polygon(region)) for region in find_regions(made.labels, get_object_labels(made.classes))
    ]


def _pairs(points: Sequence[Point]) -> str:
    return ";".join(f"{x:.2f},{y:.2f}" for x, y in points)


def _way(path: Path, image: Path) -> str:
    """From the folder of a file to an image; on another drive there is none but the whole path."""
    try:
        return Path(os.path.relpath(image, path.parent)).as_posix()
    except ValueError:
        return image.resolve().as_posix()
