import io

import numpy as np
import numpy.typing as npt
import pytest
from matplotlib.colors import Normalize
from PIL import Image

from pixelwise.prediction.outputs.heatmap import COLORS, OPACITY, Heatmap, blend_heatmap, draw_heatmaps


def picture(height: int = 24, width: int = 32) -> npt.NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 255, (height, width, 3), np.uint8)


def make_heatmap(logits: npt.NDArray[np.float32], name: str = "cyclist") -> Heatmap:
    return Heatmap(name=name, probability=0.5, logits=logits)


def ramp(height: int = 24, width: int = 32) -> npt.NDArray[np.float32]:
    return np.linspace(-3, 5, height * width, dtype=np.float32).reshape(height, width)


def opened(content: bytes) -> Image.Image:
    result = Image.open(io.BytesIO(content))
    result.load()
    return result


def test_the_peak_is_a_row_and_a_column() -> None:
    logits = np.zeros((5, 9), np.float32)
    logits[3, 7] = 0.1
    assert make_heatmap(logits).peak == (3, 7)


def test_a_pixel_is_gray_under_the_color_of_its_logit() -> None:
    scale = Normalize(-2, 6)
    shown = blend_heatmap(np.array([[[10, 20, 60], [90, 120, 150]]], np.uint8), np.array([[-2, 6]], np.float32), scale)
    for column, (gray, opacity, value) in enumerate([(30, OPACITY[0], 0.0), (120, OPACITY[1], 1.0)]):
        expected = gray * (1 - opacity) + 255 * np.array(COLORS(value)[:3]) * opacity
        np.testing.assert_array_equal(shown[0, column], np.rint(expected))


@pytest.mark.parametrize(
    ("size", "maps", "rows", "columns"),
    [((24, 32), 3, 2, 2), ((24, 32), 1, 1, 2), ((32, 20), 3, 1, 4), ((10, 40), 3, 4, 1), ((24, 32), 2, 2, 2)],
)
def test_panels_are_laid_out_by_the_shape_of_the_picture(
    size: tuple[int, int], maps: int, rows: int, columns: int
) -> None:
    drawn = opened(draw_heatmaps(picture(*size), [make_heatmap(ramp(*size))] * maps))
    panel = np.array([4 * min(1, size[1] / size[0]), 4 / max(1, size[1] / size[0])])
    expected = 150 * np.array([columns * panel[0] + 1, rows * (panel[1] + 0.35)])
    np.testing.assert_allclose(drawn.size, expected, atol=2)


def test_picture_maps_and_color_bar_are_drawn() -> None:
    """The picture's own red, the hot and the cold end of the bar, and a white ring."""
    red = np.zeros((24, 32, 3), np.uint8)
    red[..., 0] = 200
    pixels = np.asarray(opened(draw_heatmaps(red, [make_heatmap(ramp())])).convert("RGB")).astype(int)
    for color in ([200, 0, 0], *(np.array(COLORS(end)[:3]) * 255 for end in (0.0, 1.0))):
        assert (np.abs(pixels - color).max(axis=2) <= 12).sum() > 20, color
    right = pixels[:, pixels.shape[1] // 2 :]
    assert (right.reshape(-1, 3) == 255).all(1).any()


def test_the_peak_is_the_maximum_of_the_map() -> None:
    """In the panel of a black picture, red lies where the logits are high: at its right edge."""
    logits = np.tile(np.arange(32, dtype=np.float32), (24, 1))
    pixels = np.asarray(opened(draw_heatmaps(np.zeros((24, 32, 3), np.uint8), [make_heatmap(logits)])).convert("RGB"))
    hot = np.abs(pixels - np.array(COLORS(1.0)[:3]) * 255 * OPACITY[1]).max(axis=2) <= 2
    columns = np.flatnonzero(hot.any(axis=0))
    assert 1150 < columns.min() < columns.max() < 1250


def test_equal_arguments_give_equal_bytes_without_a_software_tag() -> None:
    first, second = (draw_heatmaps(picture(), [make_heatmap(ramp())]) for _ in range(2))
    assert first == second
    assert opened(first).info.keys() <= {"dpi"}


@pytest.mark.parametrize("name", ["$x", "a_b^{c$", "100 %", "[bold]"])
def test_names_are_not_formulas(name: str) -> None:
    assert draw_heatmaps(picture(), [make_heatmap(ramp(), name)]) != draw_heatmaps(
        picture(), [make_heatmap(ramp(), "x")]
    )


@pytest.mark.parametrize("logits", [np.zeros((24, 32)), np.full((24, 32), 1e9), np.full((24, 32), -1e-9)])
def test_a_map_of_one_value_is_drawn(logits: npt.NDArray[np.float64]) -> None:
    assert opened(draw_heatmaps(picture(), [make_heatmap(logits.astype(np.float32))])).format == "PNG"


@pytest.mark.parametrize("size", [(1024, 224), (224, 1024), (1, 1)])
def test_extreme_shapes_are_drawn(size: tuple[int, int]) -> None:
    assert min(opened(draw_heatmaps(picture(*size), [make_heatmap(ramp(*size))] * 3)).size) > 200
