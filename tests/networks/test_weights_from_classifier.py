"""Test a classifier's weights in segmentation networks, tensor by tensor."""

from pathlib import Path

import pytest
import timm
import torch
import torchvision
from torch import nn

from pixelwise.config import NetworkConfig
from pixelwise.errors import InvalidArgumentError
from pixelwise.networks import build_network
from pixelwise.networks.weights import load_classifier_weights


def save(classifier: nn.Module, folder: Path) -> Path:
    torch.save(classifier.state_dict(), folder / "weights.pth")
    return folder / "weights.pth"


def build(config: NetworkConfig, channels: int = 3) -> nn.Module:
    return build_network(config, in_channels=channels, num_classes=5)


def test_resnet_into_unet(tmp_path: Path) -> None:
    classifier = torchvision.models.resnet18()
    config = NetworkConfig(encoder="resnet18", encoder_weights="file")
    network = build(config)
    report = load_classifier_weights(network, config, save(classifier, tmp_path))
    theirs, ours = classifier.state_dict(), network.state_dict()
    for name in theirs.keys() - {"fc.weight", "fc.bias"}:
        assert torch.equal(ours[f"encoder.{name}"], theirs[name])
    assert set(report.unexpected) == {"encoder.fc.weight", "encoder.fc.bias"}
    assert all(name.startswith(("up.", "classify.")) for name in report.missing)


def test_vgg_into_segnet(tmp_path: Path) -> None:
    classifier = torchvision.models.vgg16_bn(num_classes=2)
    config = NetworkConfig(name="segnet", encoder_weights="file")
    network = build(config)
    report = load_classifier_weights(network, config, save(classifier, tmp_path))
    convolutions = [m.weight for m in classifier.features.modules() if isinstance(m, nn.Conv2d)]
    encoder = [m.weight for m in network.get_submodule("encoder").modules() if isinstance(m, nn.Conv2d)]
    assert all(torch.equal(a, b) for a, b in zip(convolutions, encoder, strict=True))
    assert all(name.startswith("decoder.") or name.endswith("num_batches_tracked") for name in report.missing)


@pytest.mark.slow
def test_all_of_vgg_into_fcn(tmp_path: Path) -> None:
    """This includes fc6 and fc7; only the class layers and the upsampling are new."""
    classifier = torchvision.models.vgg16()
    config = NetworkConfig(name="fcn-8s", encoder_weights="file")
    network = build(config)
    report = load_classifier_weights(network, config, save(classifier, tmp_path))
    ours, theirs = network.state_dict(), classifier.state_dict()
    assert torch.equal(ours["head.fc6.weight"].flatten(1), theirs["classifier.0.weight"])
    assert torch.equal(ours["head.fc7.weight"].flatten(1), theirs["classifier.3.weight"])
    assert torch.equal(ours["head.fc7.bias"], theirs["classifier.3.bias"])
    assert all(name.startswith(("score.", "up.")) for name in report.missing)


def test_timms_names(tmp_path: Path) -> None:
    classifier = timm.create_model("convnext_atto", num_classes=3)
    config = NetworkConfig(encoder="timm:convnext_atto", encoder_weights="file")
    network = build(config)
    report = load_classifier_weights(network, config, save(classifier, tmp_path))
    assert all(name.startswith(("up.", "classify.")) for name in report.missing)
    stem = classifier.state_dict()["stem.0.weight"]
    assert torch.equal(network.state_dict()["encoder.model.stem_0.weight"], stem)


@pytest.mark.parametrize("prefix", ["encoder.", "backbone.", "model.encoder.", "net_1."])
def test_a_classifier_in_another_segmentation_network(tmp_path: Path, prefix: str) -> None:
    """As models of segmentation_models_pytorch and torchvision have it."""
    classifier = torchvision.models.resnet18()
    tensors = {f"{prefix}{name}": value for name, value in classifier.state_dict().items() if "fc" not in name}
    others = {"classifier.0.weight": torch.ones(2, 3), "conv1.weight": torch.ones(64, 3, 7, 7)}
    torch.save({**tensors, **others}, tmp_path / "weights.pth")
    config = NetworkConfig(encoder="resnet18", encoder_weights="file")
    network = build(config)
    report = load_classifier_weights(network, config, tmp_path / "weights.pth")
    assert all(name.startswith(("up.", "classify.")) for name in report.missing)
    assert torch.equal(network.state_dict()["encoder.conv1.weight"], classifier.conv1.weight)
    assert set(report.unexpected) == {"encoder.classifier.0.weight"}
    assert f"the classifier is {prefix[:-1]!r}" in report.summary()


def test_a_classifier_of_timm_in_another_segmentation_network(tmp_path: Path) -> None:
    classifier = timm.create_model("convnext_atto", num_classes=3)
    features = {name: value for name, value in classifier.state_dict().items() if not name.startswith("head")}
    underscored = {f"encoder.model.{name.replace('stages.', 'stages_')}": value for name, value in features.items()}
    torch.save(underscored, tmp_path / "weights.pth")
    config = NetworkConfig(encoder="timm:convnext_atto", encoder_weights="file")
    report = load_classifier_weights(build(config), config, tmp_path / "weights.pth")
    assert all(name.startswith(("up.", "classify.")) for name in report.missing)
    assert not report.unexpected


def test_a_vgg_in_another_segmentation_network(tmp_path: Path) -> None:
    classifier = torchvision.models.vgg16_bn(num_classes=2)
    torch.save({f"encoder.{name}": value for name, value in classifier.state_dict().items()}, tmp_path / "weights.pth")
    config = NetworkConfig(name="segnet", encoder_weights="file")
    report = load_classifier_weights(build(config), config, tmp_path / "weights.pth")
    assert all(name.startswith("decoder.") or name.endswith("num_batches_tracked") for name in report.missing)


def test_images_of_another_number_of_channels(tmp_path: Path) -> None:
    """A gray image gives the response that the same image gave in three channels."""
    classifier = torchvision.models.resnet18()
    config = NetworkConfig(encoder="resnet18", encoder_weights="file")
    network = build(config, channels=1)
    load_classifier_weights(network, config, save(classifier, tmp_path))
    image = torch.randn(1, 1, 32, 32)
    ours = network.get_submodule("encoder.conv1")(image)
    torch.testing.assert_close(ours, classifier.conv1(image.expand(1, 3, 32, 32)), rtol=1e-4, atol=1e-5)


def test_networks_without_a_classifier_raise(tmp_path: Path) -> None:
    path = save(torchvision.models.resnet18(), tmp_path)
    config = NetworkConfig(base_channels=4, depth=2, encoder_weights="file")
    with pytest.raises(InvalidArgumentError, match=r"UNet has no layers of a classifier"):
        load_classifier_weights(build(config), config, path)
    config = NetworkConfig(encoder="vgg11", encoder_weights="file")
    with pytest.raises(InvalidArgumentError, match=r"No tensor of .* fits the network"):
        load_classifier_weights(build(config), config, path)
