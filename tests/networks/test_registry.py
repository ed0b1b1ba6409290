import pytest
import torch

from pixelwise.config import NetworkConfig
from pixelwise.errors import InvalidArgumentError
from pixelwise.networks import NETWORKS, Segmenter, build_network
from pixelwise.networks.registry import NETWORK_KEYS


@pytest.mark.parametrize("name", NETWORKS)
def test_every_name_builds_and_gives_logits_of_any_size(name):
    small = {"base_channels": 4} if "base_channels" in NETWORK_KEYS[name] else {}
    with torch.device("meta"):
        network = build_network(NetworkConfig(name=name, **small), in_channels=2, num_classes=3)
        segmenter = Segmenter(network, mean=[1, 2], std=[1, 1]).eval()
        assert segmenter(torch.zeros(1, 2, 45, 61, dtype=torch.uint8)).shape == (1, 3, 45, 61)


@pytest.mark.parametrize("name", NETWORKS)
def test_unused_key_raises(name):
    telling = {
        "base_channels": 5,
        "depth": 3,
        "stem_stride": 2,
        "encoder": "resnet18",
        "skips": "add",
        "encoder_weights": "imagenet",
    }
    for key, value in telling.items():
        if key not in NETWORK_KEYS[name]:
            with pytest.raises(InvalidArgumentError, match=rf"network\.{key} is .*, but '{name}' does not use it"):
                build_network(NetworkConfig(name=name, **{key: value}), in_channels=2, num_classes=3)


@pytest.mark.parametrize(
    ("name", "choices"),
    [
        ("unet", {"encoder": "resnet18"}),
        ("unet", {"encoder": "vgg11", "upsampling": "switches", "skips": "add"}),
        ("unet", {"encoder": "timm:convnext_atto", "normalization": "group"}),
        ("fcn-16s", {"encoder": "resnet18"}),
        ("segnet", {"base_channels": 4, "upsampling": "bilinear", "skips": "concat"}),
    ],
)
def test_encoders_and_decoders_by_name(name, choices):
    with torch.device("meta"):
        network = build_network(NetworkConfig(name=name, **choices), in_channels=4, num_classes=3)
        assert network.eval()(torch.zeros(1, 4, 64, 96)).shape == (1, 3, 64, 96)


def test_published_parameters():
    """The parameters for 3 channels and 11 classes are those of the papers."""
    expected = {"segnet": 29_433_483 + 15_872, "segnet-basic": 1_415_563 + 1_024, "unet-paper": 31_032_395}
    for name, count in {**expected, "fcn-paper": 134_348_929}.items():
        with torch.device("meta"):
            network = build_network(NetworkConfig(name=name), in_channels=3, num_classes=11)
        assert sum(parameter.numel() for parameter in network.parameters()) == count


def test_encoder_without_switches_raises():
    config = NetworkConfig(encoder="resnet18", upsampling="switches")
    with pytest.raises(InvalidArgumentError, match="needs an encoder with 2x2 max pooling after each map"):
        build_network(config, in_channels=3, num_classes=2)


def test_forms_of_the_papers_have_fixed_encoders():
    with pytest.raises(InvalidArgumentError, match=r"network\.encoder is 'resnet18', but 'fcn-paper' does not use it"):
        build_network(NetworkConfig(name="fcn-paper", encoder="resnet18"), in_channels=3, num_classes=2)


def test_unknown_name_lists_the_nearest():
    with pytest.raises(InvalidArgumentError, match=r"Unknown network 'umet'. Did you mean 'unet'\? Choose one of"):
        build_network(NetworkConfig(name="umet"), in_channels=3, num_classes=2)
