import weakref
from typing import get_args

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional
from torchvision.models import vgg16, vgg16_bn

from pixelwise.errors import InvalidArgumentError
from pixelwise.networks.layers import Skips, Upsampling
from pixelwise.networks.segmenter import Segmenter
from pixelwise.networks.segnet import SegNet, distribute_dropout
from pixelwise.networks.weights import load_weights, map_vgg16_names
from support import contracts

SMALL = {"channels": (4, 6, 8, 8, 8), "depths": (2, 1, 1, 1, 2)}


def count(modules: nn.Module, kind: type[nn.Module]) -> int:
    return sum(p.numel() for m in modules.modules() if isinstance(m, kind) for p in m.parameters())


@pytest.fixture(scope="module")
def released() -> SegNet:
    with torch.device("meta"):
        return SegNet(3, 11)


def test_released_network_has_the_published_parameters(released):
    assert count(released, nn.Conv2d) == 29_433_483
    assert count(released, nn.BatchNorm2d) == 15_872
    assert sum(p.numel() for p in released.parameters()) == 29_449_355


def test_encoder_and_decoder_have_equal_size(released):
    assert count(released.encoder, nn.Conv2d) == 14_714_688
    assert count(released.decoder, nn.Conv2d) == 14_718_795


@pytest.mark.parametrize(("num_classes", "parameters"), [(12, 29_449_932), (21, 29_455_125), (37, 29_464_357)])
def test_parameters_for_other_numbers_of_classes(num_classes, parameters):
    with torch.device("meta"):
        assert sum(p.numel() for p in SegNet(3, num_classes).parameters()) == parameters


def test_26_convolutions_with_the_channel_drop_in_the_last_of_each_decoder_stage(released):
    encoder = [m.out_channels for m in released.encoder.modules() if isinstance(m, nn.Conv2d)]
    decoder = [m.out_channels for m in released.decoder.modules() if isinstance(m, nn.Conv2d)]
    assert encoder == [64, 64, 128, 128, 256, 256, 256, *[512] * 6]
    assert decoder == [512, 512, 512, 512, 512, 256, 256, 256, 128, 128, 64, 64, 11]


def test_all_convolutions_except_the_last_have_batch_normalization_and_relu(released):
    stages = [*released.encoder, *released.decoder]
    layers = [type(layer) for stage in stages for layer in stage.convolutions]
    assert layers == [nn.Conv2d, nn.BatchNorm2d, nn.ReLU] * 25 + [nn.Conv2d]
    convolutions = [m for m in released.modules() if isinstance(m, nn.Conv2d)]
    assert all(m.kernel_size == (3, 3) and m.padding == (1, 1) and m.bias is not None for m in convolutions)


def test_sizes_of_360x480():
    network = SegNet(3, 11, **SMALL).eval()
    sizes = []
    for stage in network.encoder:
        stage.register_forward_hook(lambda module, inputs, outputs: sizes.append(tuple(outputs[1].shape[2:])))
    with torch.no_grad():
        assert network(torch.zeros(1, 3, 360, 480)).shape == (1, 11, 360, 480)
    assert sizes == [(180, 240), (90, 120), (45, 60), (23, 30), (12, 15)]


def run_with_pytorch_pooling(network: SegNet, images: Tensor) -> Tensor:
    """Run the same weights with PyTorch's own pooling and unpooling with flat indices."""
    x, levels = images, []
    for stage in network.encoder:
        features = stage.convolutions(x)
        x, indices = functional.max_pool2d(features, 2, ceil_mode=True, return_indices=True)
        levels.append((features.shape[2:], indices))
    for stage, (size, indices) in zip(network.decoder, reversed(levels), strict=True):
        x = stage.convolutions(functional.max_unpool2d(x, indices, 2, output_size=size))
    return x


@pytest.mark.parametrize("size", [(45, 61), (48, 32), (33, 33)])
def test_each_level_is_unpooled_by_its_own_switches(size):
    torch.manual_seed(0)
    network = SegNet(2, 3, **SMALL).train()
    images = torch.randn(2, 2, *size)
    torch.testing.assert_close(network(images), run_with_pytorch_pooling(network, images), rtol=1e-4, atol=1e-4)


def test_initialization_as_released():
    torch.manual_seed(0)
    for module in SegNet(3, 11, channels=(64, 128), depths=(2, 2)).modules():
        if isinstance(module, nn.BatchNorm2d):
            assert (module.weight == 1).all()
            assert (module.bias == torch.tensor(1e-3)).all()
            assert module.running_mean.abs().max() == 0
        if isinstance(module, nn.Conv2d):
            assert module.bias.abs().max() == 0
            if module.weight.numel() > 10_000:
                assert module.weight.std().item() == pytest.approx((2 / (9 * module.in_channels)) ** 0.5, rel=0.02)


@pytest.mark.parametrize("skips", get_args(Skips))
@pytest.mark.parametrize("upsampling", get_args(Upsampling))
def test_every_upsampling_with_every_use_of_skips(upsampling, skips):
    torch.manual_seed(0)
    network = SegNet(3, 2, channels=(4, 6), depths=(1, 2), upsampling=upsampling, skips=skips)
    segmenter = Segmenter(network, mean=[128.0] * 3, std=[64.0] * 3)
    contracts.assert_any_size(segmenter, 3, 2)
    contracts.assert_every_parameter_learns(segmenter, 3, 2)


def test_skips_reach_the_decoder_stage_of_their_own_level():
    torch.manual_seed(0)
    network = SegNet(1, 2, channels=(3, 4), depths=(1, 1), skips="concat", upsampling="nearest").eval()
    image = torch.randn(1, 1, 8, 8)
    with torch.no_grad():
        fine, pooled, _ = network.encoder[0](image)
        coarse, bottom, _ = network.encoder[1](pooled)
        twice = nn.Upsample(scale_factor=2)
        x = network.decoder[0].convolutions(torch.cat([coarse, twice(bottom)], dim=1))
        expected = network.decoder[1].convolutions(torch.cat([fine, twice(x)], dim=1))
        torch.testing.assert_close(network(image), expected)


def test_dropout_of_bayesian_segnet_is_after_pool3_to_5_and_decoder_5_to_3():
    network = SegNet(3, 11, **SMALL, dropout=0.5)
    assert [isinstance(stage.dropout, nn.Dropout) for stage in network.encoder] == [False, False, True, True, True]
    assert [isinstance(stage.dropout, nn.Dropout) for stage in network.decoder] == [True, True, True, False, False]
    dropped = []
    for module in network.modules():
        if isinstance(module, nn.Dropout):
            assert module.p == 0.5
            module.register_forward_hook(lambda module, inputs, outputs: dropped.append(tuple(outputs.shape[2:])))
    network(torch.zeros(2, 3, 360, 480))
    assert dropped == [(45, 60), (23, 30), (12, 15), (23, 30), (45, 60), (90, 120)]


def test_dropout_changes_no_name_and_no_parameter():
    assert SegNet(3, 2, **SMALL).state_dict().keys() == SegNet(3, 2, **SMALL, dropout=0.5).state_dict().keys()


def test_dropout_by_level():
    assert distribute_dropout(5, 0.5) == [0, 0, 0.5, 0.5, 0.5]
    assert distribute_dropout(1, 0) == [0]
    with pytest.raises(InvalidArgumentError, match=r"from the third level on and this network has 2. Use dropout=0"):
        distribute_dropout(2, 0.5)


@pytest.mark.parametrize(("channels", "depths"), [((), ()), ((4, 8), (1, 1, 1))])
def test_mismatched_channels_and_depths_raise(channels, depths):
    with pytest.raises(
        InvalidArgumentError, match=r"channels \(.*\) and depths \(.*\) must have one number for each level"
    ):
        SegNet(3, 2, channels=channels, depths=depths)


def test_without_skips_no_map_outlives_its_pooling():
    network, maps = SegNet(1, 2, channels=(2, 2), depths=(1, 1)).eval(), []
    finest = network.encoder[0].convolutions
    finest.register_forward_hook(lambda module, inputs, outputs: maps.append(weakref.ref(outputs)))
    network.decoder[0].register_forward_pre_hook(lambda module, inputs: maps.append(maps[0]() is None))
    with torch.no_grad():
        network(torch.zeros(1, 1, 8, 8))
    assert maps[1]


@pytest.mark.parametrize("build", [vgg16, vgg16_bn])
def test_vgg16_weights_make_the_encoder_vgg16(build):
    """The features of torchvision's classifier, with random weights, are the encoder's last pooled map."""
    torch.manual_seed(0)
    with torch.device("meta"):
        classifier = build(weights=None).eval()
    weights = {
        name: torch.rand(t.shape) * 0.1 - 0.045 * (t.ndim == 4)
        for name, t in classifier.state_dict().items()
        if name.startswith("features") and t.ndim
    }
    network = SegNet(3, 2).eval()
    names = map_vgg16_names(batch_norm=build is vgg16_bn)
    report = load_weights(network, {names[name]: tensor for name, tensor in weights.items()})
    assert len(report.loaded) == len(names)
    if build is vgg16:  # no batch normalization: the encoder's must do nothing
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eps = 0.0
                nn.init.zeros_(module.bias)
    x = images = torch.rand(1, 3, 32, 64)
    with torch.no_grad():
        for stage in network.encoder:
            _, x, _ = stage(x)
        features = {name.removeprefix("features."): t for name, t in weights.items()}
        expected = functional_call(classifier.features, features, images)
    assert expected.std() > 0
    torch.testing.assert_close(x, expected, rtol=1e-4, atol=1e-4 * expected.abs().max().item())


@pytest.mark.parametrize(("build", "entries"), [(vgg16, 26), (vgg16_bn, 78)])
def test_vgg16_names_match_both_networks(build, entries, released):
    with torch.device("meta"):
        theirs = build(weights=None).state_dict()
    names = map_vgg16_names(batch_norm=build is vgg16_bn)
    assert len(names) == entries == len(set(names.values()))
    assert all(theirs[name].shape == released.state_dict()[ours].shape for name, ours in names.items())
    assert names["features.0.weight"] == "encoder.0.convolutions.0.weight"


@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_contract(dropout):
    torch.manual_seed(0)

    def segmenter(dropout: float = 0.0) -> Segmenter:
        network = SegNet(3, 2, channels=(12, 16, 16), depths=(1, 2, 1), dropout=dropout)
        return Segmenter(network, mean=[128.0] * 3, std=[64.0] * 3)

    contracts.assert_any_size(segmenter(dropout), 3, 2)
    contracts.assert_compiles_and_exports(segmenter(dropout), 3)
    if not dropout:
        contracts.assert_every_parameter_learns(segmenter(), 3, 2)
        contracts.assert_overfits_four_images(segmenter(), 3)
