from dataclasses import replace
from typing import Any

import pytest

from pixelwise.data.description import describe_classes, parse_description
from pixelwise.data.rasters.ome_zarr import make_label_attributes, parse_multiscale
from pixelwise.errors import DataError

CLASSES = describe_classes(parse_description({"names": ["a", "b"], "colors": [[1, 2, 3], [4, 5, 6]]}))
AXES = [
    {"name": "c", "type": "channel"},
    {"name": "y", "type": "space", "unit": "micrometer"},
    {"name": "x", "type": "space", "unit": "micrometer"},
]


def image(*steps: dict[str, Any]) -> dict[str, Any]:
    return {
        "axes": AXES,
        "datasets": [{"path": "0", "coordinateTransformations": list(steps)}, {"path": "1"}],
    }


def scale(*values: float) -> dict[str, Any]:
    return {"type": "scale", "scale": list(values)}


def translation(*values: float) -> dict[str, Any]:
    return {"type": "translation", "translation": list(values)}


def described(version: str, inner: dict[str, Any]) -> dict[str, Any]:
    if version == "0.5":
        return {"ome": {"version": "0.5", "multiscales": [inner]}}
    return {"multiscales": [{"version": version, **inner}]}


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_an_image_is_parsed_with_its_coordinates(version: str) -> None:
    inner = {
        **image(scale(1, 0.5, 0.25), translation(0, 10, 20)),
        "coordinateTransformations": [scale(1, 2, 2), translation(0, 100, 0)],
    }
    found = parse_multiscale(described(version, inner))
    assert found is not None
    assert found.version == version
    assert found.levels == ("0", "1")
    assert [axis.name for axis in found.axes] == ["c", "y", "x"]
    y, x = found.get_axis("y"), found.get_axis("x")
    assert (y.kind, y.unit, y.scale, y.translation) == ("space", "micrometer", 1.0, 120.0)
    assert (x.scale, x.translation) == (0.5, 40.0)


def test_an_image_without_a_version_has_the_older_one() -> None:
    found = parse_multiscale({"multiscales": [image(scale(1, 1, 1))]})
    assert found is not None
    assert found.version == "0.4"


@pytest.mark.parametrize("attributes", [{}, {"plate": {}}, {"ome": {"version": "0.5"}}])
def test_a_group_may_describe_no_image(attributes: dict[str, Any]) -> None:
    assert parse_multiscale(attributes) is None


@pytest.mark.parametrize("attributes", [described("0.3", image()), {"ome": {"version": "0.6", "multiscales": [{}]}}])
def test_another_version_is_an_error(attributes: dict[str, Any]) -> None:
    with pytest.raises(DataError, match=r"Its metadata is NGFF 0\.[36]. Save it as 0\.4 or 0\.5"):
        parse_multiscale(attributes)


@pytest.mark.parametrize(
    "inner",
    [{}, {**image(), "datasets": []}, {**image(), "axes": ["y", "x"]}, image(scale(1, 1)), image({"type": "scale"})],
)
def test_damaged_metadata_is_an_error(inner: dict[str, Any]) -> None:
    with pytest.raises(DataError, match=r"Its NGFF metadata is invalid or incomplete. Write the image again"):
        parse_multiscale(described("0.4", inner))


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_labels_have_the_georeference_of_the_image(version: str) -> None:
    source = parse_multiscale(described(version, image(scale(1, 0.5, 0.25), translation(0, 10, 20))))
    assert source is not None
    attributes = make_label_attributes(source, CLASSES, "x")
    found = parse_multiscale(attributes)
    assert found is not None
    assert (found.version, found.levels) == (version, ("0", "1"))
    assert found.axes == source.axes[1:]
    outer = attributes if version == "0.4" else attributes["ome"]
    coarse = outer["multiscales"][0]["datasets"][1]["coordinateTransformations"]
    assert coarse == [scale(1.0, 0.5), translation(10.0, 20.0)]
    label = outer["image-label"]
    assert label["colors"][1] == {"label-value": 1, "rgba": [4, 5, 6, 255]}
    assert label["properties"] == [{"label-value": 0, "class": "a"}, {"label-value": 1, "class": "b"}]


def test_the_background_of_labels_is_transparent() -> None:
    source = parse_multiscale(described("0.5", image(scale(1, 1, 1))))
    assert source is not None
    attributes = make_label_attributes(source, replace(CLASSES, names=("background", "b")), "x")
    assert [color["rgba"][3] for color in attributes["ome"]["image-label"]["colors"]] == [0, 255]


def test_an_image_at_the_origin_is_not_moved() -> None:
    source = parse_multiscale(described("0.5", image(scale(1, 1, 1))))
    assert source is not None
    (level, _) = make_label_attributes(source, CLASSES, "x")["ome"]["multiscales"][0]["datasets"]
    assert level["coordinateTransformations"] == [scale(1.0, 1.0)]
