"""What all formats of drawn labels share, and that their datasets are told apart."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pixelwise.data.formats import FORMATS
from pixelwise.data.formats._polygons import drawn_classes, files_below, sample_name, split_named
from pixelwise.errors import DataError
from support.drawings import write_json, write_picture

HERE = Path("classes")


def description(*names: str) -> Any:
    return drawn_classes(HERE, [(name, name, None) for name in names]).description


def test_background_comes_first() -> None:
    assert description("b", "a")["names"] == ["background", "b", "a"]
    assert description("b", "Background")["names"] == ["Background", "b"]


def test_what_is_called_ignore_is_no_class() -> None:
    classes = drawn_classes(HERE, [(5, "ignore", None), (6, "a", None)])
    assert classes.description["names"] == ["background", "a"]
    assert [classes.value(5), classes.value(6)] == [255, 1]


def test_colors_are_those_given_and_spare_ones() -> None:
    classes = drawn_classes(HERE, [(1, "a", (1, 2, 3)), (2, "b", None)])
    assert classes.description["colors"][:2] == [[0, 0, 0], [1, 2, 3]]
    assert len(classes.description["colors"]) == 3
    assert "colors" not in description("a", "b")


def test_a_class_listed_twice_is_an_error() -> None:
    with pytest.raises(DataError, match="classes lists the class 'a' twice; give each class its own name"):
        description("a", "b", "a")


def test_a_class_that_is_not_listed_is_an_error() -> None:
    with pytest.raises(DataError, match=r"the class 'c' is not among those listed \(a, b\); list it, or correct"):
        drawn_classes(HERE, [("a", "a", None), ("b", "b", None)]).value("c")


def test_names_leave_out_folders_that_all_images_have() -> None:
    root = Path("/data")
    paths = ["a.png", "images/train/a.png", "train/images/a.1.png", "ds/datasets/sub/img/a.png"]
    assert [sample_name(root, root / path) for path in paths] == ["a", "train/a", "train/a.1", "ds/sub/a"]


def test_words_of_splits() -> None:
    words = ("train", "Training", "val", "VALID", "validation", "test", "Testing")
    assert [split_named(word) for word in words] == ["train"] * 2 + ["val"] * 3 + ["test"] * 2
    assert split_named("trains") is None


def test_hidden_files_are_not_the_users(tmp_path: Path) -> None:
    for name in ("b.png", "a/c.JPG", ".thumbs/d.png", "a/.e.png", "f.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert [path.name for path in files_below(tmp_path)] == ["c.JPG", "b.png"]


def _coco(root: Path) -> None:
    write_json(root / "annotations/instances_train.json", {"images": [], "annotations": [], "categories": []})


def _labelme(root: Path) -> None:
    write_json(root / "train/a.json", {"version": "5", "flags": {}, "shapes": [], "imagePath": "a.png"})


def _cvat(root: Path) -> None:
    (root / "annotations.xml").write_text("<annotations><version>1.1</version></annotations>", encoding="utf-8")


def _yolo(root: Path) -> None:
    (root / "data.yaml").write_text("train: images/train\nnames: [cat]\n", encoding="utf-8")


def _supervisely(root: Path) -> None:
    write_json(root / "meta.json", {"classes": [{"title": "cat", "shape": "polygon"}], "tags": []})
    write_json(root / "ds0/ann/a.png.json", {"size": {}, "objects": []})


def _folder(root: Path) -> None:
    write_picture(root / "masks/a.png")
    (root / "dataset.yaml").write_text("names: [a, b]\n", encoding="utf-8")
    write_json(root / "report.json", {"images": 3})


PLANTS = {
    "coco": _coco,
    "labelme": _labelme,
    "cvat": _cvat,
    "yolo": _yolo,
    "supervisely": _supervisely,
    "folder": _folder,
}


@pytest.mark.parametrize("name", PLANTS)
def test_each_is_recognized_and_no_other(tmp_path: Path, name: str) -> None:
    plants: dict[str, Callable[[Path], None]] = dict(PLANTS)
    write_picture(tmp_path / "images/a.png")
    plants[name](tmp_path)
    recognized = {key for key in PLANTS if FORMATS[key].can_read(tmp_path)} - {"folder"}
    assert recognized == {name} - {"folder"}
