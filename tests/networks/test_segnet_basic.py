import pytest
import torch
from torch import nn
from torch.nn import functional

from pixelwise.networks.segmenter import Segmenter
from pixelwise.networks.segnet_basic import (
    TABLE_1,
    BilinearInterpolation,
    FCNBasic,
    SegNetBasic,
    build_image_normalization,
    initialize_bilinear,
)
from pixelwise.ops.transposed_convolution import TransposedConv
from support import contracts

CONVOLUTION_WEIGHTS = {
    "bilinear-interpolation": 612_224,
    "segnet-basic": 1_415_040,
    "segnet-basic-encoder-addition": 1_415_040,
    "segnet-basic-single-channel-decoder": 624_768,
    "fcn-basic": 645_312,
    "fcn-basic-no-addition": 643_200,
    "fcn-basic-no-dim-reduction": 1_660_800,
    "fcn-basic-no-addition-no-dim-reduction": 1_660_800,
}


def test_table_has_the_eight_rows():
    assert TABLE_1.keys() == CONVOLUTION_WEIGHTS.keys()


@pytest.mark.parametrize("name", TABLE_1)
def test_convolution_weights_of_table_1(name):
    with torch.device("meta"):
        weights = [p for p in TABLE_1[name](3, 11).parameters() if p.ndim == 4]
    assert sum(p.numel() for p in weights) == CONVOLUTION_WEIGHTS[name]


def test_released_basic_network_has_the_published_parameters():
    with torch.device("meta"):
        network = SegNetBasic(3, 11)
    normalization = sum(p.numel() for m in network.modules() if isinstance(m, nn.BatchNorm2d) for p in m.parameters())
    assert normalization == 1024
    assert sum(p.numel() for p in network.parameters()) == 1_415_563 + 1024 == 1_416_587


def test_bright_image_normalization_matches_caffe():
    """The window of 5 channels covers all 3: 255 / (1 + 2e-5 · 3 · 255²)^0.75."""
    normalized = build_image_normalization()(torch.full((1, 3, 2, 2), 255.0))
    torch.testing.assert_close(normalized, torch.full((1, 3, 2, 2), 255 / 4.9015**0.75))


def test_decoder_has_no_relu_and_its_maps_contain_negatives():
    network = SegNetBasic(3, 2, base_channels=4).eval()
    assert [type(layer) for stage in network.decoder for layer in stage] == [nn.Conv2d, nn.BatchNorm2d] * 4
    maps = []
    network.classify.register_forward_pre_hook(lambda module, inputs: maps.append(inputs[0]))
    network(torch.rand(1, 3, 33, 47) * 255)
    assert maps[0].min() < 0 < maps[0].max()


@pytest.mark.parametrize("encoder_addition", [False, True])
def test_forward_matches_the_paper(encoder_addition):
    """The reference uses PyTorch's own unpooling, and adds the encoder's maps after the decoder's convolution."""
    torch.manual_seed(0)
    network = SegNetBasic(3, 2, base_channels=4, encoder_addition=encoder_addition).eval()
    images = torch.rand(1, 3, 45, 61) * 255
    x, levels = functional.local_response_norm(images, 5, 1e-4, 0.75), []
    for stage in network.encoder:
        features = stage.convolutions(x)
        x, indices = functional.max_pool2d(features, 2, ceil_mode=True, return_indices=True)
        levels.append((features, indices))
    for stage, (features, indices) in zip(network.decoder, reversed(levels), strict=True):
        x = stage(functional.max_unpool2d(x, indices, 2, output_size=features.shape[2:]))
        x = x + features if encoder_addition else x
    torch.testing.assert_close(network(images), network.classify(x), rtol=1e-4, atol=1e-4)


def test_single_channel_decoder_convolves_each_map_by_itself():
    network = SegNetBasic(3, 2, base_channels=4, single_channel_decoder=True)
    assert all(stage[0].weight.shape == (4, 1, 7, 7) for stage in network.decoder)


def test_dropout_is_after_pool3_pool4_and_decoder_4_and_3():
    network = SegNetBasic(3, 2, base_channels=4, dropout=0.5)
    assert [isinstance(stage.dropout, nn.Dropout) for stage in network.encoder] == [False, False, True, True]
    assert [isinstance(layer, nn.Dropout) for layer in network.decoder_dropout] == [True, True, False, False]


def test_encoder_sees_106_pixels():
    network = BilinearInterpolation(1, 2, base_channels=2).eval()
    for stage in network.encoder:
        stage.convolutions[0].weight.data.abs_()
    x = image = torch.rand(1, 1, 256, 256, dtype=torch.float64, requires_grad=True)
    for stage in network.double().encoder:
        # Averages let every pixel through that a maximum could have taken.
        x = functional.avg_pool2d(stage.convolutions[0](x), 2)
    x[0, 0, 8, 8].backward()
    assert image.grad.abs().sum(dim=(0, 1, 2)).count_nonzero() == 106


def test_bilinear_interpolation_classifies_and_interpolates_in_either_order():
    torch.manual_seed(0)
    network = BilinearInterpolation(3, 2, base_channels=4, depth=3).eval()
    x = images = torch.rand(1, 3, 40, 64)
    x = network.normalize(x)
    for stage in network.encoder:
        _, x, _ = stage(x)
    grown = functional.interpolate(x, scale_factor=8, mode="bilinear")
    torch.testing.assert_close(network(images), network.classify(grown), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("dim_reduction", [True, False])
def test_addition_sums_pooled_maps_of_the_same_size(dim_reduction):
    torch.manual_seed(0)
    network = FCNBasic(3, 5, base_channels=4, depth=3, dim_reduction=dim_reduction).eval()
    x = images = torch.rand(1, 3, 45, 61)
    x, sizes, pooled = network.normalize(x), [], []
    for stage in network.encoder:
        sizes.append(x.shape[2:])
        _, x, _ = stage(x)
        pooled.append(x)
    third, second, first = (network.reduce[i](pooled[2 - i]) for i in range(3))

    def grow(i, x):
        return network.grow[i](x)[:, :, : sizes[2 - i][0], : sizes[2 - i][1]]

    expected = network.classify(grow(2, grow(1, grow(0, third) + second) + first))
    torch.testing.assert_close(network(images), expected)


def test_without_addition_only_the_coarsest_map_is_used():
    network = FCNBasic(3, 5, base_channels=4, depth=3, addition=False)
    assert len(network.reduce) == 1


def test_transposed_convolutions_start_bilinear_and_keep_a_constant_map():
    layer = TransposedConv(3, 3, 8, stride=2, padding=3, bias=False)
    initialize_bilinear(layer.weight)
    constants = torch.tensor([1.0, -2.0, 0.5]).view(1, 3, 1, 1)
    grown = layer(constants.expand(1, 3, 9, 9))
    torch.testing.assert_close(grown[:, :, 3:-3, 3:-3], constants.expand(1, 3, 12, 12))


@pytest.mark.parametrize("name", TABLE_1)
def test_contract(name):
    torch.manual_seed(0)

    def segmenter(depth: int, base_channels: int = 6) -> Segmenter:
        network = TABLE_1[name](3, 2, base_channels=base_channels, depth=depth)
        return Segmenter(network, mean=[0.0] * 3, std=[1.0] * 3)

    contracts.assert_any_size(segmenter(4), 3, 2)
    contracts.assert_every_parameter_learns(segmenter(2), 3, 2)
    # Without switches or skips, maps coarser than this draw no small disk.
    contracts.assert_overfits_four_images(segmenter(1, base_channels=12), 3)
    contracts.assert_compiles_and_exports(segmenter(4), 3)
