import pytest
import torch
import torchvision
from torch import nn

from pixelwise.networks.resnet import RESNETS, build_resnet_layers


@pytest.mark.parametrize("name", ["resnet18", "resnet50", "resnext50_32x4d"])
def test_the_same_seed_gives_the_weights_and_maps_of_torchvision(name: str) -> None:
    torch.manual_seed(3)
    classifier = torchvision.models.get_model(name, weights=None).eval()
    expected_next = torch.rand(1)
    torch.manual_seed(3)
    trunk = nn.ModuleDict(build_resnet_layers(name)).eval()
    assert torch.equal(torch.rand(1), expected_next)
    weights = {key: value for key, value in classifier.state_dict().items() if not key.startswith("fc.")}
    assert list(weights) == list(trunk.state_dict())
    assert all(torch.equal(value, weights[key]) for key, value in trunk.state_dict().items())
    classifier.avgpool, classifier.fc = nn.Identity(), nn.Identity()
    image = torch.rand(1, 3, 61, 46)
    with torch.inference_mode():
        assert torch.equal(nn.Sequential(*trunk.values())(image).flatten(1), classifier(image))


@pytest.mark.parametrize("name", RESNETS)
def test_every_network_has_the_tensors_of_torchvision(name: str) -> None:
    with torch.device("meta"):
        classifier = torchvision.models.get_model(name, weights=None)
        trunk = nn.ModuleDict(build_resnet_layers(name))
    expected = {key: value.shape for key, value in classifier.state_dict().items() if not key.startswith("fc.")}
    assert {key: value.shape for key, value in trunk.state_dict().items()} == expected
