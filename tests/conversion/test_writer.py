import io
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from pixelwise.conversion.writer import (
    encode_image,
    encode_mask,
    format_description,
    make_flat_names,
    make_nested_name,
    require_distinct_names,
    write_file,
)
from pixelwise.data.description import describe_classes, parse_description
from pixelwise.data.io.images import decode_image_bytes, read_mask_bytes
from pixelwise.data.sample import Sample, Split
from pixelwise.errors import DataError


def sample(name: str, split: Split | None = None) -> Sample:
    return Sample(name=name, image_path=Path("a.png"), mask_path=Path("b.png"), split=split)


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
    assert make_nested_name(sample(name, split)) == nested


def test_flat_names_contain_the_split_where_needed() -> None:
    one, two, three = sample("train/a/1", "train"), sample("val/a/1", "val"), sample("val/2", "val")
    assert list(make_flat_names([one, three]).values()) == ["a_1", "2"]
    assert list(make_flat_names([one, two, three]).values()) == ["train_a_1", "val_a_1", "val_2"]


def test_equal_names_are_an_error() -> None:
    with pytest.raises(DataError, match=r"2 images would all be written as 'a_1'. Rename them"):
        make_flat_names([sample("a/1"), sample("a_1")])
    require_distinct_names(["a", "b"])


def test_no_file_is_written_twice(tmp_path: Path) -> None:
    write_file(tmp_path / "a" / "b.txt", "one")
    with pytest.raises(FileExistsError):
        write_file(tmp_path / "a" / "b.txt", b"two")
    assert (tmp_path / "a" / "b.txt").read_text() == "one"


@pytest.mark.parametrize(
    ("channels", "dtype", "suffix"),
    [(1, "uint8", ".png"), (1, "uint16", ".png"), (3, "uint8", ".png"), (3, "uint16", ".png")]
    + [(channels, dtype, ".tif") for channels in (2, 4, 5) for dtype in ("uint8", "uint16")]
    + [(channels, "float32", ".tif") for channels in (1, 3, 4)],
)
def test_images_are_encoded_without_loss(channels: int, dtype: str, suffix: str) -> None:
    pixels = np.random.default_rng(0).integers(0, 2**8 if dtype == "uint8" else 2**16, (5, 7, channels)).astype(dtype)
    content, found = encode_image(pixels)
    decoded = decode_image_bytes(content, "made")
    assert (found, decoded.alpha, decoded.pixels.dtype) == (suffix, False, pixels.dtype)
    assert np.array_equal(decoded.pixels, pixels)


def test_masks_have_class_colors_and_ignored_pixels() -> None:
    classes = describe_classes(parse_description({"names": ["a", "b"], "colors": [[1, 2, 3], [4, 5, 6]]}))
    content = encode_mask(np.array([[0, 1, 255]], np.uint8), classes)
    with Image.open(io.BytesIO(content)) as picture:
        assert picture.mode == "P"
        assert np.array_equal(picture.convert("RGB"), [[(1, 2, 3), (4, 5, 6), (224, 224, 192)]])
    assert np.array_equal(read_mask_bytes(content, "made"), [[0, 1, 255]])


def test_masks_of_many_classes_have_16_bit() -> None:
    classes = describe_classes(parse_description({"names": [str(i) for i in range(300)]}))
    labels = np.array([[0, 255, 299, 65535]], np.uint16)
    assert np.array_equal(read_mask_bytes(encode_mask(labels, classes), "made"), labels)


@pytest.mark.parametrize(("channels", "written"), [(1, None), (3, None), (4, 4), (2, 2)])
def test_the_description_can_be_read_back(channels: int, written: int | None) -> None:
    classes = describe_classes(parse_description({"names": ["grün", "no"], "colors": [[1, 2, 3], [4, 5, 6]]}))
    values = yaml.safe_load(format_description(classes, channels))
    assert values.pop("channels", None) == written
    assert describe_classes(parse_description(values)) == classes
