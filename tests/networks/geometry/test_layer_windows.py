import math

import pytest
import torch
from torch import nn

from pixelwise.errors import InvalidArgumentError
from pixelwise.networks.geometry.alignment import SlidingWindow
from pixelwise.networks.geometry.layer_windows import (
    DenseMaxPool,
    compute_stride,
    dilate,
    find_first_convolution,
    flatten_layers,
    get_windows,
    set_padding,
)


class Parallel(nn.Module):
    """Two branches, added."""

    def __init__(self, *branches: nn.Module) -> None:
        super().__init__()
        self.branches = nn.ModuleList(branches)

    def forward(self, x):
        return sum(branch(x) for branch in self.branches)


def test_windows_of_single_layers():
    assert get_windows(nn.Conv2d(1, 1, 3, 2, 4, dilation=5)) == (SlidingWindow(3, 2, 4, 5),)
    assert get_windows(nn.MaxPool2d(3, 2, 1, ceil_mode=True)) == (SlidingWindow(3, 2, 1, ceil_mode=True),)
    assert get_windows(nn.AvgPool2d(2)) == (SlidingWindow(2, 2),)
    assert get_windows(nn.ReLU()) == ()


def test_windows_of_layers_in_order_and_nested():
    layer = nn.Sequential(nn.Conv2d(1, 1, 3), nn.ReLU(), nn.Sequential(nn.MaxPool2d(2), nn.Conv2d(1, 1, 1)))
    assert get_windows(layer) == (SlidingWindow(3), SlidingWindow(2, 2), SlidingWindow(1))
    assert compute_stride(get_windows(layer)) == 2


def test_branches_that_agree_count_once():
    assert get_windows(Parallel(nn.Conv2d(1, 1, 3, 2, 1), nn.Conv2d(1, 1, 1, 2))) == (SlidingWindow(3, 2, 1),)
    assert get_windows(Parallel(nn.Conv2d(1, 1, 3, 1, 1), nn.Identity())) == ()


@pytest.mark.parametrize(
    "branches",
    [(nn.Conv2d(1, 1, 3, 2, 1), nn.AvgPool2d(2)), (nn.Conv2d(1, 1, 3), nn.Conv2d(1, 1, 3))],
)
def test_branches_with_different_centers_are_an_error(branches):
    with pytest.raises(InvalidArgumentError, match="The branches of Parallel have different centers"):
        get_windows(Parallel(*branches))


def test_windows_must_be_square():
    with pytest.raises(InvalidArgumentError, match=r"A window of \(1, 7\) is not square"):
        get_windows(nn.Conv2d(1, 1, (1, 7)))


def test_padding_must_be_a_number():
    with pytest.raises(InvalidArgumentError, match=r"padding='same' of Conv2d.* is not a number"):
        get_windows(nn.Conv2d(1, 1, 3, padding="same"))


def test_flatten_layers_opens_one_level_of_sequentials():
    layers = {"stem": nn.Conv2d(1, 1, 1), "body": nn.Sequential(nn.Sequential(nn.ReLU()), nn.ReLU())}
    assert [name for name, _ in flatten_layers(layers)] == ["stem", "body.0", "body.1"]


def test_a_layer_that_occurs_twice_counts_twice():
    pool = nn.MaxPool2d(2)
    layers = {"features": nn.Sequential(pool, pool)}
    assert [name for name, _ in flatten_layers(layers)] == ["features.0", "features.1"]
    assert get_windows(layers["features"]) == (SlidingWindow(2, 2), SlidingWindow(2, 2))


def test_find_first_convolution():
    layers = {"norm": nn.BatchNorm2d(1), "body": nn.Sequential(nn.ReLU(), Parallel(nn.Conv2d(1, 1, 3)))}
    name, convolution = find_first_convolution(layers)
    assert nn.ModuleDict(layers).get_submodule(name) is convolution
    alone = nn.Conv2d(1, 1, 1)
    assert find_first_convolution({"conv1": alone}) == ("conv1", alone)


def test_padding_is_set_in_place():
    layers = {"features": nn.Sequential(nn.Conv2d(1, 1, 3, padding=1), nn.MaxPool2d(2), nn.Conv2d(1, 1, 3))}
    set_padding(layers, ceil_mode=False, first_padding=None)
    assert get_windows(layers["features"]) == (SlidingWindow(3, 1, 1), SlidingWindow(2, 2), SlidingWindow(3))
    set_padding(layers, ceil_mode=True, first_padding=100)
    assert get_windows(layers["features"]) == (
        SlidingWindow(3, 1, 100),
        SlidingWindow(2, 2, ceil_mode=True),
        SlidingWindow(3),
    )


@pytest.mark.parametrize(("kernel", "padding"), [(2, 0), (3, 1), (3, 0)])
def test_dense_pooling_contains_the_pooled_values(kernel, padding):
    x = -torch.rand(1, 2, 12, 12)  # a maximum over added zeros would show
    window = SlidingWindow(kernel, 2, padding)
    dense = DenseMaxPool(window, 1)
    assert dense(x).shape == x.shape
    strided = nn.MaxPool2d(kernel, 2, padding, ceil_mode=True)(x)
    torch.testing.assert_close(dense(x)[:, :, ::2, ::2], strided[:, :, :6, :6])
    assert get_windows(dense)[0].compute_output_size(12) == 12
    assert get_windows(dense)[0].first_center == window.first_center


def test_dilation_must_lead_to_a_stride_on_the_way():
    with pytest.raises(InvalidArgumentError, match="lead to 4, but not to an output stride of 6"):
        dilate({"features": nn.Sequential(*[nn.MaxPool2d(2)] * 3)}, 6)
    with pytest.raises(InvalidArgumentError, match="lead to 2, but not to an output stride of 4"):
        dilate({"pool": nn.MaxPool2d(2)}, 4)


@pytest.mark.parametrize(
    "late",
    [nn.Conv2d(1, 1, 2, 2), nn.AvgPool2d(2), nn.Sequential(nn.AvgPool2d(3, 2, 1))],
)
def test_even_convolutions_and_averages_cannot_be_dilated(late):
    with pytest.raises(InvalidArgumentError, match="cannot be dilated"):
        dilate({"features": nn.Sequential(nn.MaxPool2d(2), late)}, 2)


def test_an_unpadded_window_after_a_removed_stride_cannot_be_dilated():
    with pytest.raises(InvalidArgumentError, match="cannot be dilated"):
        dilate({"features": nn.Sequential(nn.MaxPool2d(2), nn.MaxPool2d(2), nn.Conv2d(1, 1, 4))}, 2)


def test_dense_pooling_does_not_pad_with_zeros():
    assert DenseMaxPool(SlidingWindow(2, 2), 2)(torch.full((1, 1, 4, 4), -5.0)).eq(-5).all()
    assert not math.isinf(DenseMaxPool(SlidingWindow(3, 2, 1), 2)(torch.zeros(1, 1, 3, 3)).min())
