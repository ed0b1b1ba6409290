import pytest
import torch
from torch import nn

import contracts
from pixelwise.errors import RequestError
from pixelwise.networks import Segmenter, UNet, build_network
from pixelwise.recipe import NetworkRecipe


def count(network: nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


@pytest.mark.parametrize(
    ("in_channels", "num_classes", "parameters"),
    [(1, 1, 31_030_593), (1, 2, 31_030_658), (3, 1, 31_031_745), (3, 11, 31_032_395), (3, 21, 31_033_045)],
)
def test_paper_network_has_the_published_parameters(in_channels, num_classes, parameters):
    assert count(UNet(in_channels, num_classes)) == parameters


def test_paper_network_has_23_convolutions_none_padded_and_no_normalization():
    convolutions = [m for m in UNet(1, 2).modules() if isinstance(m, nn.Conv2d | nn.ConvTranspose2d)]
    assert len(convolutions) == 23
    assert all(m.padding == (0, 0) for m in convolutions)
    ups = [m for m in convolutions if isinstance(m, nn.ConvTranspose2d)]
    assert [(m.out_channels, m.kernel_size, m.stride) for m in ups] == [
        (channels, (2, 2), (2, 2)) for channels in (512, 256, 128, 64)
    ]
    assert not any(isinstance(m, nn.BatchNorm2d) for m in UNet(1, 2).modules())


@pytest.mark.parametrize(("side", "output"), [(188, 4), (204, 20), (572, 388)])
def test_unpadded_sizes(side, output):
    network = UNet(1, 2, width=2)
    with torch.no_grad():
        assert network(torch.zeros(1, 1, side, side)).shape == (1, 2, output, output)
    assert network.output_margin == side - output == 184


@pytest.mark.parametrize("side", [571, 200, 172, 16])
def test_unpadded_refuses_other_sizes(side):
    with pytest.raises(RequestError, match=r"sides of 16m\+60 .*188, 204.*not"):
        UNet(1, 2, width=2)(torch.zeros(1, 1, side, side))


def test_unpadded_is_equivariant_to_shifts_of_16_pixels():
    torch.manual_seed(0)
    network = UNet(1, 2, width=4).eval()
    image = torch.randn(1, 1, 204, 204)
    with torch.no_grad():
        whole = network(image)
        part = network(image[:, :, 16:, 16:])
    torch.testing.assert_close(whole[:, :, 16:, 16:], part, rtol=1e-4, atol=1e-5)


def test_initialization_has_the_paper_s_deviation():
    torch.manual_seed(0)
    for module in UNet(1, 2).modules():
        if isinstance(module, nn.Conv2d) and module.weight.numel() > 10_000:
            n = module.in_channels * module.kernel_size[0] ** 2
            assert module.weight.std().item() == pytest.approx((2 / n) ** 0.5, rel=0.02)
            assert module.bias.abs().max() == 0


def test_same_padding_refuses_sizes_it_cannot_halve():
    network = UNet(3, 2, width=4, depth=2, padding="same", normalization="batch", stem_stride=2)
    with pytest.raises(RequestError, match=r"multiples of 8, not 60x64; wrap it in Segmenter"):
        network(torch.zeros(1, 3, 60, 64))


def test_stem_needs_same_padding():
    with pytest.raises(RequestError, match="stem_stride above 1 needs padding='same'"):
        UNet(3, 2, stem_stride=2)


def test_no_bias_before_batch_normalization():
    network = UNet(3, 2, width=4, depth=1, padding="same", normalization="batch")
    biased = [m for m in network.modules() if isinstance(m, nn.Conv2d) and m.bias is not None]
    assert biased == [network.classify]


def test_width_is_doubled_up_to_its_ceiling():
    network = UNet(3, 2, width=8, depth=3, max_width=16, padding="same")
    assert [down.block[0].out_channels for down in network.down] == [16, 16, 16]


def test_unfolding_starts_without_a_checkerboard():
    network = UNet(3, 2, width=4, depth=1, padding="same", normalization="batch", stem_stride=2)
    logits = network(torch.randn(1, 3, 16, 16))
    blocks = logits.unfold(2, 2, 2).unfold(3, 2, 2).flatten(-2)
    assert (blocks == blocks[..., :1]).all()
    assert logits.std() > 0


@pytest.mark.parametrize("stem_stride", [1, 2, 4])
def test_contract(stem_stride):
    torch.manual_seed(0)

    def segmenter() -> Segmenter:
        # Blocks of 16 pixels do not fit into 8 channels: the width grows with the stem.
        recipe = NetworkRecipe(name="unet", width=8 * stem_stride, depth=2, stem_stride=stem_stride)
        network = build_network(recipe, in_channels=3, num_classes=2)
        return Segmenter(network, mean=[128.0] * 3, deviation=[64.0] * 3)

    contracts.assert_any_size(segmenter(), 3, 2)
    contracts.assert_every_parameter_learns(segmenter(), 3, 2)
    contracts.assert_overfits_four_images(segmenter(), 3)
    contracts.assert_compiles_and_exports(segmenter(), 3)
