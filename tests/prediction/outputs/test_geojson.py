import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pixelwise.data.classes import Classes
from pixelwise.data.io.georeference import Georeference
from pixelwise.data.io.images import Array
from pixelwise.data.rasterize import Polygon, rasterize
from pixelwise.prediction.outputs.geojson import write_polygons
from support.predictions import ABC, CELLS, make_labeled

NORTH_UP = Georeference(x=(0.5, 0.0, 1000.0), y=(0.0, -0.5, 5000.0), epsg=32633)
RING = np.array([[1, 1, 1, 0], [1, 0, 1, 0], [1, 1, 1, 2]], np.uint8)


def written(path: Path, labels: Array, classes: Classes = CELLS, place: Georeference | None = None) -> Any:
    write_polygons(path, make_labeled(labels, classes=classes, georeference=place))
    return json.loads(path.read_text())


def signed_area(ring: list[list[float]]) -> float:
    return sum(x0 * y1 - x1 * y0 for (x0, y0), (x1, y1) in itertools.pairwise(ring)) / 2


def test_polygons_rasterize_to_the_labels(tmp_path: Path) -> None:
    labels = np.random.default_rng(1).integers(0, 3, (12, 17)).astype(np.uint8)
    content = written(tmp_path / "x.geojson", labels)
    shapes = []
    for feature in content["features"]:
        outer, *holes = (ring[:-1] for ring in feature["geometry"]["coordinates"])
        shapes.append(Polygon(value=CELLS.names.index(feature["properties"]["class"]), outline=outer, holes=holes))
    np.testing.assert_array_equal(rasterize(shapes, labels.shape), labels)
    assert content["coordinates"].startswith("pixels: x to the right, y down")
    assert "crs" not in content


def test_a_feature_has_class_color_and_area(tmp_path: Path) -> None:
    first, second = written(tmp_path / "x.geojson", RING)["features"]
    assert first["properties"] == {"class": "cell", "color": "#c86400", "pixels": 8}
    assert second["properties"]["class"] == "a <b> & 'c'"
    assert first["geometry"]["type"] == "Polygon"
    assert len(first["geometry"]["coordinates"]) == 2


def test_without_a_background_all_classes_have_polygons(tmp_path: Path) -> None:
    found = {f["properties"]["class"] for f in written(tmp_path / "x.geojson", RING, ABC)["features"]}
    assert found == {"a", "b", "c"}


def test_map_coordinates_and_their_system(tmp_path: Path) -> None:
    content = written(tmp_path / "x.geojson", RING, place=NORTH_UP)
    assert content["coordinates"] == "map, EPSG:32633"
    assert content["crs"]["properties"]["name"] == "urn:ogc:def:crs:EPSG::32633"
    feature = content["features"][0]
    assert feature["properties"] == {"class": "cell", "color": "#c86400", "pixels": 8, "area": 2.0}
    assert sorted(map(tuple, feature["geometry"]["coordinates"][0][:-1])) == [
        (1000.0, 4998.5),
        (1000.0, 5000.0),
        (1001.5, 4998.5),
        (1001.5, 5000.0),
    ]


def test_a_map_without_a_code_is_described(tmp_path: Path) -> None:
    content = written(tmp_path / "x.geojson", RING, place=Georeference(x=(1, 0, 0), y=(0, 1, 0), epsg=None))
    assert content["coordinates"] == "map, in a system that the image does not name"


@pytest.mark.parametrize("place", [None, NORTH_UP, Georeference(x=(0, 3, 1), y=(2, 0, 5), epsg=None)])
def test_rings_are_closed_and_follow_the_right_hand_rule(tmp_path: Path, place: Georeference | None) -> None:
    outer, hole = written(tmp_path / "x.geojson", RING, place=place)["features"][0]["geometry"]["coordinates"]
    assert outer[0] == outer[-1]
    assert hole[0] == hole[-1]
    assert signed_area(outer) > 0 > signed_area(hole)
