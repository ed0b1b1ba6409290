"""Regions as polygons on the map: one GeoJSON file per image."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from pixelwise.conversion.polygonize import compute_doubled_area, find_regions, trace_rings
from pixelwise.conversion.polygons import get_object_labels
from pixelwise.data.io.georeference import Georeference
from pixelwise.files import write_atomically
from pixelwise.prediction.outputs.labeled_image import LabeledImage

_IN_PIXELS = "pixels: x to the right, y down, from the upper left corner of the image"


def write_polygons(path: Path, labeled: LabeledImage) -> None:
    """Write a FeatureCollection with one polygon per region of each class except background.

    Polygon edges are pixel edges. Coordinates are map coordinates for a georeferenced image, else pixels; the member
    `coordinates` says which. Properties: `class`, `color` ("#rrggbb"), `pixels` (the area), and `area` in squared
    map units.
    """
    georeference, classes = labeled.georeference, labeled.classes
    features = []
    for region in find_regions(labeled.labels, get_object_labels(classes)):
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
    write_atomically(path, (json.dumps(content, ensure_ascii=False) + "\n").encode())


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


def _close_rings(
    rings: Sequence[Sequence[tuple[int, int]]], georeference: Georeference | None
) -> Iterator[list[tuple[float, float]]]:
    """Close rings as GeoJSON requires, the outer one counterclockwise in map coordinates."""
    for index, ring in enumerate(rings):
        points: list[tuple[float, float]] = [georeference.to_map(*point) if georeference else point for point in ring]
        if (compute_doubled_area(points) > 0) != (index == 0):
            points.reverse()
        yield [*points, points[0]]
