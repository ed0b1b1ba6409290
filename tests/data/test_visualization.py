import base64
import io

import numpy as np
import pytest
from PIL import Image

from pixelwise.data.classes import Classes
from pixelwise.data.colors import GRAY, choose_colors
from pixelwise.data.io.images import Array
from pixelwise.data.visualization import (
    OverlayStyle,
    choose_error_color,
    colorize_labels,
    draw_errors,
    list_swatches,
    overlay_labels,
    to_css_color,
    to_css_stripes,
    to_data_uri,
    to_display_image,
)
from support.predictions import ABC

CELLS = Classes(names=("background", "cell"), colors=choose_colors(["background", "cell"]), label_mapping={0: 0, 1: 1})
OTHER_LAST = Classes(
    names=("defect", "other"), colors=choose_colors(["defect", "other"]), label_mapping={0: 0, 1: 1}, majority=1
)
NOISE = np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)


def draw_disk(inside: int, outside: int) -> Array:
    rows, columns = np.ogrid[:40, :60]
    return np.where((rows - 20) ** 2 + (columns - 25) ** 2 < 150, inside, outside).astype(np.uint8)


@pytest.mark.parametrize("style", ["fill", "outline"])
@pytest.mark.parametrize("classes", [CELLS, OTHER_LAST])
def test_the_background_shows_the_image_exactly(classes: Classes, style: OverlayStyle) -> None:
    background = classes.background
    assert background is not None
    labels = draw_disk(1 - background, background)
    shown = overlay_labels(NOISE, labels, classes, style=style)
    is_background = labels == background
    np.testing.assert_array_equal(shown[is_background], NOISE[is_background])
    is_painted = (shown == classes.colors[1 - background]).all(-1) if style == "outline" else (shown != NOISE).any(-1)
    assert 40 < is_painted.sum() <= (~is_background).sum()


def test_a_background_is_neutral_in_label_pictures() -> None:
    assert colorize_labels(np.array([[0, 1]], np.uint8), CELLS).tolist() == [[list(GRAY), list(CELLS.colors[1])]]
    assert colorize_labels(np.array([[1]], np.uint8), OTHER_LAST).tolist() == [[list(GRAY)]]


def test_a_class_named_other_is_painted_where_it_is_not_the_largest() -> None:
    classes = Classes(names=OTHER_LAST.names, colors=OTHER_LAST.colors, label_mapping={0: 0, 1: 1})
    assert classes.background is None
    assert (overlay_labels(NOISE, draw_disk(0, 1), classes, 1) == GRAY).all(-1).sum() > 1000


def test_opacity_0_shows_the_image_and_1_the_colors() -> None:
    labels = draw_disk(1, 2)
    np.testing.assert_array_equal(overlay_labels(NOISE, labels, ABC, 0), NOISE)
    np.testing.assert_array_equal(overlay_labels(NOISE, labels, ABC, 1), colorize_labels(labels, ABC))


def test_outlines_are_opaque_lines_on_both_sides_that_leave_the_inside() -> None:
    labels = np.zeros((20, 20), np.uint8)
    labels[:, 10:] = 2
    shown = overlay_labels(np.full((20, 20, 3), 100, np.uint8), labels, ABC, style="outline")
    line = [[100] * 3] * 8 + [list(ABC.colors[0])] * 2 + [list(ABC.colors[2])] * 2 + [[100] * 3] * 8
    assert shown[5].tolist() == line


def test_borders_are_wider_in_large_pictures() -> None:
    labels = np.zeros((4000, 8), np.uint8)
    labels[2000:] = 1
    shown = overlay_labels(np.zeros((4000, 8, 3), np.uint8), labels, CELLS)
    assert [int((shown[:, 4] == color).all(-1).sum()) for color in ((230, 126, 0), (128, 70, 0))] == [4, 1996]


def test_errors_are_striped_and_visible_without_color() -> None:
    labels, prediction = np.zeros((40, 60), np.uint8), np.zeros((40, 60), np.uint8)
    prediction[10:30, 10:30] = 1
    labels[:, 50:] = 255
    shown = draw_errors(NOISE, labels, prediction, ABC)
    wrong = shown[10:30, 10:30].reshape(-1, 3)
    color = np.array(choose_error_color(ABC))
    assert {tuple(pixel) for pixel in wrong.tolist()} == {tuple(color.tolist()), tuple((color // 4).tolist())}
    assert (shown[:, 50:] == GRAY).all()
    right = shown[:, 35:50].astype(int)
    assert (np.ptp(right, axis=2) == 0).all()
    brightness = shown @ [0.299, 0.587, 0.114]
    assert brightness[10:30, 10:30].max() < 0.75 * right.min()
    assert np.ptp(brightness[10:30, 10:30], axis=0).min() > 40  # in each column, lighter and darker stripes


def test_swatches_show_that_the_background_is_not_painted() -> None:
    assert list_swatches(CELLS) == [("background (not painted)", "transparent"), ("cell", "rgb(255, 140, 0)")]
    assert list_swatches(ABC)[0] == ("a", "rgb(10, 20, 30)")
    assert "rgb(200, 40, 0) 0 3px, rgb(50, 10, 0) 3px 6px" in to_css_stripes(((200, 40, 0), (50, 10, 0)))


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
