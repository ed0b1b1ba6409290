import copy
import subprocess
import sys
from pathlib import Path
from typing import get_args

import pytest
import torch
from torch import nn

from pixelwise.errors import InvalidArgumentError
from pixelwise.networks import Segmenter, SegNet, UNet
from pixelwise.networks.layers import (
    Skips,
    Upsampling,
    WidenedConv2d,
    build_unpooling,
    build_upsampling,
    count_joined_channels,
    initialize_he,
    join_skip,
    upsample,
    widen_convolutions,
)
from pixelwise.ops.pooling import max_pool_with_switches
from pixelwise.ops.transposed_convolution import TransposedConv

CPU = Path("/proc/cpuinfo")
HAS_AMX = CPU.exists() and "amx_bf16" in CPU.read_text()
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
        grown = upsample(MAP, (3, columns), build_unpooling(upsampling), SWITCHES)
        torch.testing.assert_close(grown[0, 0], expected[:, :columns])


@pytest.mark.parametrize("upsampling", get_args(Upsampling))
@pytest.mark.parametrize("size", [(1, 1), (45, 30), (6, 7)])
def test_upsampling_restores_the_size_before_pooling(upsampling, size):
    pooled, switches = max_pool_with_switches(torch.randn(2, 6, *size), 2, ceil_mode=True)
    layer = build_upsampling(upsampling, 6, 6)
    assert upsample(layer(pooled), size, build_unpooling(upsampling), switches).shape == (2, 6, *size)


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


def test_unknown_names_list_the_choices():
    for build in (UNet, SegNet):
        with pytest.raises(InvalidArgumentError, match=r"'nearst'. Did you mean 'nearest'\? .*bed_of_nails"):
            build(1, 2, upsampling="nearst")
        with pytest.raises(InvalidArgumentError, match=r"'cat'. .*: add, concat, none"):
            build(1, 2, skips="cat")


def test_join():
    x, skip = torch.full((1, 2, 1, 1), 1.0), torch.full((1, 2, 1, 1), 2.0)
    assert join_skip(x, skip, "none").flatten().tolist() == [1, 1]
    assert join_skip(x, skip, "add").flatten().tolist() == [3, 3]
    assert join_skip(x, skip, "concat").flatten().tolist() == [2, 2, 1, 1]
    for skips in get_args(Skips):
        assert join_skip(x, skip, skips).shape[1] == count_joined_channels(2, 2, skips)


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


@pytest.mark.parametrize(("in_channels", "num_classes", "kernel_size"), [(2049, 15, 1), (4096, 3, 1), (2560, 1, 3)])
def test_widened_convolutions_equal_plain_ones(in_channels: int, num_classes: int, kernel_size: int) -> None:
    torch.manual_seed(0)
    plain = nn.Conv2d(in_channels, num_classes, kernel_size, padding=kernel_size // 2)
    widened = copy.deepcopy(plain)
    widen_convolutions(widened)
    assert type(widened) is WidenedConv2d
    x, weights = torch.randn(2, in_channels, 5, 6), torch.randn(2, num_classes, 5, 6)
    results = []
    for layer in (plain, widened):
        image = x.clone().requires_grad_()
        # On processors with AMX, the plain layer would be the one that overwrites memory.
        with torch.autocast("cpu", torch.bfloat16, enabled=layer is widened or not HAS_AMX):
            logits = layer(image)
            (logits * weights).sum().backward()
        assert layer.bias is not None
        assert logits.shape == (2, num_classes, 5, 6)
        results.append([logits, image.grad, layer.weight.grad, layer.bias.grad])
    for theirs, ours in zip(*results, strict=True):
        torch.testing.assert_close(
            ours.float(), theirs.float(), rtol=2e-2, atol=2e-2 * float(theirs.detach().abs().max())
        )
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(plain(x), widened(x))
    assert torch.equal(plain(x), widened(x))


def test_only_wide_convolutions_with_few_outputs_are_widened() -> None:
    layers = nn.Sequential(nn.Conv2d(2048, 3, 1), nn.Conv2d(2049, 16, 1), nn.Conv2d(4096, 8, 1, groups=8))
    widen_convolutions(layers)
    assert {type(layer) for layer in layers} == {nn.Conv2d}
    network = nn.Sequential(nn.Conv2d(3, 2049, 1), nn.Conv2d(2049, 3, 1))
    names = list(network.state_dict())
    segmenter = Segmenter(network, mean=[0.0] * 3, std=[1.0] * 3)
    assert [type(layer) for layer in segmenter.network] == [nn.Conv2d, WidenedConv2d]
    assert list(network.state_dict()) == names


@pytest.mark.skipif(not HAS_AMX, reason="this processor has no AMX")
@pytest.mark.parametrize("num_classes", [3, 11, 15])
def test_bfloat16_training_with_few_classes_on_amx(num_classes: int) -> None:
    """In a child process, because a fault overwrites the memory of the process."""
    code = (
        "import torch; from pixelwise.networks.layers import widen_convolutions\n"
        f"layer = torch.nn.Conv2d(4096, {num_classes}, 1); widen_convolutions(layer)\n"
        "for _ in range(20):\n"
        "    with torch.autocast('cpu', torch.bfloat16): layer(torch.randn(2, 4096, 12, 15)).sum().backward()\n"
    )
    assert subprocess.run([sys.executable, "-c", code], timeout=120).returncode == 0
