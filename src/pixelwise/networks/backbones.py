"""The classifiers that the papers start from, as convolutional layers of any width: VGG, CaffeNet, and their heads."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from pixelwise.networks.layers import initialize_he

VGG_DEPTHS = {"vgg11": (1, 1, 2, 2, 2), "vgg13": (2, 2, 2, 2, 2), "vgg16": (2, 2, 3, 3, 3), "vgg19": (2, 2, 4, 4, 4)}
"""Number of convolutions of each stage."""

VGG_CHANNELS = (64, 128, 256, 512, 512)
"""Channels of each stage."""


def build_vgg_layers(
    in_channels: int,
    *,
    channels: Sequence[int] = VGG_CHANNELS,
    depths: Sequence[int] = VGG_DEPTHS["vgg16"],
    batch_norm: bool = False,
) -> nn.Sequential:
    """Return the convolutional layers of a VGG: 3x3 convolutions with ReLU, and 2x2 max pooling after each stage.

    The names are those of torchvision's `vgg16().features`, with `batch_norm` of `vgg16_bn`. Simonyan, Zisserman, "Very
    Deep Convolutional Networks for Large-Scale Image Recognition", ICLR 2015 (arXiv:1409.1556).

    Args:
        in_channels: C of the images.
        channels: Channels of each stage.
        depths: Number of convolutions of each stage.
        batch_norm: Whether batch normalization follows each convolution.
    """
    layers: list[nn.Module] = []
    for width, depth in zip(channels, depths, strict=True):
        for _ in range(depth):
            layers.append(nn.Conv2d(in_channels, width, 3, padding=1))
            layers.extend([nn.BatchNorm2d(width)] if batch_norm else [])
            layers.append(nn.ReLU(inplace=True))
            in_channels = width
        layers.append(nn.MaxPool2d(2))
    network = nn.Sequential(*layers)
    initialize_he(network)
    return network


def build_caffenet_layers(in_channels: int, *, channels: Sequence[int] = (96, 256, 384, 384, 256)) -> nn.Sequential:
    """Return the convolutional layers of CaffeNet, the AlexNet that FCN-AlexNet is based on.

    It has two groups and a normalization after pooling; torchvision's `alexnet` has neither, and fewer channels.
    Krizhevsky, Sutskever, Hinton, "ImageNet Classification with Deep Convolutional Neural Networks", NeurIPS 2012;
    layers as in the release of FCN.

    Args:
        in_channels: C of the images.
        channels: Channels of the five convolutions, even numbers.
    """
    first, second, third, fourth, fifth = channels

    def build_pooling() -> list[nn.Module]:
        return [nn.ReLU(inplace=True), nn.MaxPool2d(3, 2), nn.LocalResponseNorm(5, alpha=1e-4, beta=0.75)]

    network = nn.Sequential(
        *(nn.Conv2d(in_channels, first, 11, stride=4), *build_pooling()),
        *(nn.Conv2d(first, second, 5, padding=2, groups=2), *build_pooling()),
        *(nn.Conv2d(second, third, 3, padding=1), nn.ReLU(inplace=True)),
        *(nn.Conv2d(third, fourth, 3, padding=1, groups=2), nn.ReLU(inplace=True)),
        *(nn.Conv2d(fourth, fifth, 3, padding=1, groups=2), nn.ReLU(inplace=True), nn.MaxPool2d(3, 2)),
    )
    initialize_he(network)
    return network


def build_fc_layers(
    in_channels: int,
    *,
    channels: int = 4096,
    kernel_size: int = 7,
    padding: int = 3,
    dilation: int = 1,
    dropout: float = 0.5,
) -> nn.Sequential:
    """Return fc6 and fc7 of a VGG or AlexNet as convolutions, each with ReLU and dropout.

    Args:
        in_channels: Channels of the encoder's last map.
        channels: Channels of fc6 and fc7.
        kernel_size: Side of that map at the native image size of the classifier: 7 for VGG, 6 for AlexNet.
        padding: 0 in the released networks; dilation · (kernel_size - 1) / 2 keeps the size of the map.
        dilation: The factor that replaces the encoder's last strides.
        dropout: Probability.
    """
    fc6 = nn.Conv2d(in_channels, channels, kernel_size, padding=padding, dilation=dilation)
    fc7 = nn.Conv2d(channels, channels, 1)
    layers = nn.Sequential()
    for number, layer in ((6, fc6), (7, fc7)):
        nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
        nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
        layers.add_module(f"fc{number}", layer)
        layers.add_module(f"relu{number}", nn.ReLU(inplace=True))
        layers.add_module(f"drop{number}", nn.Dropout(dropout))
    return layers


def convert_fc_layers(classifier: nn.Module, *, padding: int | None = None) -> nn.Sequential | None:
    """Return fc6 and fc7 of a torchvision VGG or AlexNet as convolutions, with copies of its weights.

    Args:
        classifier: A torchvision classifier.
        padding: As in `build_fc_layers`; None for half the kernel.

    Returns:
        The layers, or None for classifiers that pool globally, where no linear layer sees a map.
    """
    kernel_size = get_fc_kernel_size(classifier)
    if kernel_size == 1:
        return None
    tensors = classifier.state_dict()
    channels, features = tensors[_list_linear_weights(tensors)[0]].shape
    padding = kernel_size // 2 if padding is None else padding
    with torch.device("meta"):  # avoids drawing the 120 million weights of VGG
        head = build_fc_layers(features // kernel_size**2, channels=channels, kernel_size=kernel_size, padding=padding)
    weights = {name: tensor.clone() for name, tensor in convert_fc_weights(head, tensors).items()}
    head.load_state_dict(weights, assign=True)
    return head


def convert_fc_weights(head: nn.Module, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the weights of a classifier's first two linear layers with the names and shapes of `build_fc_layers`.

    A linear layer on a map of k x k pixels is a k x k convolution: (4096, 25088) → (4096, 512, 7, 7). Layers of another
    size are left out.
    """
    weights = {}
    for layer, name in zip(("fc6", "fc7"), _list_linear_weights(tensors), strict=False):
        weight = head.get_parameter(f"{layer}.weight")
        if tensors[name].numel() == weight.numel():
            weights[f"{layer}.weight"] = tensors[name].view(weight.shape)
            weights[f"{layer}.bias"] = tensors[name.replace("weight", "bias")]
    return weights


def _list_linear_weights(tensors: Mapping[str, Tensor]) -> list[str]:
    return [name for name, tensor in tensors.items() if name.startswith("classifier.") and tensor.dim() == 2]


def get_fc_kernel_size(classifier: nn.Module) -> int:
    """Return the side of the map that the linear layers of a torchvision classifier see: VGG 7, AlexNet 6, others 1."""
    pool = getattr(classifier, "avgpool", None)
    size = pool.output_size if isinstance(pool, nn.AdaptiveAvgPool2d) else 1
    return int(size[0] or 1) if isinstance(size, tuple) else int(size or 1)
