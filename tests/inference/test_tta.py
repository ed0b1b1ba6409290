from collections.abc import Sequence

import numpy as np
import pytest
import torch
from torch import Tensor

from pixelwise.data.io.images import Array
from pixelwise.inference.tta import View, average_views, make_views

IMAGE = np.random.default_rng(0).integers(0, 256, (5, 8, 3), np.uint8)


def predict_pixels(pixels: Array) -> Tensor:
    """Predict like a network of 1x1 convolutions: (H, W, 3) → (3, H, W)."""
    return (torch.from_numpy(pixels).float().permute(2, 0, 1) / 50).softmax(0)


@pytest.mark.parametrize(
    ("tta", "count"),
    [
        (["flips"], 4),
        (["rotations"], 8),
        (["scales"], 3),
        (["flips", "rotations"], 8),
        (["flips", "scales"], 12),
        (["rotations", "scales"], 24),
    ],
)
def test_views_are_distinct_and_begin_with_the_image(tta: Sequence[str], count: int) -> None:
    seen = make_views(tta)
    assert len(set(seen)) == count
    assert seen[0] == View()
    assert len({view.apply(IMAGE).tobytes() + bytes(view.apply(IMAGE).shape[:1]) for view in seen}) == count


def test_flips_are_mirror_images() -> None:
    found = {view.apply(IMAGE).tobytes() for view in make_views(["flips"])}
    assert found == {IMAGE[::a, ::b].tobytes() for a in (1, -1) for b in (1, -1)}


@pytest.mark.parametrize("view", make_views(["rotations"]), ids=str)
def test_a_view_is_inverted_exactly(view: View) -> None:
    planes = torch.from_numpy(view.apply(IMAGE)).permute(2, 0, 1)
    assert torch.equal(view.invert(planes, (5, 8)), torch.from_numpy(IMAGE).permute(2, 0, 1))


@pytest.mark.parametrize("tta", [["flips"], ["rotations"]])
def test_the_mean_of_a_network_of_1x1_convolutions_is_its_prediction(tta: Sequence[str]) -> None:
    torch.testing.assert_close(average_views(make_views(tta), IMAGE, predict_pixels), predict_pixels(IMAGE))


def test_scales_of_a_uniform_image_change_nothing() -> None:
    uniform = np.full((7, 9, 3), (10, 200, 90), np.uint8)
    seen = make_views(["scales", "rotations"])
    sizes = {view.apply(uniform).shape[:2] for view in seen}
    assert sizes == {(7, 9), (9, 7), (5, 7), (7, 5), (9, 11), (11, 9)}
    torch.testing.assert_close(average_views(seen, uniform, predict_pixels), predict_pixels(uniform))


def test_the_mean_is_over_all_views() -> None:
    """A network that predicts the left edge, for the image and its three mirror images."""

    def left_edge(pixels: Array) -> Tensor:
        found = torch.zeros(2, *pixels.shape[:2])
        found[0], found[0, :, 0], found[1, :, 0] = 1, 0, 1
        return found

    mean = average_views(make_views(["flips"]), IMAGE, left_edge)
    assert mean[1, 0].tolist() == [0.5, 0, 0, 0, 0, 0, 0, 0.5]


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_the_dtype_of_the_pixels_is_kept(dtype: type) -> None:
    for view in make_views(["rotations", "scales"]):
        scaled = view.apply(IMAGE.astype(dtype))
        assert scaled.dtype == dtype
        assert scaled.flags.c_contiguous


def test_a_single_pixel_keeps_its_size() -> None:
    assert View(scale=0.25).apply(IMAGE[:1, :1]).shape == (1, 1, 3)
