from collections.abc import Sequence

import numpy as np
import pytest
import torch
from torch import Tensor

from pixelwise.data.io.images import Array
from pixelwise.errors import InvalidArgumentError
from pixelwise.inference.tta import View, mean_over, require_transforms, views

IMAGE = np.random.default_rng(0).integers(0, 256, (5, 8, 3), np.uint8)


def each_pixel_alone(pixels: Array) -> Tensor:
    """What a network of 1x1 convolutions does: (H, W, 3) → (3, H, W)."""
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
    seen = views(tta)
    assert len(set(seen)) == count
    assert seen[0] == View()
    assert len({view.of(IMAGE).tobytes() + bytes(view.of(IMAGE).shape[:1]) for view in seen}) == count


def test_flips_are_mirror_images() -> None:
    found = {view.of(IMAGE).tobytes() for view in views(["flips"])}
    assert found == {IMAGE[::a, ::b].tobytes() for a in (1, -1) for b in (1, -1)}


@pytest.mark.parametrize("view", views(["rotations"]), ids=str)
def test_a_view_is_undone_exactly(view: View) -> None:
    planes = torch.from_numpy(view.of(IMAGE)).permute(2, 0, 1)
    assert torch.equal(view.undone(planes, (5, 8)), torch.from_numpy(IMAGE).permute(2, 0, 1))


@pytest.mark.parametrize("tta", [["flips"], ["rotations"]])
def test_the_mean_of_a_network_that_sees_each_pixel_alone_is_its_plain_answer(tta: Sequence[str]) -> None:
    torch.testing.assert_close(mean_over(views(tta), IMAGE, each_pixel_alone), each_pixel_alone(IMAGE))


def test_scales_of_an_even_image_change_nothing() -> None:
    even = np.full((7, 9, 3), (10, 200, 90), np.uint8)
    seen = views(["scales", "rotations"])
    sizes = {view.of(even).shape[:2] for view in seen}
    assert sizes == {(7, 9), (9, 7), (5, 7), (7, 5), (9, 11), (11, 9)}
    torch.testing.assert_close(mean_over(seen, even, each_pixel_alone), each_pixel_alone(even))


def test_the_mean_is_over_all_views() -> None:
    """A network that always says the left edge, asked on the image and its three mirror images."""

    def left_edge(pixels: Array) -> Tensor:
        found = torch.zeros(2, *pixels.shape[:2])
        found[0], found[0, :, 0], found[1, :, 0] = 1, 0, 1
        return found

    mean = mean_over(views(["flips"]), IMAGE, left_edge)
    assert mean[1, 0].tolist() == [0.5, 0, 0, 0, 0, 0, 0, 0.5]


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_the_type_of_the_pixels_stays(dtype: type) -> None:
    for view in views(["rotations", "scales"]):
        scaled = view.of(IMAGE.astype(dtype))
        assert scaled.dtype == dtype
        assert scaled.flags.c_contiguous


def test_a_single_pixel_is_not_scaled_away() -> None:
    assert View(scale=0.25).of(IMAGE[:1, :1]).shape == (1, 1, 3)


def test_an_unknown_name_is_an_error() -> None:
    with pytest.raises(InvalidArgumentError, match=r"unknown test-time augmentation 'flip'.* Did you mean 'flips'"):
        views(["flip"])
    with pytest.raises(InvalidArgumentError, match="unknown test-time augmentation 'blur'"):
        require_transforms(["flips", "blur"])
