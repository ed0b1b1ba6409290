import pytest
import torch
import torchvision
from torch import nn

from pixelwise.networks.backbones import (
    VGG_DEPTHS,
    build_caffenet_layers,
    build_fc_layers,
    build_vgg_layers,
    convert_fc_layers,
    get_fc_kernel_size,
)


def count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def meta(build, **arguments):
    with torch.device("meta"):
        return build(**arguments)


@pytest.mark.parametrize("batch_norm", [False, True])
@pytest.mark.parametrize("name", VGG_DEPTHS)
def test_entries_match_torchvision(name, batch_norm):
    ours = meta(build_vgg_layers, in_channels=3, depths=VGG_DEPTHS[name], batch_norm=batch_norm)
    theirs = meta(torchvision.models.get_model, name=name + "_bn" * batch_norm).features
    assert {k: v.shape for k, v in ours.state_dict().items()} == {k: v.shape for k, v in theirs.state_dict().items()}
    assert [type(layer) for layer in ours] == [type(layer) for layer in theirs]


def test_vgg16_has_the_published_parameters():
    assert count(meta(build_vgg_layers, in_channels=3)) == 14_714_688


def test_torchvision_s_weights_give_torchvision_s_values():
    torch.manual_seed(0)
    layers = [4, "M", 8, "M", 16, 16, "M", 32, 32, "M", 32, 32, "M"]
    network = torchvision.models.vgg.make_layers(layers, batch_norm=True)
    ours = build_vgg_layers(3, channels=(4, 8, 16, 32, 32), depths=VGG_DEPTHS["vgg11"], batch_norm=True)
    ours.load_state_dict(network.state_dict())
    image = torch.randn(2, 3, 64, 70)
    torch.testing.assert_close(ours(image), network(image))


def test_caffenet_has_the_published_parameters_with_its_fc_layers():
    body = meta(build_caffenet_layers, in_channels=3)
    head = meta(build_fc_layers, in_channels=256, kernel_size=6, padding=0)
    class_layer = 4096 * 21 + 21
    assert count(body) + count(head) + class_layer == 56_954_261


def test_caffenet_normalizes_after_its_first_two_poolings():
    layers = list(build_caffenet_layers(3, channels=(4, 4, 4, 4, 4)))
    places = [i for i, layer in enumerate(layers) if isinstance(layer, nn.LocalResponseNorm)]
    assert [type(layers[i - 1]) for i in places] == [nn.MaxPool2d] * 2
    # Three channels of 255, all within the window of five; Caffe divides alpha by the five.
    expected = 255 / (1 + 1e-4 / 5 * 3 * 255**2) ** 0.75
    torch.testing.assert_close(layers[places[0]](torch.full((1, 3, 1, 1), 255.0)).flatten(), torch.full((3,), expected))


def test_caffenet_sees_227_pixels_as_6x6_cells():
    assert build_caffenet_layers(3, channels=(4, 4, 4, 4, 4))(torch.randn(1, 3, 227, 227)).shape == (1, 4, 6, 6)


def test_he_initialization():
    torch.manual_seed(0)
    for module in [*build_vgg_layers(3, channels=(64, 64), depths=(1, 2)), *build_fc_layers(64, channels=256)]:
        if isinstance(module, nn.Conv2d) and module.weight.numel() > 10_000:
            fan_in = module.weight[0].numel()
            assert module.weight.std().item() == pytest.approx((2 / fan_in) ** 0.5, rel=0.02)
            assert not module.bias.any()


def test_dropout_after_fc6_and_fc7():
    layers = build_fc_layers(4, channels=8)
    assert [name for name, layer in layers.named_children() if isinstance(layer, nn.Dropout)] == ["drop6", "drop7"]
    assert all(layer.p == 0.5 for layer in layers if isinstance(layer, nn.Dropout))


class Small(nn.Module):
    """A small classifier with the structure of torchvision's VGG and AlexNet."""

    def __init__(self, kernel: int, first: list[nn.Module]) -> None:
        super().__init__()
        self.avgpool = nn.AdaptiveAvgPool2d((kernel, kernel))
        fc = [nn.Linear(3 * kernel**2, 10), nn.ReLU(), nn.Dropout(), nn.Linear(10, 10), nn.ReLU(), nn.Linear(10, 5)]
        self.classifier = nn.Sequential(*first, *fc)


@pytest.mark.parametrize(("kernel", "first"), [(7, []), (6, [nn.Dropout()])])
def test_fc_layers_equal_linear_layers(kernel, first):
    torch.manual_seed(0)
    classifier = Small(kernel, first).eval()
    x = torch.randn(2, 3, kernel, kernel)
    hidden = classifier.classifier[:-1](x.flatten(1))
    assert hidden.std() > 0
    head = convert_fc_layers(classifier, padding=0).eval()
    torch.testing.assert_close(head(x), hidden[:, :, None, None])
    fc6 = next(layer for layer in classifier.classifier if isinstance(layer, nn.Linear))
    torch.testing.assert_close(head.fc6(x).flatten(1), fc6(x.flatten(1)))


def test_default_padding_is_half_the_kernel():
    classifier = Small(7, []).eval()
    x = torch.randn(1, 3, 7, 7)
    same, unpadded = convert_fc_layers(classifier).eval(), convert_fc_layers(classifier, padding=0).eval()
    assert same(x).shape == (1, 10, 7, 7)
    torch.testing.assert_close(same(x)[:, :, 3:4, 3:4], unpadded(x))


def test_weights_are_copies():
    classifier = Small(7, [])
    head = convert_fc_layers(classifier)
    with torch.no_grad():
        head.fc6.weight.zero_()
    assert classifier.classifier[0].weight.any()
    assert all(p.requires_grad and not p.is_meta for p in head.parameters())


@pytest.mark.parametrize(
    ("name", "kernel"), [("vgg11", 7), ("alexnet", 6), ("resnet18", 1), ("densenet121", 1), ("mobilenet_v3_small", 1)]
)
def test_map_that_linear_layers_see(name, kernel):
    classifier = meta(torchvision.models.get_model, name=name)
    assert get_fc_kernel_size(classifier) == kernel
    assert (convert_fc_layers(classifier) is None) == (kernel == 1)
