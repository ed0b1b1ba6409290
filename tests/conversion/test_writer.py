import io
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from pixelwise.conversion.writer import (
    Content,
    description,
    encode_image,
    flat_names,
    index_mask,
    nested_name,
    require_distinct,
    write_file,
)
from pixelwise.data.classes import describe_classes
from pixelwise.data.io.images import decode_image_bytes, read_mask_bytes
from pixelwise.data.sample import Sample, Split
from pixelwise.errors import DataError


def sample(name: str, split: Split | None = None) -> Sample:
    return Sample(name=name, image_path=Path("a.png"), label_path=Path("b.png"), split=split)


@pytest.mark.parametrize(
    ("name", "split", "nested"),
    [
        ("train/city/1", "train", "city/1"),
        ("train/1", None, "train/1"),
        ("train", "train", "train"),
        ("other/1", "train", "other/1"),
        ("/etc/../../passwd", None, "etc/passwd"),
    ],
)
def test_names_stay_inside_the_folder(name: str, split: Split | None, nested: str) -> None:
    assert nested_name(sample(name, split)) == nested


def test_flat_names_carry_the_split_where_some_would_clash() -> None:
    one, two, three = sample("train/a/1", "train"), sample("val/a/1", "val"), sample("val/2", "val")
    assert list(flat_names([one, three]).values()) == ["a_1", "2"]
    assert list(flat_names([one, two, three]).values()) == ["train_a_1", "val_a_1", "val_2"]


def test_names_that_clash_nevertheless_are_an_error() -> None:
    with pytest.raises(DataError, match=r"2 images would be written under the one name 'a_1'; rename them"):
        flat_names([sample("a/1"), sample("a_1")])
    require_distinct(["a", "b"])


def test_no_file_is_written_twice(tmp_path: Path) -> None:
    write_file(tmp_path / "a" / "b.txt", "one")
    with pytest.raises(FileExistsError):
        write_file(tmp_path / "a" / "b.txt", b"two")
    assert (tmp_path / "a" / "b.txt").read_text() == "one"


@pytest.mark.parametrize(
    ("channels", "dtype", "ending"),
    [(1, "uint8", ".png"), (1, "uint16", ".png"), (3, "uint8", ".png"), (3, "uint16", ".png")]
    + [(channels, dtype, ".tif") for channels in (2, 4, 5) for dtype in ("uint8", "uint16")],
)
def test_images_are_encoded_without_loss(channels: int, dtype: str, ending: str) -> None:
    pixels = np.random.default_rng(0).integers(0, np.iinfo(dtype).max, (5, 7, channels), dtype)
    content, found = encode_image(pixels)
    decoded = decode_image_bytes(content, "made")
    assert (found, decoded.alpha, decoded.pixels.dtype) == (ending, False, pixels.dtype)
    assert np.array_equal(decoded.pixels, pixels)


def test_masks_show_the_colors_and_keep_the_ignored() -> None:
    classes = describe_classes({"names": ["a", "b"], "colors": [[1, 2, 3], [4, 5, 6]]})
    content = index_mask(np.array([[0, 1, 255]], np.uint8), classes)
    with Image.open(io.BytesIO(content)) as picture:
        assert picture.mode == "P"
        assert np.array_equal(picture.convert("RGB"), [[(1, 2, 3), (4, 5, 6), (224, 224, 192)]])
    assert np.array_equal(read_mask_bytes(content, "made"), [[0, 1, 255]])


def test_masks_of_many_classes_have_16_bit() -> None:
    classes = describe_classes({"names": [str(i) for i in range(300)]})
    labels = np.array([[0, 255, 299, 65535]], np.uint16)
    assert np.array_equal(read_mask_bytes(index_mask(labels, classes), "made"), labels)


@pytest.mark.parametrize(("channels", "written"), [(1, None), (3, None), (4, 4), (2, 2)])
def test_the_description_can_be_read_back(channels: int, written: int | None) -> None:
    classes = describe_classes({"names": ["grün", "no"], "colors": [[1, 2, 3], [4, 5, 6]]})
    values = yaml.safe_load(description(Content(classes=classes, channels=channels, samples=())))
    assert values.pop("channels", None) == written
    assert describe_classes(values) == classes
