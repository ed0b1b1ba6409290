import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pixelwise.data.dataset import Dataset
from pixelwise.data.formats.nnunet import find_pairs
from pixelwise.data.io.images import read_image, write_png
from pixelwise.errors import DataError, PathNotFoundError
from support.mask_datasets import INFO, image, mask, nnunet, nnunet_rgb, text


def test_channels_are_stacked_in_order(tmp_path: Path) -> None:
    nnunet(tmp_path)
    dataset = Dataset.load(tmp_path)
    pixels = dataset.read_image(dataset.samples[0])
    files = [tmp_path / f"imagesTs/road_c_000{channel}.png" for channel in range(2)]
    assert np.array_equal(pixels, np.concatenate([read_image(file) for file in files], -1))
    assert not np.array_equal(pixels[..., 0], pixels[..., 1])


def test_a_missing_channel_is_an_error_when_it_is_read(tmp_path: Path) -> None:
    nnunet(tmp_path)
    for channel in range(2):
        (tmp_path / f"imagesTr/road_{'ab'[channel]}_{channel:04d}.png").unlink()
    dataset = Dataset.load(tmp_path)
    for sample, name in zip(dataset.samples[1:], ("road_a_0000", "road_b_0001"), strict=True):
        with pytest.raises(PathNotFoundError, match=rf"imagesTr/{name}.png: The file does not exist"):
            dataset.decode_image(sample)


@pytest.mark.parametrize(
    ("pixels", "message"),
    [
        (
            image(3),
            r"road_c_0001.png: The file has 3 channels, but an image with one file per channel needs one in each",
        ),
        (
            image(1)[1:],
            r"road_c_0001.png: The file is 3x6 uint8, but channel 0 of the image is 4x6 uint8 \(height x width\)",
        ),
        (image(1).astype(np.uint16), r"road_c_0001.png: The file is 4x6 uint16, but channel 0 .* Save all channels"),
    ],
)
def test_a_channel_of_another_size_or_type_is_an_error(tmp_path: Path, pixels: Any, message: str) -> None:
    nnunet(tmp_path)
    write_png(tmp_path / "imagesTs/road_c_0001.png", pixels)
    dataset = Dataset.load(tmp_path)
    with pytest.raises(DataError, match=message):
        dataset.decode_image(dataset.samples[0])


def test_two_files_of_one_channel_are_in_no_pair(tmp_path: Path) -> None:
    nnunet(tmp_path)
    write_png(tmp_path / "imagesTr/road_a_0001.bmp", image(1))
    found = find_pairs(tmp_path)
    assert len(found.samples) == 2
    assert found.same_stem == (tmp_path / "imagesTr/road_a_0001.bmp", tmp_path / "imagesTr/road_a_0001.png")


def test_the_index_marks_datasets_with_channel_files(tmp_path: Path) -> None:
    nnunet(tmp_path / "several")
    nnunet_rgb(tmp_path / "rgb")
    assert find_pairs(tmp_path / "several").channel_files
    assert not find_pairs(tmp_path / "rgb").channel_files


def test_cases_without_a_partner_are_listed(tmp_path: Path) -> None:
    nnunet_rgb(tmp_path)
    (tmp_path / "labelsTr/a.png").rename(tmp_path / "labelsTr/z.png")
    found = find_pairs(tmp_path)
    assert found.images_without_mask == (tmp_path / "imagesTr/a_0000.png",)
    assert found.masks_without_image == (tmp_path / "labelsTr/z.png",)


def test_ids_that_leave_gaps_are_mapped(tmp_path: Path) -> None:
    nnunet_rgb(tmp_path)
    write_png(tmp_path / "labelsTr/a.png", mask(0, 5))
    text(tmp_path / "dataset.json", json.dumps(INFO | {"labels": {"x": 5, "background": 0}}))
    assert find_pairs(tmp_path).description.label_mapping == {0: 0, 5: 1}
    assert find_pairs(tmp_path).description.names == ("background", "x")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("case", "case.png has no channel in its name. Rename it to case_0000.png"),
        ("a_0007", r"a_0007.png is channel 7, counted from 0, but 'channel_names' in dataset.json lists 2"),
    ],
)
def test_a_file_name_without_a_channel_is_an_error(tmp_path: Path, name: str, message: str) -> None:
    nnunet(tmp_path)
    write_png(tmp_path / f"imagesTr/{name}.png", image(1))
    with pytest.raises(DataError, match=message):
        find_pairs(tmp_path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"file_ending": ".nii.gz"}, "'file_ending' is '.nii.gz', but .* Save each slice of a volume as such a file"),
        ({"file_ending": None}, "'file_ending' is None"),
        ({"labels": {"background": 0, "whole": [1, 2]}}, r"'whole' is a region of several ids, \[1, 2\], but regions"),
        ({"labels": {"0": "background", "1": "x"}}, "The label '0' has the id 'background'. Use names with ids"),
        ({"labels": {"a": 1, "b": 1}}, "Two of the 'labels' have the same id"),
        ({"labels": ["a"]}, "'labels' must map names to ids"),
        ({"channel_names": {"1": "red"}}, "'channel_names' is {'1': 'red'}. Name each channel"),
        ({"channel_names": {}}, "'channel_names' is {}. Name each channel"),
    ],
)
def test_invalid_dataset_json_is_an_error(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    nnunet(tmp_path)
    text(tmp_path / "dataset.json", json.dumps(INFO | changes))
    with pytest.raises(DataError, match=rf"dataset.json: .*{message}"):
        find_pairs(tmp_path)


@pytest.mark.parametrize(
    ("content", "message"), [("{", "The file is not valid JSON"), ("[]", "The file has no keys such as 'labels'")]
)
def test_a_dataset_json_of_something_else_is_an_error(tmp_path: Path, content: str, message: str) -> None:
    nnunet(tmp_path)
    text(tmp_path / "dataset.json", content)
    with pytest.raises(DataError, match=rf"dataset.json\S* {message}"):
        find_pairs(tmp_path)
