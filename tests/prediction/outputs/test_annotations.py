import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pixelwise.data.classes import Classes
from pixelwise.data.dataset import Dataset
from pixelwise.data.description import describe_classes, parse_description
from pixelwise.data.io.images import Array, write_png
from pixelwise.data.io.tiff import Georeference
from pixelwise.data.rasterize import Polygon, rasterize
from pixelwise.errors import InvalidArgumentError
from pixelwise.prediction.outputs.annotations import (
    CocoFile,
    CvatFile,
    SummaryFile,
    encode_labelme,
    encode_polygons,
    require_nameable,
)
from support.predictions import ABC, CELLS, make_labeled

RNG = np.random.default_rng(0)
MAPS = {
    "one.png": RNG.integers(0, 3, (14, 11)).astype(np.uint8),
    "trip/two.png": np.repeat(np.repeat(RNG.integers(0, 3, (5, 7)), 3, 0), 2, 1).astype(np.uint8),
    "bare.png": np.zeros((3, 4), np.uint8),
}
"""Noise, in which regions have holes and touch at corners; blocks; and an image of one class."""


def save(folder: Path, kind: str, classes: Classes) -> None:
    """A dataset: images, and what was predicted of them beside."""
    made = {"coco": CocoFile, "cvat": CvatFile}.get(kind, lambda _: None)(classes)
    for name, labels in MAPS.items():
        source = folder / "images" / name
        write_png(source, np.zeros((*labels.shape, 3), np.uint8))
        image = make_labeled(labels, classes=classes, source=source, name=name)
        if made is None:
            source.with_suffix(".json").write_bytes(encode_labelme(source.with_suffix(".json"), image))
        else:
            made.add(image)
    if made is not None:
        (folder / {"coco": "coco.json", "cvat": "cvat.xml"}[kind]).write_bytes(made.encode())


def read_back(folder: Path, format: str, classes: Classes) -> dict[str, Array]:
    """Image → labels in the indices of `classes`, by our own reader."""
    dataset = Dataset.load(folder, format)
    found = dataset.classes.names
    ours = np.array([classes.names.index(name) if name in classes.names else 99 for name in found])
    return {s.image_path.relative_to(folder / "images").as_posix(): ours[dataset.read(s)[1]] for s in dataset.samples}


@pytest.mark.parametrize("classes", [CELLS, ABC], ids=["background", "none"])
@pytest.mark.parametrize("kind", ["coco", "cvat", "labelme"])
def test_annotation_files_are_read_back_pixel_for_pixel(tmp_path: Path, kind: str, classes: Classes) -> None:
    save(tmp_path, kind, classes)
    found = read_back(tmp_path, kind, classes)
    assert set(found) == set(MAPS)
    for name, labels in MAPS.items():
        np.testing.assert_array_equal(found[name], labels)


def test_the_formats_are_detected_from_their_files(tmp_path: Path) -> None:
    for kind in ("coco", "cvat", "labelme"):
        save(tmp_path / kind, kind, CELLS)
        assert len(Dataset.load(tmp_path / kind).samples) == 3


def test_colors_are_written(tmp_path: Path) -> None:
    for kind in ("coco", "cvat"):
        save(tmp_path / kind, kind, CELLS)
        classes = Dataset.load(tmp_path / kind, kind).classes
        assert classes is not None
        assert classes.colors[1:] == CELLS.colors[1:]


def test_pycocotools_reads_the_same_pixels(tmp_path: Path) -> None:
    mask = pytest.importorskip("pycocotools.mask")
    save(tmp_path, "coco", CELLS)
    content = json.loads((tmp_path / "coco.json").read_text())
    for image, labels in zip(content["images"], MAPS.values(), strict=True):
        for category in (1, 2):
            found = [a for a in content["annotations"] if (a["image_id"], a["category_id"]) == (image["id"], category)]
            assert sum(a["area"] for a in found) == (labels == category).sum()
            if found:
                size = image["height"], image["width"]
                runs = mask.merge([mask.frPyObjects(a["segmentation"], *size)[0] for a in found])
                assert runs == mask.encode(np.asfortranarray(labels == category).astype(np.uint8))


def test_labelme_has_the_path_of_the_image(tmp_path: Path) -> None:
    labeled = make_labeled([[1]], source=tmp_path / "photos" / "x.png")
    content = json.loads(encode_labelme(tmp_path / "out" / "x.json", labeled))
    assert content["imagePath"] == "../photos/x.png"
    assert (content["imageHeight"], content["imageWidth"]) == (1, 1)


@pytest.mark.parametrize("make", [CocoFile, CvatFile])
def test_a_job_without_images_writes_a_valid_file(tmp_path: Path, make: Callable[[Classes], SummaryFile]) -> None:
    path = tmp_path / ("x.json" if make is CocoFile else "x.xml")
    path.write_bytes(make(ABC).encode())
    with pytest.raises(Exception, match="images"):  # the reader's, that none are listed
        Dataset.load(tmp_path)


def test_a_reserved_name_is_refused() -> None:
    classes = describe_classes(parse_description({"names": ["road", "Ignore"]}))
    with pytest.raises(
        InvalidArgumentError, match=r"Readers of cvat files ignore objects named 'Ignore', which is the name of class 1"
    ):
        require_nameable("cvat", classes)
    require_nameable("cvat", CELLS)


NORTH_UP = Georeference(x=(0.5, 0.0, 1000.0), y=(0.0, -0.5, 5000.0), epsg=32633)
RING = np.array([[1, 1, 1, 0], [1, 0, 1, 0], [1, 1, 1, 2]], np.uint8)


def written(path: Path, labels: Array, classes: Classes = CELLS, place: Georeference | None = None) -> Any:
    path.write_bytes(encode_polygons(make_labeled(labels, classes=classes, georeference=place)))
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
