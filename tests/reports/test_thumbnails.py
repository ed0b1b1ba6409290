import base64
import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image

from pixelwise.data.classes import classes_from_values
from pixelwise.data.dataset import Dataset
from pixelwise.data.description import describe_classes, parse_description
from pixelwise.data.formats.dataset_index import SampleReader
from pixelwise.data.io.images import Array, DecodedImage, write_png
from pixelwise.data.sample import Sample
from pixelwise.data.visualization import choose_error_color
from pixelwise.reports.thumbnails import (
    MAX_CHARACTERS,
    MAX_SIDE,
    Panel,
    draw_file,
    draw_pair,
)

RED_AND_BLUE: dict[str, Any] = {"names": ["a", "b"], "colors": [[220, 0, 0], [0, 0, 220]]}


def decode_panel(panel: Panel) -> Array:
    with Image.open(io.BytesIO(base64.b64decode(panel.uri.partition(",")[2]))) as picture:
        return np.asarray(picture.convert("RGB")).astype(int)


def halves(left: object, right: object, shape: tuple[int, ...] = (40, 80)) -> Array:
    mask = np.empty(shape, np.uint8)
    mask[:, : shape[1] // 2], mask[:, shape[1] // 2 :] = left, right
    return mask


def write_pair(root: Path, image: Array, mask: Array, description: dict[str, Any] = RED_AND_BLUE) -> Dataset:
    write_png(root / "images/0.png", image)
    write_png(root / "masks/0.png", mask)
    return Dataset.load(root).with_classes(describe_classes(parse_description(description)), 3)


def is_near(pixel: Array, color: tuple[int, int, int]) -> bool:
    return bool(np.abs(pixel - np.array(color)).max() < 40)


GRAY = np.full((40, 80, 3), 128, np.uint8)


def test_the_mask_is_drawn_over_the_image(tmp_path: Path) -> None:
    dataset = write_pair(tmp_path, GRAY, halves(0, 1))
    shown = draw_pair(dataset, dataset.samples[0])
    assert (shown.name, shown.size) == ("images/0.png", "80 × 40")
    image, mask = shown.panels
    assert (image.title, mask.title) == ("image", "mask over the image")
    assert is_near(decode_panel(image)[20, 20], (128, 128, 128))
    assert is_near(decode_panel(mask)[20, 10], (183, 51, 51))
    assert is_near(decode_panel(mask)[20, 70], (51, 51, 183))
    assert (shown.labels, shown.has_unlisted) == ({0, 1}, False)


def test_pictures_are_small(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (600, 800, 3), np.uint8)
    dataset = write_pair(tmp_path, noise, np.random.default_rng(0).integers(0, 2, (600, 800), np.uint8))
    for panel in draw_pair(dataset, dataset.samples[0]).panels:
        assert (panel.height, panel.width) == (MAX_SIDE * 3 // 4, MAX_SIDE)
        assert len(panel.uri) <= MAX_CHARACTERS
        assert max(decode_panel(panel).shape) <= MAX_SIDE


def test_few_unlisted_pixels_are_visible(tmp_path: Path) -> None:
    mask = np.zeros((800, 800), np.uint8)
    mask[401, :] = 9
    dataset = write_pair(tmp_path, np.zeros((800, 800, 3), np.uint8), mask)
    shown = draw_pair(dataset, dataset.samples[0])
    assert shown.has_unlisted
    assert shown.labels == {0}
    panel = decode_panel(shown.panels[1])
    is_marked = np.abs(panel - choose_error_color(dataset.classes)).max(2) < 100
    assert is_marked[115:140].any(0).mean() > 0.6  # the other stripes are white
    assert (panel[115:140] > 170).all(2).any(0).mean() > 0.2
    assert not is_marked[:100].any()


def test_the_background_is_not_painted(tmp_path: Path) -> None:
    classes = {"names": ["background", "cell"], "colors": [[220, 0, 0], [0, 0, 220]]}
    dataset = write_pair(tmp_path, GRAY, halves(0, 1), classes)
    panel = decode_panel(draw_pair(dataset, dataset.samples[0]).panels[1])
    assert is_near(panel[20, 10], (128, 128, 128))
    assert is_near(panel[20, 70], (51, 51, 183))


def test_ignored_pixels_are_among_the_labels(tmp_path: Path) -> None:
    dataset = write_pair(tmp_path, GRAY, halves(0, 255))
    assert draw_pair(dataset, dataset.samples[0]).labels == {0, 255}


def test_a_mask_of_another_size_is_drawn_without_the_image(tmp_path: Path) -> None:
    dataset = write_pair(tmp_path, GRAY, halves(0, 1, (20, 40)))
    mask = draw_pair(dataset, dataset.samples[0]).panels[1]
    assert mask.title == "mask, 40 × 20"
    assert is_near(decode_panel(mask)[10, 5], (220, 0, 0))


@pytest.mark.parametrize("is_pair", [True, False])
def test_the_background_of_a_mask_without_its_image_is_not_painted(tmp_path: Path, is_pair: bool) -> None:
    classes = {"names": ["background", "cell"], "colors": [[220, 0, 0], [0, 0, 220]]}
    dataset = write_pair(tmp_path, GRAY, halves(0, 1), classes)
    (tmp_path / "images/0.png").write_bytes(b"")
    shown = draw_pair(dataset, dataset.samples[0])
    if not is_pair:
        shown = draw_file(dataset, tmp_path / "masks/0.png", is_mask=True)
    with Image.open(io.BytesIO(base64.b64decode(shown.panels[-1].uri.partition(",")[2]))) as picture:
        pixels = np.asarray(picture.convert("RGBA"))
    assert pixels[20, 10, 3] == 0
    assert pixels[20, 70, 3] == 255
    assert is_near(pixels[20, 70, :3].astype(int), (0, 0, 220))


@pytest.mark.parametrize("kind", ["images", "masks"])
def test_an_unreadable_file_shows_the_error(tmp_path: Path, kind: str) -> None:
    dataset = write_pair(tmp_path, GRAY, halves(0, 1))
    (tmp_path / kind / "0.png").write_bytes(b"")
    shown = draw_pair(dataset, dataset.samples[0])
    unreadable, other = shown.panels if kind == "images" else reversed(shown.panels)
    assert unreadable.error == "The file is empty. Replace or remove it."
    assert unreadable.uri == ""
    assert other.uri.startswith("data:image/webp")


def test_color_masks_are_drawn_in_the_class_colors(tmp_path: Path) -> None:
    description = {**RED_AND_BLUE, "coding": "rgb"}
    dataset = write_pair(tmp_path, GRAY, halves((220, 0, 0), (0, 0, 220), (40, 80, 3)), description)
    shown = draw_pair(dataset, dataset.samples[0])
    assert shown.labels == {0, 1}
    assert is_near(decode_panel(shown.panels[1])[20, 70], (51, 51, 183))


def test_color_masks_of_index_classes_are_drawn_as_images(tmp_path: Path) -> None:
    dataset = write_pair(tmp_path, GRAY, halves((0, 200, 0), (0, 0, 220), (40, 80, 3)))
    shown = draw_pair(dataset, dataset.samples[0])
    assert shown.labels == frozenset()
    assert is_near(decode_panel(shown.panels[1])[20, 10], (51, 171, 51))


def test_masks_of_unknown_classes_are_drawn_as_images(tmp_path: Path) -> None:
    dataset = write_pair(tmp_path, GRAY, halves(1, 3)).with_classes(classes_from_values(()), 3)
    shown = decode_panel(draw_file(dataset, tmp_path / "masks/0.png", is_mask=True).panels[0])
    assert is_near(shown[20, 10], (0, 0, 0))
    assert is_near(shown[20, 70], (255, 255, 255))


def test_a_dataset_without_classes(tmp_path: Path) -> None:
    write_pair(tmp_path, GRAY, halves(1, 3))
    dataset = Dataset.load(tmp_path)
    assert dataset.declared_classes is None
    assert len(draw_pair(dataset, dataset.samples[0]).panels) == 2


def test_images_with_16_bits_and_many_bands(tmp_path: Path) -> None:
    bands = np.random.default_rng(0).integers(0, 4096, (40, 80, 6), np.uint16)
    (tmp_path / "images").mkdir(parents=True)
    tifffile.imwrite(tmp_path / "images/0.tif", bands, photometric="rgb", extrasamples=[0] * 3, planarconfig="contig")
    write_png(tmp_path / "masks/0.png", halves(0, 1))
    dataset = Dataset.load(tmp_path).with_classes(describe_classes(parse_description(RED_AND_BLUE)), 6)
    image, mask = draw_pair(dataset, dataset.samples[0]).panels
    assert decode_panel(image).mean() == pytest.approx(127, abs=15)
    assert mask.title == "mask over the image"


def test_files_without_a_partner(tmp_path: Path) -> None:
    dataset = write_pair(tmp_path, GRAY, halves(0, 1))
    (image,) = draw_file(dataset, tmp_path / "images/0.png", is_mask=False).panels
    (mask,) = draw_file(dataset, tmp_path / "masks/0.png", is_mask=True).panels
    assert is_near(decode_panel(image)[20, 10], (128, 128, 128))
    assert is_near(decode_panel(mask)[20, 10], (220, 0, 0))
    for is_mask in (False, True):
        thumbnail = draw_file(dataset, tmp_path / "images/away.png", is_mask=is_mask)
        assert "The file does not exist" in thumbnail.panels[0].error


class _Floats(SampleReader):
    def decode_image(self, sample: Sample) -> DecodedImage:
        pixels = np.linspace(-500, 500, 40 * 80, dtype=np.float32).reshape(40, 80, 1)
        pixels[0, :3, 0] = np.nan, np.inf, -np.inf
        pixels[0, 3:] = -9999
        pixels[-1] = 1e20
        return DecodedImage(pixels=pixels, alpha=False)


def test_images_with_values_of_missing_data(tmp_path: Path) -> None:
    dataset = write_pair(tmp_path, GRAY, halves(0, 1))
    dataset = replace(dataset, index=replace(dataset.index, reader=_Floats()))
    shown = decode_panel(draw_pair(dataset, dataset.samples[0]).panels[0])
    assert shown[2].mean() < 60
    assert shown[-2].mean() > 200
