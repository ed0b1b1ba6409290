import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import yaml
from matplotlib.path import Path as Outline
from pycocotools import mask as run_lengths
from pycocotools.coco import COCO

from pixelwise.api import convert
from pixelwise.data.io.images import Array, read_mask
from pixelwise.errors import DataError, InvalidArgumentError

# pycocotools decodes run lengths in a way that NumPy 2 deprecates.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

Make = Callable[..., Path]


def rasterize_coco(path: Path, file_name: str) -> tuple[Array, dict[int, str]]:
    """Read (H, W) category ids with pycocotools, 0 where there is none, and the names of the categories."""
    coco = COCO(str(path))
    (image,) = [image for image in coco.loadImgs(coco.getImgIds()) if image["file_name"] == file_name]
    values_of_pixels = np.zeros((image["height"], image["width"]), int)
    for annotation in coco.loadAnns(coco.getAnnIds(image["id"])):
        pixels = coco.annToMask(annotation).astype(bool)
        assert not values_of_pixels[pixels].any(), "objects overlap"
        assert annotation["area"] == pixels.sum()
        assert annotation["bbox"] == run_lengths.toBbox(annotation["segmentation"]).tolist()
        values_of_pixels[pixels] = annotation["category_id"]
    return values_of_pixels, {category["id"]: category["name"] for category in coco.loadCats(coco.getCatIds())}


def rasterize_yolo(path: Path, size: tuple[int, int]) -> Array:
    """Rasterize (H, W) class numbers with matplotlib by the rule of pixel centers; -1 where there is no object."""
    rows, columns = np.indices(size) + 0.5
    centers = np.stack([columns.ravel() / size[1], rows.ravel() / size[0]], 1)
    values_of_pixels = np.full(size, -1)
    for line in path.read_text().splitlines():
        number, *numbers = line.split()
        corners = np.array(numbers, float).reshape(-1, 2)
        assert ((corners >= 0) & (corners <= 1)).all()
        inside = Outline([*corners, corners[0]], closed=True).contains_points(centers).reshape(size)
        assert (values_of_pixels[inside] == -1).all(), "objects overlap"
        values_of_pixels[inside] = int(number)
    return values_of_pixels


@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_coco_contains_every_pixel(make: Make, tmp_path: Path, split: str) -> None:
    source, out = make(), tmp_path / "out"
    assert convert(source, out, to="coco").notes == ()
    values_of_pixels, names = rasterize_coco(out / "annotations" / f"instances_{split}.json", "city/1.1.jpg")
    assert names == {1: "ring", 2: "blob", 3: "ignore"}
    labels = read_mask(source / f"masks/{split}/city/1.1.png")
    assert np.array_equal(values_of_pixels, np.where(labels == 255, 3, labels))
    copied = out / f"images/{split}/city/1.1.jpg"
    assert copied.read_bytes() == (source / f"images/{split}/city/1.1.jpg").read_bytes()


def test_ignored_regions_of_coco_are_crowds(make: Make, tmp_path: Path) -> None:
    convert(make(), tmp_path / "out", to="coco")
    values = json.loads((tmp_path / "out/annotations/instances_val.json").read_text())
    crowds = [a for a in values["annotations"] if a["iscrowd"]]
    assert {(a["category_id"], a["ignore"]) for a in crowds} == {(3, 1)}
    assert all("ignore" not in a for a in values["annotations"] if a not in crowds)


def test_without_a_background_every_class_has_objects(make: Make, tmp_path: Path) -> None:
    source, out = make(names=["sky", "ring", "blob"]), tmp_path / "out"
    assert convert(source, out / "coco", to="coco").notes == ()
    assert len(convert(source, out / "yolo", to="yolo").notes) == 1
    labels = read_mask(source / "masks/val/city/0.1.png")
    values_of_pixels, names = rasterize_coco(out / "coco/annotations/instances_val.json", "city/0.1.jpg")
    assert names == {1: "sky", 2: "ring", 3: "blob", 4: "ignore"}
    assert np.array_equal(values_of_pixels, np.where(labels == 255, 4, labels + 1))
    expected = np.where(labels == 255, -1, labels.astype(int))
    assert np.array_equal(rasterize_yolo(out / "yolo/labels/val/city/0.1.txt", labels.shape), expected)


def test_coco_reserves_the_name_ignore(make: Make, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"A class is named 'ignore', which COCO uses for .* Rename it"):
        convert(make(names=["background", "ignore", "blob"]), tmp_path / "out", to="coco")


def test_without_pycocotools_the_extra_is_named(make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = make()
    monkeypatch.setitem(sys.modules, "pycocotools", None)
    with pytest.raises(
        InvalidArgumentError, match=r'writing COCO needs pycocotools, .*: pip install "pixelwise\[coco\]"'
    ):
        convert(source, tmp_path / "out", to="coco")
    assert not (tmp_path / "out").exists()


def test_yolo_contains_every_pixel_except_ignored_ones(make: Make, tmp_path: Path) -> None:
    source, out = make(), tmp_path / "out"
    result = convert(source, out, to="yolo")
    lost = 0
    for split in ("train", "val", "test"):
        for name in ("city/0.1", "city/1.1"):
            labels = read_mask(source / f"masks/{split}/{name}.png").astype(int)
            lost += int((labels == 255).sum())
            labels[labels == 255] = 0
            assert np.array_equal(rasterize_yolo(out / f"labels/{split}/{name}.txt", labels.shape), labels - 1)
            copied = out / f"images/{split}/{name}.jpg"
            assert copied.read_bytes() == (source / f"images/{split}/{name}.jpg").read_bytes()
    assert result.notes == (
        f"YOLO cannot represent ignored pixels: {lost} ignored pixels of 6 images became background",
    )
    assert yaml.safe_load((out / "data.yaml").read_text()) == {
        "path": ".",
        "test": "images/test",
        "train": "images/train",
        "val": "images/val",
        "names": {0: "ring", 1: "blob"},
    }
