import base64
import io

import numpy as np
import pytest
from PIL import Image

from pixelwise.data.visualization import (
    colorize_labels,
    overlay_labels,
    to_css_color,
    to_data_uri,
    to_display_image,
)
from support.predictions import ABC


def test_colorize_paints_ignored_pixels_black() -> None:
    painted = colorize_labels(np.array([[0, 2, 255]], np.uint8), ABC)
    assert painted.tolist() == [[[10, 20, 30], [0, 0, 255], [0, 0, 0]]]


def test_overlay_blends_inside_and_paints_borders() -> None:
    labels = np.zeros((1, 4), np.uint8)
    labels[0, 2:] = 1
    shown = overlay_labels(np.full((1, 4, 3), 100, np.uint8), labels, ABC, 0.5)
    assert shown[0, 0].tolist() == [55, 60, 65]
    assert shown[0, 2].tolist() == [190, 100, 10]  # where the class changes: nine tenths color
    assert shown[0, 3].tolist() == [150, 100, 50]


def test_a_region_on_class_0_has_one_rim_all_around() -> None:
    labels = np.zeros((5, 5), np.uint8)
    labels[1:4, 1:4] = 1
    shown = overlay_labels(np.full((5, 5, 3), 100, np.uint8), labels, ABC, 0.5)
    rim = (shown == [190, 100, 10]).all(-1)
    assert rim.astype(int).tolist() == [[0] * 5, [0, 1, 1, 1, 0], [0, 1, 0, 1, 0], [0, 1, 1, 1, 0], [0] * 5]


@pytest.mark.parametrize(("channels", "kept"), [(1, [0, 0, 0]), (2, [0, 0, 0]), (3, [0, 1, 2]), (6, [0, 1, 2])])
def test_display_shows_three_channels(channels: int, kept: list[int]) -> None:
    image = np.arange(4 * channels, dtype=np.uint8).reshape(2, 2, channels)
    np.testing.assert_array_equal(to_display_image(image), image[..., kept])


def test_display_stretches_16_bit_to_its_own_range() -> None:
    shown = to_display_image(np.linspace(1000, 3000, 10000).astype(np.uint16).reshape(100, 100, 1))
    assert shown.dtype == np.uint8
    assert (shown.min(), shown.max()) == (0, 255)
    assert abs(int(shown[50, 0, 0]) - 127) < 3


@pytest.mark.parametrize("unit", [1e-4, 1.0, 1e6])
def test_display_of_floats_does_not_depend_on_their_unit(unit: float) -> None:
    ramp = np.linspace(-1, 1, 10000).reshape(100, 100, 1)
    shown = to_display_image((ramp * unit).astype(np.float32))
    assert (shown.dtype, shown.min(), shown.max()) == (np.uint8, 0, 255)
    assert abs(int(shown[50, 0, 0]) - 127) < 3


def test_display_stretches_bands_one_by_one_and_colors_together() -> None:
    ramp = np.linspace(0, 1, 10000).reshape(100, 100, 1)
    shown = to_display_image((ramp * [1e-3, 1, 50, 9000]).astype(np.float32))
    assert shown.shape == (100, 100, 3)
    assert (shown == shown[..., :1]).all()
    color = to_display_image((ramp * [0, 500, 1000]).astype(np.uint16))
    assert color[50, 0].tolist() == pytest.approx([0, 64, 128], abs=2)


def test_display_of_a_constant_16_bit_image_is_dark() -> None:
    assert to_display_image(np.full((3, 3, 1), 4095, np.uint16)).max() == 0


def test_a_picture_becomes_part_of_the_page() -> None:
    uri = to_data_uri(np.full((40, 80, 3), (200, 30, 30), np.uint8), 20)
    kind, _, content = uri.partition(",")
    assert kind == "data:image/webp;base64"
    with Image.open(io.BytesIO(base64.b64decode(content))) as picture:
        assert picture.size == (20, 10)
        assert np.abs(np.asarray(picture.convert("RGB")).astype(int) - (200, 30, 30)).max() < 12


def test_a_color_is_written_for_css() -> None:
    assert to_css_color((1, 20, 255)) == "rgb(1, 20, 255)"
