from typing import get_args

import pytest
import torch
from torch import nn

from pixelwise.errors import InvalidArgumentError
from pixelwise.networks.layers import (
    Skips,
    Upsampling,
    build_upsampling,
    count_joined_channels,
    initialize_he,
    join_skip,
    upsample,
)
from pixelwise.ops.pooling import max_pool_with_switches
from pixelwise.ops.transposed_convolution import TransposedConv

MAP = torch.tensor([[1.0, 2.0], [3.0, 4.0]]).view(1, 1, 2, 2)
SWITCHES = torch.tensor([[3, 0], [1, 0]], dtype=torch.uint8).view(1, 1, 2, 2)
BILINEAR = torch.tensor([[1.0, 1.25, 1.75, 2.0], [1.5, 1.75, 2.25, 2.5], [2.5, 2.75, 3.25, 3.5]])


@pytest.mark.parametrize(
    ("upsampling", "expected"),
    [
        ("switches", torch.tensor([[0.0, 0, 2, 0], [0, 1, 0, 0], [0, 3, 4, 0]])),
        ("nearest", torch.tensor([[1.0, 1, 2, 2], [1, 1, 2, 2], [3, 3, 4, 4]])),
        ("bed_of_nails", torch.tensor([[1.0, 0, 2, 0], [0, 0, 0, 0], [3, 0, 4, 0]])),
        ("bilinear", BILINEAR),
    ],
)
def test_upsampling_doubles_and_crops_at_the_bottom_and_right(upsampling, expected):
    """Ceil mode pools 3 rows to 2: all upsamplings return the first 3 of 4 rows, and 3 of 4 columns."""
    for columns in (3, 4):
        grown = upsample(MAP, (3, columns), upsampling, SWITCHES)
        torch.testing.assert_close(grown[0, 0], expected[:, :columns])


@pytest.mark.parametrize("upsampling", get_args(Upsampling))
@pytest.mark.parametrize("size", [(1, 1), (45, 30), (6, 7)])
def test_upsampling_restores_the_size_before_pooling(upsampling, size):
    pooled, switches = max_pool_with_switches(torch.randn(2, 6, *size), 2, ceil_mode=True)
    layer = build_upsampling(upsampling, 6, 6)
    assert upsample(layer(pooled), size, upsampling, switches).shape == (2, 6, *size)


def test_transposed_convolution_doubles_by_itself():
    layer = build_upsampling("transposed", 3, 2)
    assert isinstance(layer, TransposedConv)
    assert layer(torch.zeros(1, 3, 5, 4)).shape == (1, 2, 10, 8)
    assert layer.state_dict().keys() == nn.ConvTranspose2d(3, 2, 2, stride=2).state_dict().keys()


@pytest.mark.parametrize("upsampling", sorted(set(get_args(Upsampling)) - {"transposed"}))
def test_other_upsamplings_change_channels_by_a_1x1_convolution(upsampling):
    assert isinstance(build_upsampling(upsampling, 4, 4), nn.Identity)
    reducing = build_upsampling(upsampling, 4, 2)
    assert isinstance(reducing, nn.Conv2d)
    assert reducing.weight.shape == (2, 4, 1, 1)


def test_unknown_upsampling_lists_the_choices():
    with pytest.raises(
        InvalidArgumentError, match=r"unknown upsampling 'nearst'. Did you mean 'nearest'\? .*bed_of_nails"
    ):
        build_upsampling("nearst", 4, 4)


def test_join():
    x, skip = torch.full((1, 2, 1, 1), 1.0), torch.full((1, 2, 1, 1), 2.0)
    assert join_skip(x, skip, "none").flatten().tolist() == [1, 1]
    assert join_skip(x, skip, "add").flatten().tolist() == [3, 3]
    assert join_skip(x, skip, "concat").flatten().tolist() == [2, 2, 1, 1]
    for skips in get_args(Skips):
        assert join_skip(x, skip, skips).shape[1] == count_joined_channels(2, skips)


def test_unknown_skips_list_the_choices():
    with pytest.raises(InvalidArgumentError, match=r"unknown skips 'cat'. .*: add, concat, none"):
        count_joined_channels(4, "cat")


def test_he_initialization_counts_inputs_of_one_output_pixel():
    torch.manual_seed(0)
    layers = [
        (nn.Conv2d(64, 256, 3), 576),
        (nn.Conv2d(256, 256, 7, groups=256), 49),
        (TransposedConv(128, 256, 2, stride=2), 128),
    ]
    for layer, seen in layers:
        initialize_he(layer)
        assert layer.weight.std().item() == pytest.approx((2 / seen) ** 0.5, rel=0.02)
        assert layer.bias.abs().max() == 0
