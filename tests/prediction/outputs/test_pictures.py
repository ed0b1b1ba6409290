from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pixelwise.data.classes import Classes, describe_classes
from pixelwise.data.io.images import read_mask
from pixelwise.prediction.outputs.pictures import (
    colorize,
    display,
    overlay,
    with_legend,
    write_labels,
    write_overlay,
)
from support.predictions import ABC, COLORS, predicted


def test_labels_are_a_palette_png_of_class_indices_in_the_class_colors(tmp_path: Path) -> None:
    labels = np.array([[0, 1, 2], [2, 2, 0]], np.uint8)
    write_labels(tmp_path / "x.png", predicted(labels, classes=ABC), "index")
    with Image.open(tmp_path / "x.png") as picture:
        assert picture.mode == "P"
        np.testing.assert_array_equal(np.asarray(picture), labels)
        np.testing.assert_array_equal(np.asarray(picture.convert("RGB")), np.array(COLORS)[labels])


def test_more_than_256_classes_are_written_in_16_bit(tmp_path: Path) -> None:
    classes = describe_classes({"names": [str(i) for i in range(300)]})
    labels = np.array([[0, 299], [256, 1]], np.uint16)
    write_labels(tmp_path / "x.png", predicted(labels, classes=classes), "index")
    np.testing.assert_array_equal(read_mask(tmp_path / "x.png"), labels)


@pytest.mark.parametrize(
    "described",
    [
        {"names": ["a", "b", "c"], "label_mapping": {0: 0, 128: 1, 255: 2}},
        {"names": ["a", "b", "c"], "label_mapping": {7: 0, 1000: 1, 40000: 2}},
        {"names": ["a", "b", "c"], "colors": COLORS, "coding": "rgb"},
    ],
)
def test_data_coding_is_read_back_as_the_same_labels(tmp_path: Path, described: dict[str, Any]) -> None:
    classes = describe_classes(described)
    labels = np.array([[0, 1, 2], [2, 1, 0]], np.uint8)
    write_labels(tmp_path / "x.png", predicted(labels, classes=classes), "dataset")
    read, unlisted = classes.to_labels(read_mask(tmp_path / "x.png"))
    np.testing.assert_array_equal(read, labels)
    assert unlisted == []


def test_data_coding_writes_the_masks_own_values(tmp_path: Path) -> None:
    classes = describe_classes({"names": ["a", "b"], "label_mapping": {0: 0, 255: 1}})
    write_labels(tmp_path / "x.png", predicted([[0, 1]], classes=classes), "dataset")
    assert read_mask(tmp_path / "x.png").tolist() == [[0, 255]]


def test_colorize_paints_ignored_pixels_black() -> None:
    painted = colorize(np.array([[0, 2, 255]], np.uint8), ABC)
    assert painted.tolist() == [[[10, 20, 30], [0, 0, 255], [0, 0, 0]]]


def test_overlay_blends_inside_and_paints_borders() -> None:
    labels = np.zeros((1, 4), np.uint8)
    labels[0, 2:] = 1
    shown = overlay(np.full((1, 4, 3), 100, np.uint8), labels, ABC, 0.5)
    assert shown[0, 0].tolist() == [55, 60, 65]
    assert shown[0, 2].tolist() == [190, 100, 10]  # where the class changes: nine tenths color
    assert shown[0, 3].tolist() == [150, 100, 50]


def test_a_region_on_class_0_has_one_rim_all_around() -> None:
    labels = np.zeros((5, 5), np.uint8)
    labels[1:4, 1:4] = 1
    shown = overlay(np.full((5, 5, 3), 100, np.uint8), labels, ABC, 0.5)
    rim = (shown == [190, 100, 10]).all(-1)
    assert rim.astype(int).tolist() == [[0] * 5, [0, 1, 1, 1, 0], [0, 1, 0, 1, 0], [0, 1, 1, 1, 0], [0] * 5]


@pytest.mark.parametrize(("channels", "kept"), [(1, [0, 0, 0]), (2, [0, 0, 0]), (3, [0, 1, 2]), (6, [0, 1, 2])])
def test_display_shows_three_channels(channels: int, kept: list[int]) -> None:
    image = np.arange(4 * channels, dtype=np.uint8).reshape(2, 2, channels)
    np.testing.assert_array_equal(display(image), image[..., kept])


def test_display_stretches_16_bit_to_its_own_range() -> None:
    shown = display(np.linspace(1000, 3000, 10000).astype(np.uint16).reshape(100, 100, 1))
    assert shown.dtype == np.uint8
    assert (shown.min(), shown.max()) == (0, 255)
    assert abs(int(shown[50, 0, 0]) - 127) < 3


@pytest.mark.parametrize("unit", [1e-4, 1.0, 1e6])
def test_display_of_floats_does_not_depend_on_their_unit(unit: float) -> None:
    ramp = np.linspace(-1, 1, 10000).reshape(100, 100, 1)
    shown = display((ramp * unit).astype(np.float32))
    assert (shown.dtype, shown.min(), shown.max()) == (np.uint8, 0, 255)
    assert abs(int(shown[50, 0, 0]) - 127) < 3


def test_display_stretches_bands_one_by_one_and_colors_together() -> None:
    ramp = np.linspace(0, 1, 10000).reshape(100, 100, 1)
    shown = display((ramp * [1e-3, 1, 50, 9000]).astype(np.float32))
    assert shown.shape == (100, 100, 3)
    assert (shown == shown[..., :1]).all()
    color = display((ramp * [0, 500, 1000]).astype(np.uint16))
    assert color[50, 0].tolist() == pytest.approx([0, 64, 128], abs=2)


def test_display_of_a_constant_16_bit_image_is_dark() -> None:
    assert display(np.full((3, 3, 1), 4095, np.uint16)).max() == 0


def test_the_overlay_has_a_legend_of_the_classes_that_occur(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[Any] = []
    monkeypatch.setattr(
        "pixelwise.prediction.outputs.pictures.with_legend",
        lambda picture, entries: shown.extend(entries) or with_legend(picture, entries),
    )
    image = np.zeros((10, 200, 3), np.uint8)
    labels = np.zeros((10, 200), np.uint8)
    labels[:, :150] = 2
    write_overlay(tmp_path / "x.png", predicted(labels, image=image))
    assert shown == [("c  75.0%", (0, 0, 255)), ("a  25.0%", (10, 20, 30))]
    with Image.open(tmp_path / "x.png") as picture:
        assert picture.width == 200
        assert picture.height > 10
        np.testing.assert_array_equal(np.asarray(picture)[:10], overlay(image, labels, ABC))


def test_a_legend_is_wrapped_and_never_narrower_than_its_texts() -> None:
    entries = [("a rather long name", (255, 0, 0)), ("b", (0, 255, 0)), ("c", (0, 0, 255))]
    narrow = with_legend(np.zeros((4, 1, 3), np.uint8), entries)
    wide = with_legend(np.zeros((4, 2000, 3), np.uint8), entries)
    assert narrow.shape[0] > wide.shape[0]
    assert wide.shape[1] == 2000
    for _, color in entries:
        assert (narrow == color).all(-1).any()
        assert (wide == color).all(-1).any()


def test_a_class_name_of_several_lines_is_shown_on_one(tmp_path: Path) -> None:
    classes = Classes(names=("two\nlines",), colors=((1, 2, 3),), label_mapping={0: 0})
    write_overlay(tmp_path / "x.png", predicted([[0, 0], [0, 0]], classes=classes))
    assert (tmp_path / "x.png").exists()
