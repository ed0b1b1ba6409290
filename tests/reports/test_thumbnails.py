import base64
import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image

from pixelwise.data.classes import classes_from_values, describe_classes
from pixelwise.data.dataset import Dataset
from pixelwise.data.formats.dataset_index import SampleReader
from pixelwise.data.io.images import Array, DecodedImage, write_png
from pixelwise.data.sample import Sample
from pixelwise.reports.thumbnails import (
    MAX_CHARACTERS,
    SIDE,
    UNLISTED,
    Panel,
    image_thumbnail,
    mask_thumbnail,
    pair_thumbnail,
)

RED_AND_BLUE: dict[str, Any] = {"names": ["a", "b"], "colors": [[220, 0, 0], [0, 0, 220]]}


def pixels_of(panel: Panel) -> Array:
    with Image.open(io.BytesIO(base64.b64decode(panel.uri.partition(",")[2]))) as picture:
        return np.asarray(picture.convert("RGB")).astype(int)


def halves(left: object, right: object, shape: tuple[int, ...] = (40, 80)) -> Array:
    mask = np.empty(shape, np.uint8)
    mask[:, : shape[1] // 2], mask[:, shape[1] // 2 :] = left, right
    return mask


def a_pair(root: Path, image: Array, mask: Array, description: dict[str, Any] = RED_AND_BLUE) -> Dataset:
    write_png(root / "images/0.png", image)
    write_png(root / "masks/0.png", mask)
    return Dataset.load(root).with_classes(describe_classes(description), 3)


def near(pixel: Array, color: tuple[int, int, int]) -> bool:
    return bool(np.abs(pixel - np.array(color)).max() < 40)


GRAY = np.full((40, 80, 3), 128, np.uint8)


def test_the_mask_lies_over_the_image(tmp_path: Path) -> None:
    dataset = a_pair(tmp_path, GRAY, halves(0, 1))
    shown = pair_thumbnail(dataset, dataset.samples[0])
    assert (shown.name, shown.size) == ("images/0.png", "80 × 40")
    image, mask = shown.panels
    assert (image.what, mask.what) == ("image", "mask over the image")
    assert near(pixels_of(image)[20, 20], (128, 128, 128))
    assert near(pixels_of(mask)[20, 10], (183, 51, 51))
    assert near(pixels_of(mask)[20, 70], (51, 51, 183))
    assert (shown.labels, shown.unlisted) == ({0, 1}, False)


def test_pictures_are_small(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (600, 800, 3), np.uint8)
    dataset = a_pair(tmp_path, noise, np.random.default_rng(0).integers(0, 2, (600, 800), np.uint8))
    for panel in pair_thumbnail(dataset, dataset.samples[0]).panels:
        assert (panel.height, panel.width) == (SIDE * 3 // 4, SIDE)
        assert len(panel.uri) <= MAX_CHARACTERS
        assert max(pixels_of(panel).shape) <= SIDE


def test_unlisted_pixels_shine_however_few(tmp_path: Path) -> None:
    mask = np.zeros((800, 800), np.uint8)
    mask[401, :] = 9
    dataset = a_pair(tmp_path, np.zeros((800, 800, 3), np.uint8), mask)
    shown = pair_thumbnail(dataset, dataset.samples[0])
    assert shown.unlisted
    assert shown.labels == {0}
    panel = pixels_of(shown.panels[1])
    assert np.abs(panel - UNLISTED).max(2).min(0).max() < 130  # the class alone: 200


def test_ignored_pixels_are_counted_as_such(tmp_path: Path) -> None:
    dataset = a_pair(tmp_path, GRAY, halves(0, 255))
    assert pair_thumbnail(dataset, dataset.samples[0]).labels == {0, 255}


def test_masks_of_another_size_stand_alone(tmp_path: Path) -> None:
    dataset = a_pair(tmp_path, GRAY, halves(0, 1, (20, 40)))
    mask = pair_thumbnail(dataset, dataset.samples[0]).panels[1]
    assert mask.what == "mask, 40 × 20"
    assert near(pixels_of(mask)[10, 5], (220, 0, 0))


@pytest.mark.parametrize("kind", ["images", "masks"])
def test_what_cannot_be_decoded_says_why(tmp_path: Path, kind: str) -> None:
    dataset = a_pair(tmp_path, GRAY, halves(0, 1))
    (tmp_path / kind / "0.png").write_bytes(b"")
    shown = pair_thumbnail(dataset, dataset.samples[0])
    troubled, other = shown.panels if kind == "images" else reversed(shown.panels)
    assert troubled.trouble == "the file is empty; replace or remove it."
    assert troubled.uri == ""
    assert other.uri.startswith("data:image/webp")


def test_masks_coded_by_color_are_drawn_in_the_class_colors(tmp_path: Path) -> None:
    description = {**RED_AND_BLUE, "coding": "rgb"}
    dataset = a_pair(tmp_path, GRAY, halves((220, 0, 0), (0, 0, 220), (40, 80, 3)), description)
    shown = pair_thumbnail(dataset, dataset.samples[0])
    assert shown.labels == {0, 1}
    assert near(pixels_of(shown.panels[1])[20, 70], (51, 51, 183))


def test_colors_where_ids_are_expected_are_shown_as_they_are(tmp_path: Path) -> None:
    dataset = a_pair(tmp_path, GRAY, halves((0, 200, 0), (0, 0, 220), (40, 80, 3)))
    shown = pair_thumbnail(dataset, dataset.samples[0])
    assert shown.labels == frozenset()
    assert near(pixels_of(shown.panels[1])[20, 10], (51, 171, 51))


def test_masks_of_unknown_classes_are_stretched(tmp_path: Path) -> None:
    dataset = a_pair(tmp_path, GRAY, halves(1, 3)).with_classes(classes_from_values(()), 3)
    shown = pixels_of(mask_thumbnail(dataset, tmp_path / "masks/0.png").panels[0])
    assert near(shown[20, 10], (0, 0, 0))
    assert near(shown[20, 70], (255, 255, 255))


def test_a_set_whose_classes_are_not_known_is_shown(tmp_path: Path) -> None:
    a_pair(tmp_path, GRAY, halves(1, 3))
    dataset = Dataset.load(tmp_path)
    assert dataset.declared_classes is None
    assert len(pair_thumbnail(dataset, dataset.samples[0]).panels) == 2


def test_sixteen_bits_and_many_bands_are_shown(tmp_path: Path) -> None:
    bands = np.random.default_rng(0).integers(0, 4096, (40, 80, 6), np.uint16)
    (tmp_path / "images").mkdir(parents=True)
    tifffile.imwrite(tmp_path / "images/0.tif", bands, photometric="rgb", extrasamples=[0] * 3, planarconfig="contig")
    write_png(tmp_path / "masks/0.png", halves(0, 1))
    dataset = Dataset.load(tmp_path).with_classes(describe_classes(RED_AND_BLUE), 6)
    image, mask = pair_thumbnail(dataset, dataset.samples[0]).panels
    assert pixels_of(image).mean() == pytest.approx(127, abs=15)
    assert mask.what == "mask over the image"


def test_files_in_no_pair_are_shown_alone(tmp_path: Path) -> None:
    dataset = a_pair(tmp_path, GRAY, halves(0, 1))
    (image,) = image_thumbnail(dataset, tmp_path / "images/0.png").panels
    (mask,) = mask_thumbnail(dataset, tmp_path / "masks/0.png").panels
    assert near(pixels_of(image)[20, 10], (128, 128, 128))
    assert near(pixels_of(mask)[20, 10], (220, 0, 0))
    for show in (image_thumbnail, mask_thumbnail):
        assert "the file does not exist" in show(dataset, tmp_path / "images/away.png").panels[0].trouble


class _Floats(SampleReader):
    def decode_image(self, sample: Sample) -> DecodedImage:
        pixels = np.linspace(-500, 500, 40 * 80).reshape(40, 80, 1)
        pixels[0, :3, 0] = np.nan, np.inf, -np.inf
        return DecodedImage(pixels=pixels, alpha=False)


def test_values_that_are_not_finite_keep_no_image_from_being_shown(tmp_path: Path) -> None:
    dataset = a_pair(tmp_path, GRAY, halves(0, 1))
    dataset = replace(dataset, index=replace(dataset.index, reader=_Floats()))
    shown = pixels_of(pair_thumbnail(dataset, dataset.samples[0]).panels[0])
    assert shown[2].mean() < 60
    assert shown[-2].mean() > 200
