import base64
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pixelwise.data.dataset import Dataset
from pixelwise.data.formats.labelme import find_pairs
from pixelwise.data.io.images import Array, read_image
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

SQUARE = [[1, 1], [4, 1], [4, 3], [1, 3]]
AREA = (slice(1, 3), slice(1, 4))


def shape(label: str = "cat", points: Any = SQUARE, kind: str | None = "polygon", **more: Any) -> dict[str, Any]:
    return {"label": label, "points": points, "group_id": None, "shape_type": kind, "flags": {}, **more}


def document(*shapes: Any, image: str = "a.png", **more: Any) -> dict[str, Any]:
    size = {"imageHeight": SIZE[0], "imageWidth": SIZE[1]}
    return {"version": "5.4.1", "flags": {}, "shapes": shapes, "imagePath": image, "imageData": None, **size, **more}


def plant(root: Path, *shapes: Any, **more: Any) -> Path:
    write_image(root / "a.png")
    write_json(root / "a.json", document(*shapes, **more))
    return root


def mask(root: Path) -> list[list[int]]:
    values: list[list[int]] = read_masks(root, "labelme")["a"].tolist()
    return values


def encoded(pixels: Array) -> str:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()


@pytest.mark.parametrize(
    ("points", "kind"),
    [
        (SQUARE, "polygon"),
        (SQUARE, None),
        ([[4, 3], [1, 1]], "rectangle"),
        ([[1, 1], [4, 1], [4, 3], [1, 3]], "rectangle"),
    ],
)
def test_coordinates_start_at_the_corner_of_the_first_pixel(tmp_path: Path, points: Any, kind: str | None) -> None:
    assert mask(plant(tmp_path, shape("cat", points, kind))) == make_mask((1, *AREA))


def test_a_circle_is_given_by_its_center_and_a_point_of_its_rim(tmp_path: Path) -> None:
    expected = np.array(make_mask((1, slice(0, 5), slice(1, 6))))
    expected[[0, 0, 4, 4], [1, 5, 1, 5]] = 0
    assert mask(plant(tmp_path, shape("cat", [[3.5, 2.5], [3.5, 0.2]], "circle"))) == expected.tolist()


def test_a_mask_starts_at_its_first_point(tmp_path: Path) -> None:
    pixels = np.array([[1, 0, 1], [1, 1, 0]], bool)
    expected = np.zeros(SIZE, int)
    expected[2:4, 4:7] = pixels
    drawn = shape("cat", [[4, 2], [6, 3]], "mask", mask=encoded(pixels))
    assert mask(plant(tmp_path, drawn)) == expected.tolist()


def test_labels_become_sorted_classes_and_later_shapes_cover_earlier_ones(tmp_path: Path) -> None:
    dataset = Dataset.load(plant(tmp_path, shape("dog"), shape("cat", [[2, 1], [4, 1], [4, 3], [2, 3]])))
    assert dataset.classes.names == ("background", "cat", "dog")
    expected = make_mask((2, *AREA), (1, slice(1, 3), slice(2, 4)))
    assert dataset.read_labels(dataset.samples[0]).tolist() == expected


def test_a_number_is_a_label(tmp_path: Path) -> None:
    dataset = Dataset.load(plant(tmp_path, shape(1)))  # type: ignore[arg-type]
    assert dataset.classes.names == ("background", "1")
    assert dataset.read_labels(dataset.samples[0]).tolist() == make_mask((1, *AREA))


@pytest.mark.parametrize("kind", ["rotation", "oriented_rectangle", "quadrilateral"])
def test_shapes_of_descendants_that_have_all_corners_are_polygons(tmp_path: Path, kind: str) -> None:
    assert mask(plant(tmp_path, shape("cat", SQUARE, kind))) == make_mask((1, *AREA))


@pytest.mark.parametrize("is_sorted", [False, True])
def test_files_of_version_3_are_recognized_behind_a_large_image(tmp_path: Path, is_sorted: bool) -> None:
    """They have neither a version nor types of shapes nor a size, and any order of the keys."""
    write_image(tmp_path / "a.png")
    drawn = {"label": "cat", "line_color": None, "fill_color": None, "points": SQUARE}
    shapes = [drawn] * 100
    content = {"flags": {}, "shapes": shapes, "lineColor": [0, 255, 0, 128], "imagePath": "a.png"}
    content["imageData"] = encoded(np.random.default_rng(0).integers(0, 256, (64, 64), np.uint8)) * 4
    (tmp_path / "a.json").write_text(json.dumps(content, sort_keys=is_sorted), encoding="utf-8")
    assert mask(tmp_path) == make_mask((1, *AREA))


def test_another_json_file_may_come_first(tmp_path: Path) -> None:
    root = plant(tmp_path, shape())
    write_json(root / "_settings.json", {"zoom": 2})
    assert mask(root) == make_mask((1, *AREA))


def test_labels_of_background_and_ignore(tmp_path: Path) -> None:
    shapes = (
        shape("cat"),
        shape("_background_", [[2, 1], [4, 1], [4, 3], [2, 3]]),
        shape("__ignore__", [[0, 0], [2, 0], [0, 2]]),
    )
    dataset = Dataset.load(plant(tmp_path, *shapes))
    assert dataset.classes.names == ("_background_", "cat")
    expected = np.array(make_mask((1, slice(1, 3), slice(1, 2))))
    expected[[0, 0, 1], [0, 1, 0]] = 255
    labels = dataset.read_labels(dataset.samples[0])
    np.testing.assert_array_equal(labels[2:], expected[2:])
    assert labels[0, 0] == dataset.classes.ignore_index


def test_a_file_without_shapes_is_background(tmp_path: Path) -> None:
    assert mask(plant(tmp_path)) == make_mask()


def test_old_files_have_no_size(tmp_path: Path) -> None:
    root = plant(tmp_path, shape(), imageHeight=None, imageWidth=None)
    assert mask(root) == make_mask((1, *AREA))


@pytest.mark.parametrize("size", [{}, {"imageHeight": None, "imageWidth": None}])
def test_an_embedded_image_is_read_where_the_file_is_missing(tmp_path: Path, size: dict[str, Any]) -> None:
    root = plant(tmp_path / "data", shape())
    pixels = read_image(root / "a.png")
    (root / "a.png").unlink()
    write_json(root / "a.json", document(shape(), imageData=encoded(pixels), **size))
    dataset = Dataset.load(root)
    image, labels = dataset.read(dataset.samples[0])
    np.testing.assert_array_equal(image, pixels)
    assert labels.tolist() == make_mask((1, *AREA))
    assert dataset.samples[0].image_path == root / "a.json"


def test_image_bytes_are_read_from_files_and_json(tmp_path: Path) -> None:
    root = plant(tmp_path, shape())
    reader, sample = find_pairs(root).reader, find_pairs(root).samples[0]
    content = (root / "a.png").read_bytes()
    assert reader.read_image_bytes(sample) == content
    write_json(root / "a.json", document(shape(), imageData=base64.b64encode(content).decode()))
    (root / "a.png").unlink()
    assert reader.read_image_bytes(find_pairs(root).samples[0]) == content


def test_the_image_file_is_preferred_to_the_embedded_image(tmp_path: Path) -> None:
    root = plant(tmp_path, shape(), imageData=encoded(np.zeros((2, 2), np.uint8)))
    assert Dataset.load(root).samples[0].image_path == root / "a.png"


@pytest.mark.parametrize(
    ("json_file", "picture", "image_path", "split"),
    [
        ("train/a.json", "train/a.png", "a.png", "train"),
        ("Valid/a.json", "Valid/a.png", "a.png", "val"),
        ("annotations/a.json", "images/a.png", "..\\images\\a.png", None),
        ("annotations/a.json", "images/a.png", "a.png", None),
        ("train/labels/a.json", "train/images/a.png", "a.png", "train"),
        ("a.json", "a.png", "/home/else/where/a.png", None),
        ("json/a.json", "jpg/deep/a.png", "..\\..\\photos\\a.png", None),
        ("json/train/a.json", "jpg/train/a.png", "a.png", "train"),
        ("b.json", "b.png", "renamed.png", None),
        ("b.json", "b.jpg", "", None),
        ("train_station/a.json", "train_station/a.png", "a.png", None),
    ],
)
def test_locations_of_images(tmp_path: Path, json_file: str, picture: str, image_path: str, split: str | None) -> None:
    write_image(tmp_path / picture)
    write_json(tmp_path / json_file, document(shape(), image=image_path))
    dataset = Dataset.load(tmp_path)
    (sample,) = dataset.samples
    assert (dataset.format, sample.split, sample.image_path) == ("labelme", split, tmp_path / picture)


def test_files_without_a_partner_are_listed(tmp_path: Path) -> None:
    root = plant(tmp_path, shape())
    write_image(root / "b.png")
    write_json(root / "c.json", document(shape(), image="c.png"))
    write_json(root / "settings.json", {"zoom": 2})
    pairing = find_pairs(root)
    assert [sample.name for sample in pairing.samples] == ["a"]
    assert list_relative(root, pairing.images_without_mask) == ["b.png"]
    assert list_relative(root, pairing.masks_without_image) == ["c.json"]
    assert list_relative(root, pairing.foreign_files) == ["settings.json"]


@pytest.mark.parametrize("others", [["x/a.png", "y/a.png"], ["val/a.png"], ["x/a.png", "json/b.png"]])
def test_an_image_elsewhere_must_be_the_only_one_and_in_no_other_split(tmp_path: Path, others: list[str]) -> None:
    for path in others:
        write_image(tmp_path / path)
    write_json(tmp_path / "json/a.json", document(shape()))
    assert list_relative(tmp_path, find_pairs(tmp_path).masks_without_image) == ["json/a.json"]


def test_two_label_files_of_one_image_are_listed(tmp_path: Path) -> None:
    root = plant(tmp_path, shape())
    write_json(root / "again.json", document(shape()))
    assert list_relative(root, find_pairs(root).same_stem) == ["a.json", "again.json"]


@pytest.mark.parametrize("kind", ["line", "linestrip", "point", "points"])
def test_shapes_without_area_are_an_error(tmp_path: Path, kind: str) -> None:
    dataset = Dataset.load(plant(tmp_path, shape(), shape("pole", [[0, 0], [3, 3]], kind)))
    with pytest.raises(DataError, match=rf"a\.json: shape 2, {kind} 'pole': covers no pixels. Draw its area"):
        dataset.read_mask(dataset.samples[0])


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ({"label": "cat"}, r"shape 1, shape 'cat': 'points' is missing. Expected a list. Export the annotations again"),
        ({"points": SQUARE}, r"shape 1, shape null: 'label' is missing"),
        (
            shape("cat", SQUARE[:2]),
            "shape 1, polygon 'cat': The number of points of a polygon is 2. Expected 3 or more",
        ),
        (shape("cat", []), "The number of points of a polygon is 0"),  # github.com/wkentaro/labelme/issues/498
        (shape("cat", [[1, 1]], "rectangle"), "The number of 'points' is 1. Expected 2 or 4"),
        (shape("cat", SQUARE, "blob"), "'blob' is not a known type of shape. Draw its area as a polygon"),
        (shape(""), "'label' is ''. Expected a text"),
        (shape(None), "'label' is null. Expected a text"),  # type: ignore[arg-type]
        (shape("cat", [[1, 1], [1, 1]], "circle"), r"radii \(0.0, 0.0\). Expected two numbers above 0"),
        (shape("cat", SQUARE, "circle"), "The number of 'points' is 4. Expected 2. Draw the shape again"),
        (shape("cat", [[1, 1], [2, 2]], "mask"), "'mask' is missing"),
        (shape("cat", [[1, 1], [2, 2]], "mask", mask="?"), "'mask' is not a text in base64"),
        (
            shape("cat", [[1, 1], [2, 2]], "mask", mask=base64.b64encode(b"x").decode()),
            "mask: The file is not an image",
        ),
        (7, "Entry 1 of 'shapes' is 7. Expected an object"),
    ],
)
def test_an_invalid_shape_is_an_error_and_a_finding(tmp_path: Path, fault: Any, message: str) -> None:
    root = plant(tmp_path / "data", fault)
    dataset = Dataset.load(root)
    with pytest.raises(DataError, match=rf"a\.json: .*{message}"):
        dataset.read_mask(dataset.samples[0])
    assert get_finding(run_check(root, tmp_path), "unreadable_mask")["files"] == ["a.json"]


def test_all_damaged_files_are_findings(tmp_path: Path) -> None:
    root = plant(tmp_path / "data", shape())
    for name in ("b", "c"):
        write_image(root / f"{name}.png")
        (root / f"{name}.json").write_text('{"shapes": [', encoding="utf-8")
    answer = run_check(root, tmp_path)
    found = [f for f in answer["findings"] if f["code"] == "unreadable_mask"]
    assert [f["files"] for f in found] == [["b.json", "c.json"]]
    assert "is not valid JSON (line 1, column 13: Expecting value)" in found[0]["message"]


def test_renamed_files_that_name_each_other_are_findings(tmp_path: Path) -> None:
    """As in github.com/yatengLG/ISAT_with_segment_anything/issues/149: imagePath stays when files are renamed."""
    root = plant(tmp_path / "data", image="b.png")
    write_image(root / "b.png")
    write_json(root / "b.json", document(shape(), image="a.png"))
    found = get_finding(run_check(root, tmp_path), "unreadable_mask")
    assert sorted(found["files"]) == ["a.json", "b.json"]
    assert "a.json: 'imagePath' is 'b.png', but a.png has the name of this file" in found["message"]


def test_a_broken_embedded_image_is_an_error(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", document(shape(), imageData="AAAA"))
    dataset = Dataset.load(tmp_path)
    with pytest.raises(DataError, match=r"a\.json: imageData: The file is not an image of a known format"):
        dataset.decode_image(dataset.samples[0])


def test_a_size_other_than_the_images_is_an_error_with_both_sizes(tmp_path: Path) -> None:
    root = plant(tmp_path / "data", shape(), imageHeight=8, imageWidth=6)
    message = get_finding(run_check(root, tmp_path), "transposed_mask")["message"]
    assert "a.json is 8x6, but its image is 6x8" in message


def test_annotations_of_a_rotated_photo_are_in_its_upright_frame(tmp_path: Path) -> None:
    """Stored lying, shown upright by EXIF: the shapes are those of the upright view."""
    turned = Image.Exif()
    turned[0x0112] = 6
    Image.new("RGB", (SIZE[0], SIZE[1])).save(tmp_path / "a.jpg", exif=turned)
    for size in ({}, {"imageHeight": None, "imageWidth": None}):
        write_json(tmp_path / "a.json", document(shape(), image="a.jpg", **size))
        dataset = Dataset.load(tmp_path)
        assert dataset.read(dataset.samples[0])[1].tolist() == make_mask((1, *AREA))


def test_a_folder_without_such_files_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"contains no LabelMe JSON file\. Put each next to its image"):
        Dataset.load(tmp_path, "labelme")
