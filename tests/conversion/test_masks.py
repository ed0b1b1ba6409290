import json
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

from pixelwise.api import convert
from pixelwise.data.dataset import Dataset
from pixelwise.data.io.images import Array, read_image, write_png
from pixelwise.errors import DataError
from support.named_datasets import AREAS, NAMED_DATASETS

Make = Callable[..., Path]


def read_values(path: Path) -> Array:
    """Read the values of a mask file with Pillow."""
    with Image.open(path) as picture:
        return np.asarray(picture)


def list_files(root: Path) -> list[str]:
    return sorted(path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file())


def has_same_bytes(one: Path, two: Path) -> bool:
    return one.read_bytes() == two.read_bytes()


def test_folder(make: Make, tmp_path: Path) -> None:
    source, out = make(splits=["train", "val"]), tmp_path / "out"
    convert(source, out, to="folder")
    assert list_files(out) == [
        ".pixelwise.json",
        "dataset.yaml",
        *(f"images/{split}/city/{n}.1.jpg" for split in ("train", "val") for n in (0, 1)),
        *(f"masks/{split}/city/{n}.1.png" for split in ("train", "val") for n in (0, 1)),
    ]
    assert has_same_bytes(out / "images/val/city/1.1.jpg", source / "images/val/city/1.1.jpg")
    assert np.array_equal(read_values(out / "masks/val/city/1.1.png"), read_values(source / "masks/val/city/1.1.png"))
    assert yaml.safe_load((out / "dataset.yaml").read_text())["ignore"] == [255]


def test_a_folder_without_splits_has_none(make: Make, tmp_path: Path) -> None:
    convert(make(splits=[""]), tmp_path / "out", to="folder")
    assert "images/city/0.1.jpg" in list_files(tmp_path / "out")


@pytest.mark.parametrize("to", ["coco", "folder", "nnunet", "voc", "webdataset", "yolo"])
def test_names_in_another_order_keep_their_pixels(tmp_path: Path, to: Any) -> None:
    for form in ("labelme", "camvid"):
        source, out = tmp_path / form, tmp_path / f"{form} {to}"
        NAMED_DATASETS[form].build(source)
        names = list(Dataset.load(source).classes.names)
        (source / "dataset.yaml").write_text(yaml.safe_dump({"names": names[::-1]}))
        convert(source, out, to=to)
        dataset = Dataset.load(out)
        for sample in dataset.samples:
            found = np.array(dataset.classes.names)[dataset.read_labels(sample)]
            assert np.array_equal(found, np.array(NAMED_DATASETS[form].names)[AREAS])


def test_voc_keeps_the_classes_of_images_with_names_of_voc(tmp_path: Path) -> None:
    for name in ("2007_000032", "2008_000051"):
        write_png(
            tmp_path / f"data/images/{name}.png",
            np.random.default_rng(int(name[-2:])).integers(0, 256, (6, 8, 3), np.uint8),
        )
        write_png(tmp_path / f"data/masks/{name}.png", np.resize(np.array([0, 1, 2], np.uint8), (6, 8)))
    (tmp_path / "data/dataset.yaml").write_text("names: [person, x, background]")
    convert(tmp_path / "data", tmp_path / "out", to="voc")
    dataset = Dataset.load(tmp_path / "out")
    assert (dataset.format, dataset.classes.names) == ("voc", ("person", "x", "background"))
    assert dataset[0][1].ravel()[:3].tolist() == [0, 1, 2]


def test_voc(make: Make, tmp_path: Path) -> None:
    source, out = make(), tmp_path / "out"
    convert(source, out, to="voc")
    assert (out / "ImageSets/Segmentation/val.txt").read_text() == "val_city_0.1\nval_city_1.1\n"
    assert has_same_bytes(out / "JPEGImages/val_city_0.1.jpg", source / "images/val/city/0.1.jpg")
    with Image.open(out / "SegmentationClass/val_city_0.1.png") as picture:
        assert picture.mode == "P"
        assert np.array_equal(np.asarray(picture), read_values(source / "masks/val/city/0.1.png"))
        assert picture.convert("RGB").getpixel((23, 19)) == (224, 224, 192)
    assert len(list((out / "SegmentationClass").iterdir())) == 6


def test_voc_supports_255_classes(tmp_path: Path) -> None:
    for number, name in enumerate(("a", "b")):
        write_png(tmp_path / "images" / f"{name}.png", np.arange(64, dtype=np.uint8).reshape(8, 8) + np.uint8(number))
        write_png(tmp_path / "masks" / f"{name}.png", np.arange(64, dtype=np.uint16).reshape(8, 8))
    (tmp_path / "dataset.yaml").write_text(yaml.safe_dump({"names": [str(i) for i in range(256)]}))
    with pytest.raises(DataError, match=r"has 256 classes, but VOC masks allow at most 255. Use the format folder"):
        convert(tmp_path, tmp_path / "out", to="voc")


def test_webdataset(make: Make, tmp_path: Path) -> None:
    source, out = make(), tmp_path / "out"
    convert(source, out, to="webdataset")
    shards = [f"{split}-000000.tar" for split in ("test", "train", "val")]
    assert list_files(out) == [".pixelwise.json", "dataset.yaml", *shards]
    with tarfile.open(out / "val-000000.tar") as archive:
        assert archive.getnames() == [f"city/{n}_1.{end}" for n in (0, 1) for end in ("jpg", "mask.png")]
        assert {(m.mtime, m.uid, m.uname) for m in archive} == {(0, 0, "")}
        image = archive.extractfile("city/1_1.jpg")
        assert image is not None
        assert image.read() == (source / "images/val/city/1.1.jpg").read_bytes()
        mask = archive.extractfile("city/1_1.mask.png")
        assert mask is not None
        with Image.open(mask) as picture:
            assert np.array_equal(np.asarray(picture), read_values(source / "masks/val/city/1.1.png"))


def test_full_shards_are_closed(make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pixelwise.conversion.masks.SHARD_BYTES", 1)
    convert(make(splits=[""]), tmp_path / "out", to="webdataset")
    assert list_files(tmp_path / "out") == [".pixelwise.json", "all-000000.tar", "all-000001.tar", "dataset.yaml"]
    with tarfile.open(tmp_path / "out" / "all-000001.tar") as archive:
        assert archive.getnames() == ["city/1_1.jpg", "city/1_1.mask.png"]
    assert (tmp_path / "out" / "all-000001.tar").read_bytes()[-1024:] == bytes(1024)


def test_keys_that_differ_only_by_dots_are_an_error(make: Make, tmp_path: Path) -> None:
    source = make(splits=[""])
    for part, ending in (("images", "jpg"), ("masks", "png")):
        (source / part / "city" / f"1.1.{ending}").rename(source / part / "city" / f"0_1.{ending}")
    with pytest.raises(DataError, match=r"2 images would all be written as 'None/city/0_1'"):
        convert(source, tmp_path / "out", to="webdataset")


def test_nnunet(make: Make, tmp_path: Path) -> None:
    source, out = make(), tmp_path / "out"
    result = convert(source, out, to="nnunet")
    assert json.loads((out / "dataset.json").read_text()) == {
        "channel_names": {"0": "R", "1": "G", "2": "B"},
        "labels": {"background": 0, "ring": 1, "blob": 2, "ignore": 3},
        "numTraining": 4,
        "file_ending": ".png",
        "overwrite_image_reader_writer": "NaturalImage2DIO",
    }
    assert result.notes == ("nnU-Net makes its own folds: imagesTr has 2 val pairs",)
    cases = [f"{split}_city_{n}.1" for split in ("train", "val") for n in (0, 1)]
    assert sorted(p.name for p in (out / "imagesTr").iterdir()) == [f"{case}_0000.png" for case in cases]
    assert sorted(p.name for p in (out / "labelsTr").iterdir()) == [f"{case}.png" for case in cases]
    assert sorted(p.name for p in (out / "imagesTs").iterdir()) == [f"test_city_{n}.1_0000.png" for n in (0, 1)]
    image = read_values(out / "imagesTr/val_city_1.1_0000.png")
    assert np.array_equal(image, read_image(source / "images/val/city/1.1.jpg"))
    labels = read_values(source / "masks/val/city/1.1.png")
    assert np.array_equal(read_values(out / "labelsTr/val_city_1.1.png"), np.where(labels == 255, 3, labels))


def test_nnunet_has_an_ignore_label_only_if_it_occurs(make: Make, tmp_path: Path) -> None:
    result = convert(make(names=["sky", "ring", "blob"], ignored=False), tmp_path / "out", to="nnunet")
    assert json.loads((tmp_path / "out/dataset.json").read_text())["labels"] == {"sky": 0, "ring": 1, "blob": 2}
    assert result.notes[1] == "nnU-Net uses label 0 for the background, but here it is 'sky'"


def test_nnunet_reserves_the_name_ignore(make: Make, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"A class is named 'ignore', which nnU-Net uses for .* Rename it"):
        convert(make(names=["background", "ignore", "blob"]), tmp_path / "out", to="nnunet")


def test_nnunet_writes_other_channels_separately(tmp_path: Path) -> None:
    import tifffile

    for seed, name in enumerate(("a", "b")):
        bands = np.random.default_rng(seed).integers(0, 4096, (8, 9, 5), np.uint16)
        (tmp_path / "s/images").mkdir(parents=True, exist_ok=True)
        tifffile.imwrite(tmp_path / f"s/images/{name}.tif", bands, photometric="minisblack", planarconfig="contig")
        write_png(tmp_path / f"s/masks/{name}.png", (bands[..., 0] > 2000).astype(np.uint8))
    convert(tmp_path / "s", tmp_path / "out", to="nnunet")
    found = [read_values(tmp_path / f"out/imagesTr/b_{channel:04}.png") for channel in range(5)]
    assert np.array_equal(np.stack(found, -1), bands)
    assert json.loads((tmp_path / "out/dataset.json").read_text())["channel_names"]["4"] == "4"


@pytest.mark.parametrize("channels", [1, 2, 3])
def test_nnunet_has_tiffs_of_float_images(tmp_path: Path, channels: int) -> None:
    import tifffile

    for seed, name in enumerate(("a", "b")):
        bands = np.random.default_rng(seed).normal(size=(8, 9, channels)).astype(np.float32)
        (tmp_path / "s/images").mkdir(parents=True, exist_ok=True)
        form = {"planarconfig": "contig"} if channels > 1 else {}
        tifffile.imwrite(tmp_path / f"s/images/{name}.tif", bands.squeeze(), photometric="minisblack", **form)
        write_png(tmp_path / f"s/masks/{name}.png", (bands[..., 0] > 0).astype(np.uint8))
    convert(tmp_path / "s", tmp_path / "out", to="nnunet")
    assert json.loads((tmp_path / "out/dataset.json").read_text())["file_ending"] == ".tif"
    for (image, labels), (expected, expected_labels) in zip(
        Dataset.load(tmp_path / "out"), Dataset.load(tmp_path / "s"), strict=True
    ):
        np.testing.assert_array_equal(image, expected)
        np.testing.assert_array_equal(labels, expected_labels)
