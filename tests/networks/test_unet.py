import weakref
from typing import get_args

import pytest
import torch
from torch import nn
from torch.nn import functional

from pixelwise.config import NetworkConfig
from pixelwise.errors import InvalidArgumentError
from pixelwise.networks import Segmenter, UNet, build_network
from pixelwise.networks.geometry.network_geometry import trace_geometry
from pixelwise.networks.layers import Skips, Upsampling
from pixelwise.networks.unet import crop
from pixelwise.ops.pooling import max_pool_with_switches, max_unpool
from support import contracts


def count(network: nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


@pytest.mark.parametrize(
    ("in_channels", "num_classes", "parameters"),
    [(1, 1, 31_030_593), (1, 2, 31_030_658), (3, 1, 31_031_745), (3, 11, 31_032_395), (3, 21, 31_033_045)],
)
def test_paper_network_has_the_published_parameters(in_channels, num_classes, parameters):
    with torch.device("meta"):
        assert count(UNet(in_channels, num_classes)) == parameters


def test_paper_network_has_23_convolutions_none_padded_and_no_normalization():
    with torch.device("meta"):
        network = UNet(1, 2)
    convolutions = [m for m in network.modules() if isinstance(m, nn.Conv2d | nn.ConvTranspose2d)]
    assert len(convolutions) == 23
    assert all(m.padding == (0, 0) for m in convolutions)
    ups = [m for m in convolutions if isinstance(m, nn.ConvTranspose2d)]
    assert [(m.out_channels, m.kernel_size, m.stride) for m in ups] == [
        (channels, (2, 2), (2, 2)) for channels in (512, 256, 128, 64)
    ]
    assert not any(isinstance(m, nn.BatchNorm2d | nn.GroupNorm) for m in network.modules())


@pytest.mark.parametrize(("side", "output"), [(188, 4), (204, 20), (572, 388)])
def test_unpadded_sizes(side, output):
    network = UNet(1, 2, base_channels=2)
    with torch.no_grad():
        assert network(torch.zeros(1, 1, side, side)).shape == (1, 2, output, output)
    assert network.output_margin == side - output == 184


@pytest.mark.parametrize("side", [571, 200, 172, 16])
def test_unpadded_raises_for_illegal_sizes(side):
    with pytest.raises(InvalidArgumentError, match=r"heights and widths of 16m\+60 .*188, 204.*not"):
        UNet(1, 2, base_channels=2)(torch.zeros(1, 1, side, side))


@pytest.mark.parametrize("upsampling", sorted(set(get_args(Upsampling)) - {"bilinear"}))
def test_unpadded_is_equivariant_to_shifts_of_16_pixels(upsampling):
    """This includes switches, which are cropped with the maps. (Bilinear repeats its border values.)"""
    torch.manual_seed(0)
    network = UNet(1, 2, base_channels=4, upsampling=upsampling).eval()
    image = torch.randn(1, 1, 204, 204)
    with torch.no_grad():
        whole = network(image)
        part = network(image[:, :, 16:, 16:])
    torch.testing.assert_close(whole[:, :, 16:, 16:], part, rtol=1e-4, atol=1e-5)


def test_initialization_has_the_std_of_the_paper():
    torch.manual_seed(0)
    for module in UNet(1, 2).modules():
        if isinstance(module, nn.Conv2d) and module.weight.numel() > 10_000:
            n = module.in_channels * module.kernel_size[0] ** 2
            assert module.weight.std().item() == pytest.approx((2 / n) ** 0.5, rel=0.02)
            assert module.bias.abs().max() == 0


def test_same_padding_raises_for_illegal_sizes():
    network = UNet(3, 2, base_channels=4, depth=2, padding="same", normalization="batch", stem_stride=2)
    with pytest.raises(InvalidArgumentError, match=r"multiples of 8, such as 64x64, not 60x64. .*Segmenter"):
        network(torch.zeros(1, 3, 60, 64))


def test_encoder_unet_raises_for_illegal_sizes():
    network = build_network(NetworkConfig(encoder="resnet18"), in_channels=3, num_classes=2)
    with pytest.raises(InvalidArgumentError, match=r"multiples of 32, such as 32x64, not 31x64. .*Segmenter"):
        network(torch.zeros(1, 3, 31, 64))
    field = trace_geometry(network, in_channels=3)
    assert (field.is_local, field.stride, field.min_size, field.size_multiple) == (True, (32, 32), 32, 32)


def test_decoder_of_an_encoder_has_its_own_channels():
    config = NetworkConfig(encoder="resnet18", base_channels=8, max_channels=40)
    network = build_network(config, in_channels=3, num_classes=2)
    assert [up.block[-3].out_channels for up in network.up] == [40, 32, 16, 8]  # coarse to fine
    assert [up.block[0].in_channels for up in network.up] == [40 + 256, 32 + 128, 16 + 64, 8 + 64]
    assert network(torch.zeros(1, 3, 32, 64)).shape == (1, 2, 32, 64)
    wide = build_network(NetworkConfig(encoder="resnet18"), in_channels=3, num_classes=2)
    assert [up.block[-3].out_channels for up in wide.up] == [256, 128, 64, 64]  # those of the encoder's maps


@pytest.mark.parametrize(
    ("choice", "message"),
    [({"skips": "add"}, "skips='add' needs"), ({"upsampling": "switches"}, "upsampling='switches' needs")],
)
def test_own_channels_of_a_decoder_need_concatenation(choice, message):
    config = NetworkConfig(encoder="vgg11", base_channels=8, **choice)
    with torch.device("meta"), pytest.raises(InvalidArgumentError, match=message):
        build_network(config, in_channels=3, num_classes=2)


def test_stem_needs_same_padding():
    with pytest.raises(InvalidArgumentError, match="stem_stride 2 needs padding='same'"):
        UNet(3, 2, stem_stride=2)


def test_no_bias_before_batch_normalization():
    network = UNet(3, 2, base_channels=4, depth=1, padding="same", normalization="batch")
    biased = [m for m in network.modules() if isinstance(m, nn.Conv2d) and m.bias is not None]
    assert biased == [network.classify]


def test_channels_double_up_to_max_channels():
    network = UNet(3, 2, base_channels=8, depth=3, max_channels=16, padding="same")
    assert [down.block[0].out_channels for down in network.down] == [16, 16, 16]


def test_first_output_has_no_checkerboard():
    network = UNet(3, 2, base_channels=4, depth=1, padding="same", normalization="batch", stem_stride=2)
    logits = network(torch.randn(1, 3, 16, 16))
    blocks = logits.unfold(2, 2, 2).unfold(3, 2, 2).flatten(-2)
    assert (blocks == blocks[..., :1]).all()
    assert logits.std() > 0


def test_weight_names_match_model_files():
    blocks = ["first", "down.0.block", "up.0.block"]
    layers = [f"{block}.{layer}" for block in blocks for layer in (0, 2)]
    names = {f"{layer}.{entry}" for layer in [*layers, "up.0.up", "classify"] for entry in ("weight", "bias")}
    assert UNet(1, 2, base_channels=2, depth=1).state_dict().keys() == names


@pytest.mark.parametrize("padding", ["same", "valid"])
def test_forward_matches_the_figure_of_the_paper(padding):
    torch.manual_seed(0)
    network = UNet(1, 2, base_channels=3, depth=2, padding=padding)
    side = 44 if padding == "valid" else 24
    image = torch.randn(1, 1, side, side)
    first = network.first(image)
    second = network.down[0].block(functional.max_pool2d(first, 2))
    x = network.down[1].block(functional.max_pool2d(second, 2))
    for up, skip in zip(network.up, (second, first), strict=True):
        x = functional.conv_transpose2d(x, up.up.weight, up.up.bias, stride=2)
        margin = (skip.shape[2] - x.shape[2]) // 2
        skip = skip[:, :, margin : margin + x.shape[2], margin : margin + x.shape[3]]
        x = up.block(torch.cat([skip, x], dim=1))
    torch.testing.assert_close(network(image), network.classify(x), rtol=1e-4, atol=1e-5)


def test_crops_match_the_paper():
    rows = torch.arange(568.0).view(1, 1, 568, 1)
    for size, target, margin in [(64, 56, 4), (136, 104, 16), (280, 200, 40), (568, 392, 88)]:
        assert crop(rows[:, :, :size], (target, 1)).flatten()[0] == margin


def test_switches_of_a_valid_network_are_cropped_like_its_skips():
    """Unpooling the cropped map gives the same positions as unpooling the whole map."""
    torch.manual_seed(0)
    up = UNet(1, 2, base_channels=2, depth=1, upsampling="switches", skips="none").up[0]
    up.up, up.block = nn.Identity(), nn.Identity()
    _, switches = max_pool_with_switches(torch.randn(1, 2, 32, 24), 2)
    x = torch.randn(1, 2, 16, 12)
    whole = max_unpool(x, switches, (32, 24))
    torch.testing.assert_close(up(x[:, :, 2:-2, 2:-2], switches, None), whole[:, :, 4:-4, 4:-4])


@pytest.mark.parametrize("skips", get_args(Skips))
@pytest.mark.parametrize("upsampling", get_args(Upsampling))
def test_every_upsampling_with_every_use_of_skips(upsampling, skips):
    torch.manual_seed(0)
    unpadded = UNet(1, 2, base_channels=2, depth=2, upsampling=upsampling, skips=skips)
    assert unpadded(torch.randn(1, 1, 44, 60)).shape == (1, 2, 4, 20)
    network = UNet(
        3,
        2,
        base_channels=4,
        depth=2,
        padding="same",
        normalization="batch",
        upsampling=upsampling,
        skips=skips,
        stem_stride=2,
    )
    segmenter = Segmenter(network, mean=[128.0] * 3, std=[64.0] * 3)
    contracts.assert_any_size(segmenter, 3, 2)
    contracts.assert_every_parameter_learns(segmenter, 3, 2)


def test_without_skips_only_the_last_map_is_used():
    torch.manual_seed(0)
    network = UNet(1, 2, base_channels=2, depth=1, padding="same", skips="none", upsampling="nearest")
    for parameter in network.down.parameters():
        nn.init.zeros_(parameter)
    assert torch.equal(network(torch.randn(1, 1, 8, 8)), network(torch.randn(1, 1, 8, 8)))


def test_without_skips_no_map_outlives_its_pooling():
    network, maps = UNet(1, 2, base_channels=2, depth=1, padding="same", skips="none"), []
    network.first.register_forward_hook(lambda module, inputs, outputs: maps.append(weakref.ref(outputs)))
    network.up[0].register_forward_pre_hook(lambda module, inputs: maps.append(maps[0]() is None))
    with torch.no_grad():
        network(torch.zeros(1, 1, 8, 8))
    assert maps[1]


@pytest.mark.parametrize(("normalization", "kind"), [("batch", nn.BatchNorm2d), ("group", nn.GroupNorm)])
def test_normalizes_after_each_convolution(normalization, kind):
    block = UNet(1, 2, base_channels=4, depth=1, normalization=normalization).down[0].block
    assert [type(layer) for layer in block] == [nn.Conv2d, kind, nn.ReLU] * 2


@pytest.mark.parametrize(("width", "groups"), [(1, 1), (2, 1), (6, 2), (12, 4), (8, 4), (32, 16), (64, 32), (96, 32)])
def test_groups_of_two_channels_or_more_and_at_most_32_groups(width, groups):
    layers = [
        m
        for m in UNet(1, 2, base_channels=width, depth=0, normalization="group").modules()
        if isinstance(m, nn.GroupNorm)
    ]
    assert [layer.num_groups for layer in layers] == [groups, groups]


def test_group_normalization_takes_one_pixel_of_one_image():
    network = UNet(1, 2, base_channels=4, depth=2, padding="same", normalization="group").eval()
    assert network(torch.randn(1, 1, 4, 4)).shape == (1, 2, 4, 4)


def test_unknown_padding_lists_choices():
    with pytest.raises(
        InvalidArgumentError, match=r"Unknown value for padding: 'sam'. Did you mean 'same'\? .*: same, valid"
    ):
        UNet(1, 2, padding="sam")


def test_illegal_size_is_also_a_value_error():
    with pytest.raises(ValueError, match=r"heights and widths of 16m\+60"):
        UNet(3, 5, base_channels=2)(torch.zeros(1, 3, 64, 64))


def test_unknown_normalization_lists_choices():
    with pytest.raises(
        InvalidArgumentError,
        match=r"Unknown value for normalization: 'bach'. Did you mean 'batch'\? .*: batch, group, none",
    ):
        UNet(1, 2, normalization="bach")


@pytest.mark.parametrize(
    "choices", [{"normalization": "group"}, {"normalization": "batch", "upsampling": "switches", "skips": "add"}]
)
def test_contract_of_other_choices(choices):
    torch.manual_seed(0)

    def segmenter() -> Segmenter:
        network = UNet(3, 2, base_channels=8, depth=2, padding="same", **choices)
        return Segmenter(network, mean=[128.0] * 3, std=[64.0] * 3)

    contracts.assert_any_size(segmenter(), 3, 2)
    contracts.assert_every_parameter_learns(segmenter(), 3, 2)
    contracts.assert_overfits_four_images(segmenter(), 3)
    contracts.assert_compiles_and_exports(segmenter(), 3)


@pytest.mark.parametrize("stem_stride", [1, 2, 4])
def test_contract(stem_stride):
    torch.manual_seed(0)

    def segmenter() -> Segmenter:
        # Blocks of 16 pixels do not fit into 8 channels: the width grows with the stem.
        config = NetworkConfig(name="unet", base_channels=8 * stem_stride, depth=2, stem_stride=stem_stride)
        network = build_network(config, in_channels=3, num_classes=2)
        return Segmenter(network, mean=[128.0] * 3, std=[64.0] * 3)

    contracts.assert_any_size(segmenter(), 3, 2)
    contracts.assert_every_parameter_learns(segmenter(), 3, 2)
    contracts.assert_overfits_four_images(segmenter(), 3)
    contracts.assert_compiles_and_exports(segmenter(), 3)
