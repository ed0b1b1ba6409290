"""The helpers of formats whose labels are shapes, and the recognition of these formats."""

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from pixelwise.data.dataset import Dataset
from pixelwise.data.description import DatasetDescription
from pixelwise.data.formats import FORMATS
from pixelwise.data.formats._shapes import ImageShapes, ListedImage, index_listed_images, make_classes, name_sample
from pixelwise.data.formats.dataset_index import DatasetIndex, find_images, find_split
from pixelwise.data.rasterize import make_box
from pixelwise.errors import DataError
from support.shape_datasets import SHAPE_DATASETS, list_relative, write_image, write_json

HERE = Path("classes")


def describe(*names: str) -> DatasetDescription:
    return make_classes(HERE, [(name, name, None) for name in names]).description


def test_background_comes_first() -> None:
    assert describe("b", "a").names == ("background", "b", "a")
    assert describe("b", "Background").names == ("Background", "b")


def test_pixels_of_a_class_named_ignore_are_ignored() -> None:
    classes = make_classes(HERE, [(5, "ignore", None), (6, "a", None)])
    assert classes.description.names == ("background", "a")
    assert [classes.get_value(5), classes.get_value(6)] == [255, 1]


def test_colors_are_those_given_and_spare_ones() -> None:
    classes = make_classes(HERE, [(1, "a", (1, 2, 3)), (2, "b", None)])
    colors = classes.description.colors or ()
    assert colors[:2] == ((0, 0, 0), (1, 2, 3))
    assert len(colors) == 3
    assert describe("a", "b").colors is None


def test_a_class_listed_twice_is_an_error() -> None:
    with pytest.raises(DataError, match=r"classes lists the class 'a' twice\. Give each class its own name"):
        describe("a", "b", "a")


def test_a_class_that_is_not_listed_is_an_error() -> None:
    with pytest.raises(
        DataError, match=r"The class 'c' is not among those in classes \('a', 'b'\). List it there, or correct"
    ):
        make_classes(HERE, [("a", "a", None), ("b", "b", None)]).get_value("c")


def test_names_leave_out_folders_that_all_images_have() -> None:
    root = Path("/data")
    paths = ["a.png", "images/train/a.png", "train/images/a.1.png", "ds/datasets/sub/img/a.png"]
    assert [name_sample(root, root / path) for path in paths] == ["a", "train/a", "train/a.1", "ds/sub/a"]


def test_names_of_splits() -> None:
    words = ("train", "Training", "val", "VALID", "validation", "eval", "test", "Testing")
    assert [find_split([word]) for word in words] == ["train"] * 2 + ["val"] * 4 + ["test"] * 2
    assert find_split(["trains", "x"]) is None
    assert find_split(["trains", "Valid", "test"]) == "val"


def test_hidden_files_are_skipped(tmp_path: Path) -> None:
    for name in ("b.png", "a/c.JPG", ".thumbs/d.png", "a/.e.png", "f.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert [path.name for path in find_images(tmp_path)] == ["c.JPG", "b.png"]


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
    write_image(root / "masks/a.png")
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
def test_each_format_is_recognized_and_no_other(tmp_path: Path, name: str) -> None:
    plants: dict[str, Callable[[Path], None]] = dict(PLANTS)
    write_image(tmp_path / "images/a.png")
    plants[name](tmp_path)
    recognized = {key for key in PLANTS if FORMATS[key].can_read(tmp_path)} - {"folder"}
    assert recognized == {name} - {"folder"}


# Documents that list images.

CLASSES = make_classes(Path("list"), [("cat", "cat", None)])


def pair(root: Path, listed: dict[str, str], folders: Sequence[str] = ("images", ".")) -> DatasetIndex:
    """`listed`: name of an image → name of the document that lists it."""
    entries = [
        ListedImage(document=root / document, name=name, split=None, content=number)
        for number, (name, document) in enumerate(listed.items(), 1)
    ]
    where = {root / document: folders for document in listed.values()}
    return index_listed_images(root, entries, sorted(root.rglob("*.png")), where, draw, CLASSES)


def draw(number: int) -> ImageShapes:
    if number > 9:
        raise DataError("has no area")
    return (1, 9), [make_box(1, 0, 0, number, 1)]


def test_each_image_gets_the_shapes_of_its_own_entry(tmp_path: Path) -> None:
    for name in ("images/a.png", "b.png", "images/deep/c.png"):
        write_image(tmp_path / name)
    index = pair(tmp_path, {"a.png": "one", "b.png": "two", "deep/c.png": "one"})
    pixels = {s.image_path.name: int(index.reader.read_mask(s).sum()) for s in index.samples}
    assert pixels == {"a.png": 1, "b.png": 2, "c.png": 3}
    assert [s.mask_path.name for s in index.samples] == ["one", "two", "one"]


def test_the_first_folder_and_the_whole_name_are_preferred(tmp_path: Path) -> None:
    for name in ("images/a.png", "a.png", "deep/a.png"):
        write_image(tmp_path / name)
    for listed, expected in (("a.png", "images/a.png"), ("deep/a.png", "deep/a.png"), ("C:\\x\\a.png", "images/a.png")):
        (sample,) = pair(tmp_path, {listed: "x"}).samples
        assert list_relative(tmp_path, [sample.image_path]) == [expected]


def test_images_outside_the_root_are_not_read(tmp_path: Path) -> None:
    write_image(tmp_path / "secret/a.png")
    write_image(tmp_path / "data/b.png")
    index = pair(tmp_path / "data", {"b.png": "x", "../secret/a.png": "x", f"{tmp_path}/secret/a.png": "y"})
    assert [s.name for s in index.samples] == ["b"]
    assert list_relative(tmp_path, index.masks_without_image) == ["data/images/a.png"] * 2


def test_an_image_of_two_documents_is_an_error(tmp_path: Path) -> None:
    write_image(tmp_path / "a.png")
    with pytest.raises(DataError, match=r"a\.png is listed twice, in .*one and in .*two\. Keep only one entry\."):
        pair(tmp_path, {"a.png": "one", "./a.png": "two"})


def test_invalid_content_is_an_error_with_the_image(tmp_path: Path) -> None:
    names = [f"{number}.png" for number in range(10)]
    for name in names:
        write_image(tmp_path / name)
    index = pair(tmp_path, dict.fromkeys(names, "one"))
    with pytest.raises(DataError, match=r"one: .*9\.png: has no area"):
        index.reader.read_mask(index.samples[9])


each_format = pytest.mark.parametrize("name", SHAPE_DATASETS)


def read_index(root: Path, name: str) -> DatasetIndex:
    dataset = Dataset.load(root)
    assert dataset.format == name
    for sample in dataset.samples:
        dataset.read(sample)
    return dataset.index


@each_format
def test_links_to_folders_are_followed(name: str, tmp_path: Path) -> None:
    write, names = SHAPE_DATASETS[name]
    write(tmp_path / "store")
    (tmp_path / "data").mkdir()
    for path in (tmp_path / "store").iterdir():
        (tmp_path / "data" / path.name).symlink_to(path)
    assert [s.name for s in read_index(tmp_path / "data", name).samples] == names


@each_format
def test_cycles_and_second_paths_change_nothing(name: str, tmp_path: Path) -> None:
    write, names = SHAPE_DATASETS[name]
    write(tmp_path)
    for folder in [path for path in tmp_path.rglob("*") if path.is_dir()]:
        (folder / "cycle").symlink_to(tmp_path)
        (folder.parent / f"{folder.name}_again").symlink_to(folder)
    found = read_index(tmp_path, name)
    assert [s.name for s in found.samples] == names
    assert found == DatasetIndex(samples=found.samples, description=found.description)


@each_format
def test_a_folder_of_the_dataset_may_be_linked_into_another(name: str, tmp_path: Path) -> None:
    """The folder comes first in the order of the names, and has no part of a split."""
    write, names = SHAPE_DATASETS[name]
    write(tmp_path)
    for folder in [
        path for path in tmp_path.rglob("*") if path.is_dir() and not any(p.is_dir() for p in path.iterdir())
    ]:
        target = tmp_path / "a_store" / folder.relative_to(tmp_path)
        target.parent.mkdir(parents=True, exist_ok=True)
        folder.rename(target)
        folder.symlink_to(target)
    found = read_index(tmp_path, name)
    assert [s.name for s in found.samples] == names
    assert found == DatasetIndex(samples=found.samples, description=found.description)
