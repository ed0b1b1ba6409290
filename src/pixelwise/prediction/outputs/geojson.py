"""Regions as polygons on the map: one GeoJSON file an image."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from pixelwise.conversion.polygonize import Region, compute_doubled_area, find_regions, trace_rings
from pixelwise.conversion.polygons import get_object_labels
from pixelwise.data.io.georeference import Georeference
from pixelwise.files import write_atomically
from pixelwise.prediction.outputs.prediction_view import Labeled

_IN_PIXELS = "pixels: x to the right, y down, from the upper left corner of the image"


def write_polygons(path: Path, made: Labeled) -> None:
    """A FeatureCollection with one polygon for each region of each class but a background.

    Its edges are the edges of pixels. Coordinates are those of the map where the image is
    georeferenced, else pixels; the member `coordinates` says which. Properties: `class`, `color`
    ("#rrggbb"), `pixels` (the area), and `area` in squares of the map's unit.
    """
    place, classes = made.georeference, made.classes
    features = []
    for region in find_regions(made.labels, get_object_labels(classes)):
        found = {"class": classes.names[region.label], "color": f"#{bytes(classes.colors[region.label]).hex()}"}
        features.append(_feature(region, found, place))
    content: dict[str, Any] = {"type": "FeatureCollection", **_frame(place), "features": features}
    write_atomically(path, (json.dumps(content, ensure_ascii=False) + "\n").encode())


def _frame(place: Georeference | None) -> dict[str, Any]:
    """What the coordinates are. GeoJSON of 2008 names the system, that of 2016 knows one alone."""
    if place is None:
        return {"coordinates": _IN_PIXELS}
    if place.epsg is None:
        return {"coordinates": "map, in a system that the image does not name"}
    name = f"urn:ogc:def:crs:EPSG::{place.epsg}"
    return {"coordinates": f"map, EPSG:{place.epsg}", "crs": {"type": "name", "properties": {"name": name}}}


def _feature(region: Region, properties: dict[str, Any], place: Georeference | None) -> dict[str, Any]:
    pixels = int(region.inside.sum())
    properties |= {"pixels": pixels} | ({"area": pixels * place.pixel_area} if place else {})
    coordinates = list(_closed(trace_rings(region), place))
    return {"type": "Feature", "properties": properties, "geometry": {"type": "Polygon", "coordinates": coordinates}}


def _closed(
    found: Sequence[Sequence[tuple[int, int]]], place: Georeference | None
) -> Iterator[list[tuple[float, float]]]:
    """Rings as GeoJSON wants them: closed, the area to the left of the way in the axes' own sense."""
    for index, ring in enumerate(found):
        points: list[tuple[float, float]] = [place.to_map(*point) if place else point for point in ring]
        if (compute_doubled_area(points) > 0) != (index == 0):
            points.reverse()
        yield [*points, points[0]]
