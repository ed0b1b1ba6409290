"""Predictions as polygons: LabelMe, COCO and CVAT for annotation tools, GeoJSON for maps.

Each region of a class becomes one polygon along the edges of its pixels, or with fewer corners if it is simplified.
Bridges of zero width connect holes to the outline, so that without simplification the pixels whose centers are inside
the polygon are exactly those of the region. A class named `background` at index 0 has no objects.
"""

import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, Protocol
from xml.sax.saxutils import escape, quoteattr

from pixelwise.conversion.polygonize import (
    Position,
    Region,
    compute_doubled_area,
    find_regions,
    trace_polygon,
    trace_rings,
)
from pixelwise.conversion.polygons import (
    BACKGROUND_NAME,
    IGNORE_NAME,
    get_coco_category,
    get_object_labels,
    make_coco_categories,
)
from pixelwise.data.classes import Classes
from pixelwise.data.io.tiff import Georeference
from pixelwise.errors import InvalidArgumentError
from pixelwise.prediction.outputs.pictures import LabeledImage

RESERVED_NAMES = (BACKGROUND_NAME, "_background_", IGNORE_NAME, "__ignore__")
"""Names, in any case, that readers of these formats treat as pixels without an object."""


class SummaryFile(Protocol):
    """A file that covers all images."""

    def add(self, labeled: LabeledImage) -> None:
        """Add the next image."""

    def mark(self) -> tuple[int, ...]:
        """Return the current position, for `roll_back`."""

    def roll_back(self, mark: tuple[int, ...]) -> None:
        """Remove everything that was added since `mark`."""

    def encode(self) -> bytes:
        """Return the content of the file."""


def require_nameable(kind: str, classes: Classes) -> None:
    """Raise InvalidArgumentError if readers would treat a class as background or as pixels to ignore."""
    for label in get_object_labels(classes):
        if (name := classes.names[label]).lower() in RESERVED_NAMES:
            raise InvalidArgumentError(
                f"Readers of {kind} files ignore objects named {name!r}, which is the name of class {label}. "
                f"Save polygons or labels instead, or rename the class and train again."
            )


def encode_labelme(path: Path, labeled: LabeledImage) -> bytes:
    """Encode the LabelMe JSON file `path`; `imagePath` is relative to it."""
    shapes: list[dict[str, Any]] = [
        {
            "label": labeled.classes.names[label],
            "points": points,
            "group_id": None,
            "description": "",
            "shape_type": "polygon",
            "flags": {},
        }
        for label, points in _find_polygons(labeled)
    ]
    height, width = labeled.labels.shape
    content = {
        "version": "5.0.0",
        "flags": {},
        "shapes": shapes,
        "imagePath": _get_relative_path(path, labeled.source) if labeled.source else PurePosixPath(labeled.name).name,
        "imageData": None,
        "imageHeight": height,
        "imageWidth": width,
    }
    return (json.dumps(content, ensure_ascii=False) + "\n").encode()


class CocoFile:
    """A COCO file with `images`, `categories` and `annotations` of instances; ids begin at 1."""

    def __init__(self, classes: Classes) -> None:
        self.classes = classes
        self.images: list[dict[str, Any]] = []
        self.annotations: list[str] = []
        """Each encoded as JSON, which takes a thousandth of the memory of lists of corners."""

    def add(self, labeled: LabeledImage) -> None:
        height, width = labeled.labels.shape
        number = len(self.images) + 1
        self.images.append({"id": number, "file_name": labeled.name, "width": width, "height": height})
        for region in _find_objects(labeled):
            region_height, region_width = region.inside.shape
            values = {
                "id": len(self.annotations) + 1,
                "image_id": number,
                "category_id": get_coco_category(self.classes, region.label),
                "iscrowd": 0,
                "bbox": [region.left, region.top, region_width, region_height],
                "area": int(region.inside.sum()),
                "segmentation": [[number for point in trace_polygon(region) for number in point]],
            }
            self.annotations.append(json.dumps(values))

    def mark(self) -> tuple[int, ...]:
        return len(self.images), len(self.annotations)

    def roll_back(self, mark: tuple[int, ...]) -> None:
        del self.images[mark[0] :], self.annotations[mark[1] :]

    def encode(self) -> bytes:
        lists = (
            f'"images": {json.dumps(self.images, ensure_ascii=False)}',
            f'"categories": {json.dumps(make_coco_categories(self.classes), ensure_ascii=False)}',
            f'"annotations": [{", ".join(self.annotations)}]',
        )
        return ("{" + ",\n".join(lists) + "}\n").encode()


class CvatFile:
    """A file of the format CVAT for images 1.1."""

    def __init__(self, classes: Classes) -> None:
        self.classes = classes
        self.images: list[str] = []

    def add(self, labeled: LabeledImage) -> None:
        height, width = labeled.labels.shape
        head = f'<image id="{len(self.images)}" name={quoteattr(labeled.name)} width="{width}" height="{height}">'
        shapes = [
            f"    <polygon label={quoteattr(self.classes.names[label])} source="
            f'"auto" occluded="0" points="{_format_points(points)}" z_order="0"></polygon>'
            for label, points in _find_polygons(labeled)
        ]
        self.images.append("\n".join([f"  {head}", *shapes, "  </image>"]))

    def mark(self) -> tuple[int, ...]:
        return (len(self.images),)

    def roll_back(self, mark: tuple[int, ...]) -> None:
        del self.images[mark[0] :]

    def encode(self) -> bytes:
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


def _find_polygons(labeled: LabeledImage) -> list[tuple[int, list[Position]]]:
    return [(region.label, trace_polygon(region)) for region in _find_objects(labeled)]


def _find_objects(labeled: LabeledImage) -> Iterator[Region]:
    return find_regions(labeled.labels, get_object_labels(labeled.classes), labeled.corners)


def _format_points(points: Sequence[Position]) -> str:
    return ";".join(f"{x:.2f},{y:.2f}" for x, y in points)


def _get_relative_path(path: Path, image: Path) -> str:
    """Return the path from the folder of a file to an image; absolute if they are on different drives."""
    try:
        return Path(os.path.relpath(image, path.parent)).as_posix()
    except ValueError:
        return image.resolve().as_posix()


_IN_PIXELS = "pixels: x to the right, y down, from the upper left corner of the image"


def encode_polygons(labeled: LabeledImage) -> bytes:
    """Encode a FeatureCollection with one polygon per region of each class except background.

    Polygon edges are pixel edges, unless they are simplified. Coordinates are map coordinates for a georeferenced
    image, else pixels; the member `coordinates` says which. Properties: `class`, `color` ("#rrggbb"), `pixels` (the
    area, before it is simplified), and `area` in squared map units.
    """
    georeference, classes = labeled.georeference, labeled.classes
    features = []
    for region in _find_objects(labeled):
        pixels = int(region.inside.sum())
        properties = {
            "class": classes.names[region.label],
            "color": f"#{bytes(classes.colors[region.label]).hex()}",
            "pixels": pixels,
            **({"area": pixels * georeference.pixel_area} if georeference else {}),
        }
        geometry = {"type": "Polygon", "coordinates": list(_close_rings(trace_rings(region), georeference))}
        features.append({"type": "Feature", "properties": properties, "geometry": geometry})
    content = {"type": "FeatureCollection", **_describe_coordinates(georeference), "features": features}
    return (json.dumps(content, ensure_ascii=False) + "\n").encode()


def _describe_coordinates(georeference: Georeference | None) -> dict[str, Any]:
    """Return the members that say what the coordinates are.

    GeoJSON 2008 names the coordinate system; RFC 7946 (2016) allows only WGS 84.
    """
    if georeference is None:
        return {"coordinates": _IN_PIXELS}
    if georeference.epsg is None:
        return {"coordinates": "map, in a system that the image does not name"}
    name = f"urn:ogc:def:crs:EPSG::{georeference.epsg}"
    return {"coordinates": f"map, EPSG:{georeference.epsg}", "crs": {"type": "name", "properties": {"name": name}}}


def _close_rings(rings: Sequence[Sequence[Position]], georeference: Georeference | None) -> Iterator[list[Position]]:
    """Close rings as GeoJSON requires, the outer one counterclockwise in map coordinates."""
    for index, ring in enumerate(rings):
        points: list[Position] = [georeference.to_map(*point) if georeference else point for point in ring]
        if (compute_doubled_area(points) > 0) != (index == 0):
            points.reverse()
        yield [*points, points[0]]
