from collections.abc import Sequence
from pathlib import Path

import pytest

from pixelwise.data.formats._index_files import Listed, listed_pairing
from pixelwise.data.formats._polygons import Drawing, drawn_classes
from pixelwise.data.formats.dataset_index import DatasetIndex
from pixelwise.data.rasterize import make_box
from pixelwise.errors import DataError
from support.drawings import relative, write_picture

CLASSES = drawn_classes(Path("list"), [("cat", "cat", None)])


def pair(root: Path, listed: dict[str, str], folders: Sequence[str] = ("images", ".")) -> DatasetIndex:
    """`listed`: name of an image → name of the document that lists it."""
    entries = [
        Listed(document=root / document, name=name, split=None, content=number)
        for number, (name, document) in enumerate(listed.items(), 1)
    ]
    where = {root / document: folders for document in listed.values()}
    return listed_pairing(root, entries, sorted(root.rglob("*.png")), where, draw, CLASSES)


def draw(number: int) -> Drawing:
    if number > 9:
        raise KeyError("points")
    return Drawing(size=(1, 9), shapes=[make_box(1, 0, 0, number, 1)])


def test_each_image_gets_the_shapes_of_its_own_entry(tmp_path: Path) -> None:
    for name in ("images/a.png", "b.png", "images/deep/c.png"):
        write_picture(tmp_path / name)
    pairing = pair(tmp_path, {"a.png": "one", "b.png": "two", "deep/c.png": "one"})
    pixels = {s.image_path.name: int(pairing.reader.read_mask(s).sum()) for s in pairing.samples}
    assert pixels == {"a.png": 1, "b.png": 2, "c.png": 3}
    assert [s.label_path.name for s in pairing.samples] == ["one", "two", "one"]


def test_the_first_folder_counts_and_the_whole_name_before_its_last_part(tmp_path: Path) -> None:
    for name in ("images/a.png", "a.png", "deep/a.png"):
        write_picture(tmp_path / name)
    assert relative(tmp_path, [s.image_path for s in pair(tmp_path, {"a.png": "x"}).samples]) == ["images/a.png"]
    assert relative(tmp_path, [s.image_path for s in pair(tmp_path, {"deep/a.png": "x"}).samples]) == ["deep/a.png"]
    assert relative(tmp_path, [s.image_path for s in pair(tmp_path, {"C:\\x\\a.png": "x"}).samples]) == ["images/a.png"]


def test_nothing_outside_of_the_root_is_taken(tmp_path: Path) -> None:
    write_picture(tmp_path / "secret/a.png")
    write_picture(tmp_path / "data/b.png")
    pairing = pair(tmp_path / "data", {"b.png": "x", "../secret/a.png": "x", f"{tmp_path}/secret/a.png": "y"})
    assert [s.name for s in pairing.samples] == ["b"]
    assert relative(tmp_path, pairing.masks_without_image) == ["data/images/a.png"] * 2


def test_an_image_of_two_documents_is_an_error(tmp_path: Path) -> None:
    write_picture(tmp_path / "a.png")
    with pytest.raises(DataError, match=r"a\.png is listed twice, in .*one and in .*two; keep one"):
        pair(tmp_path, {"a.png": "one", "./a.png": "two"})


def test_what_cannot_be_drawn_is_an_error_with_the_place(tmp_path: Path) -> None:
    names = [f"{number}.png" for number in range(10)]
    for name in names:
        write_picture(tmp_path / name)
    pairing = pair(tmp_path, dict.fromkeys(names, "one"))
    with pytest.raises(DataError, match=r"one: image '9\.png': 'points' is missing"):
        pairing.reader.read_mask(pairing.samples[9])
