import base64
import io
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pixelwise.data.dataset import Dataset
from pixelwise.data.formats.supervisely import find_pairs
from pixelwise.data.io.images import Array
from pixelwise.errors import DataError
from support.shape_datasets import (
    SIZE,
    get_finding,
    list_relative,
    make_mask,
    read_masks,
    run_check,
    write_image,
    write_json,
)

META = {
    "classes": [
        {"title": "dog", "shape": "any", "color": "#FF8C00"},
        {"title": "cat", "shape": "polygon", "color": "#0000FF"},
    ],
    "tags": [],
}
DOG, CAT = 1, 2
AREA = (slice(1, 3), slice(1, 4))


def thing(kind: str, label: str = "cat", **more: Any) -> dict[str, Any]:
    return {"id": 1, "classTitle": label, "geometryType": kind, "tags": [], **more}


def drawn(kind: str, exterior: Any, interior: Any = (), label: str = "cat") -> dict[str, Any]:
    return thing(kind, label, points={"exterior": exterior, "interior": interior})


def bitmap(pixels: Array, left: int, top: int, mode: str = "1", label: str = "cat") -> dict[str, Any]:
    picture = Image.fromarray(pixels.astype(np.uint8) * 255).convert(mode)
    if mode == "RGBA":
        picture.putalpha(Image.fromarray(pixels.astype(np.uint8) * 255))
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    data = base64.b64encode(zlib.compress(buffer.getvalue())).decode()
    return thing("bitmap", label, bitmap={"data": data, "origin": [left, top]})


def annotation(*things: Any, size: tuple[int, int] = SIZE) -> dict[str, Any]:
    return {"description": "", "tags": [], "size": {"height": size[0], "width": size[1]}, "objects": things}


def plant(root: Path, *things: Any, dataset: str = "ds0", size: tuple[int, int] = SIZE) -> Path:
    write_json(root / "meta.json", META)
    write_image(root / dataset / "img/a.png")
    write_json(root / dataset / "ann/a.png.json", annotation(*things, size=size))
    return root


def mask(root: Path) -> list[list[int]]:
    values: list[list[int]] = read_masks(root, "supervisely")["ds0/a"].tolist()
    return values


@pytest.mark.parametrize(
    "shape",
    [
        drawn("rectangle", [[1, 1], [3, 2]]),
        drawn("rectangle", [[3, 2], [1, 1]]),
        drawn("rectangle", [[0.6, 0.9], [4.2, 3.1]]),
        drawn("polygon", [[0.6, 0.9], [4.2, 0.9], [4.2, 3.1], [0.6, 3.1]]),
        drawn("polygon", [[1, 1], [4, 1], [4, 3], [1, 3]]),
        bitmap(np.ones((2, 3), bool), 1, 1),
    ],
)
def test_integer_coordinates_are_pixels_and_fractions_are_positions(tmp_path: Path, shape: Any) -> None:
    assert mask(plant(tmp_path, shape)) == make_mask((CAT, *AREA))


def test_integer_corners_of_a_polygon_are_pixel_centers(tmp_path: Path) -> None:
    """A diamond from center to center: its left and upper corners lie on its edge, and belong to it."""
    expected = np.zeros(SIZE, int)
    expected[1, 3], expected[2, 2:5], expected[3, 1:6], expected[4, 2:5] = 0, CAT, CAT, CAT
    found = np.array(mask(plant(tmp_path, drawn("polygon", [[3, 1], [5, 3], [3, 5], [1, 3]]))))
    assert found[3].tolist() == [0, CAT, CAT, CAT, CAT, 0, 0, 0]
    assert found[2].tolist() == [0, 0, CAT, CAT, 0, 0, 0, 0]


def test_a_polygon_has_holes(tmp_path: Path) -> None:
    outline, hole = [[0, 0], [6, 0], [6, 5], [0, 5]], [[1, 1], [4, 1], [4, 3], [1, 3]]
    expected = make_mask((CAT, slice(0, 5), slice(0, 6)), (0, *AREA))
    assert mask(plant(tmp_path, drawn("polygon", outline, [hole]))) == expected


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGBA"])
def test_a_bitmap_starts_at_its_origin(tmp_path: Path, mode: str) -> None:
    pixels = np.array([[1, 0, 1], [1, 1, 0]], bool)
    expected = np.zeros(SIZE, int)
    expected[2:4, 4:7] = pixels * CAT
    assert mask(plant(tmp_path, bitmap(pixels, 4, 2, mode))) == expected.tolist()


def test_classes_are_from_the_project_and_later_objects_cover_earlier_ones(tmp_path: Path) -> None:
    root = plant(tmp_path, drawn("rectangle", [[1, 1], [3, 2]]), bitmap(np.ones((2, 1), bool), 2, 1, label="dog"))
    dataset = Dataset.load(root)
    assert dataset.classes.names == ("background", "dog", "cat")
    assert dataset.classes.colors == ((0, 0, 0), (255, 140, 0), (0, 0, 255))
    expected = make_mask((CAT, *AREA), (DOG, slice(1, 3), slice(2, 3)))
    assert dataset.read_labels(dataset.samples[0]).tolist() == expected


def test_the_size_and_the_holes_may_be_missing(tmp_path: Path) -> None:
    outline = {"exterior": [[0.6, 0.9], [4.2, 0.9], [4.2, 3.1], [0.6, 3.1]]}
    root = plant(tmp_path)
    write_json(root / "ds0/ann/a.png.json", {"objects": [thing("polygon", points=outline)]})
    assert mask(root) == make_mask((CAT, *AREA))


def test_a_file_without_objects_is_background(tmp_path: Path) -> None:
    assert mask(plant(tmp_path)) == make_mask()


def test_datasets_named_after_splits_are_splits(tmp_path: Path) -> None:
    for name in ("train", "val", "Test", "ds0"):
        plant(tmp_path, dataset=name)
    pairing = find_pairs(tmp_path)
    assert [(s.name, s.split) for s in pairing.samples] == [("Test/a", "test"), ("train/a", "train"), ("val/a", "val")]
    assert list_relative(tmp_path, pairing.outside_splits) == ["ds0/img/a.png"]


def test_files_without_a_partner_are_listed(tmp_path: Path) -> None:
    root = plant(tmp_path)
    write_image(root / "ds0/img/b.png")
    write_json(root / "ds0/ann/c.png.json", annotation())
    pairing = find_pairs(root)
    assert [sample.name for sample in pairing.samples] == ["ds0/a"]
    assert list_relative(root, pairing.images_without_mask) == ["ds0/img/b.png"]
    assert list_relative(root, pairing.masks_without_image) == ["ds0/ann/c.png.json"]


BAD_BITMAP = thing("bitmap", bitmap={"data": base64.b64encode(b"PNG").decode(), "origin": [0, 0]})
NO_PICTURE = thing("bitmap", bitmap={"data": base64.b64encode(zlib.compress(b"PNG")).decode(), "origin": [0, 0]})


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (
            drawn("rectangle", [[1, 1], [3, 2]], label="cow"),
            r"class 'cow' is not among those in meta.json \('dog', 'cat'\)",
        ),
        (drawn("polygon", [[1, 1], [3, 2]]), "polygon 'cat': The number of points of a polygon is 2"),
        (drawn("polygon", [[1, 1], [3, 2], [1]]), r"Point 3 of 'exterior' is \[1\]. Expected two numbers"),
        (drawn("rectangle", [[1, 1]]), "The number of 'exterior' is 1. Expected 2"),
        (thing("polygon"), "'points' is missing"),
        (thing("line", points={}), "line 'cat': covers no pixels. Draw its area as a polygon"),
        (BAD_BITMAP, "The bitmap cannot be decompressed"),
        (NO_PICTURE, "bitmap: The file is not an image of a known format"),
        ({**drawn("polygon", []), "classTitle": None}, "'classTitle' is null. Expected a text"),
    ],
)
def test_an_invalid_object_is_an_error_and_a_finding(tmp_path: Path, fault: Any, message: str) -> None:
    root = plant(tmp_path / "data", fault)
    dataset = Dataset.load(root)
    with pytest.raises(DataError, match=rf"a\.png\.json: object 1, .*{message}"):
        dataset.read_mask(dataset.samples[0])
    assert get_finding(run_check(root, tmp_path), "unreadable_mask")["files"] == ["ds0/ann/a.png.json"]


def test_a_damaged_file_is_a_finding(tmp_path: Path) -> None:
    root = plant(tmp_path / "data")
    (root / "ds0/ann/a.png.json").write_text("{", encoding="utf-8")
    assert "line 1, column 2" in get_finding(run_check(root, tmp_path), "unreadable_mask")["message"]


def test_a_size_other_than_the_images_is_an_error_with_both_sizes(tmp_path: Path) -> None:
    root = plant(tmp_path / "data", size=(8, 6))
    assert (
        "a.png.json is 8x6, but its image is 6x8"
        in get_finding(run_check(root, tmp_path), "transposed_mask")["message"]
    )


@pytest.mark.parametrize(
    ("meta", "message"),
    [
        ({}, r"meta\.json: 'classes' is missing"),
        ({"classes": []}, "The file lists no classes. Export the whole project"),
        ({"classes": [{"title": "a", "color": "red"}]}, "'red' is not a color. Write one such as #ff8c00"),
        ({"classes": [{"title": "a"}, {"title": "a"}]}, "lists the class 'a' twice"),
    ],
)
def test_an_invalid_project_is_an_error(tmp_path: Path, meta: Any, message: str) -> None:
    root = plant(tmp_path)
    write_json(root / "meta.json", meta)
    with pytest.raises(DataError, match=message):
        Dataset.load(root)


def test_a_folder_without_a_project_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"has no meta\.json. Export the whole project"):
        Dataset.load(tmp_path, "supervisely")
