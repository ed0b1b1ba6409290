"""The layers of the classifiers that the papers start from, at any width, all of them convolutions."""

from collections import OrderedDict
from collections.abc import Sequence

import torch
from torch import nn

from pixelwise.networks.layers import initialize_he

VGG_DEPTHS = {"vgg11": (1, 1, 2, 2, 2), "vgg13": (2, 2, 2, 2, 2), "vgg16": (2, 2, 3, 3, 3), "vgg19": (2, 2, 4, 4, 4)}
"""Convolutions of each stage."""

VGG_CHANNELS = (64, 128, 256, 512, 512)
"""Channels of each stage."""


def build_vgg_layers(
    in_channels: int,
    *,
    widths: Sequence[int] = VGG_CHANNELS,
    depths: Sequence[int] = VGG_DEPTHS["vgg16"],
    batch_norm: bool = False,
) -> nn.Sequential:
    """3x3 convolutions with ReLU, and a 2x2 max pooling behind each stage: VGG16, unless told otherwise.

    Entries are named as those of torchvision's `vgg16().features`, with `batch_norm` of `vgg16_bn`.
    Simonyan, Zisserman, "Very Deep Convolutional Networks for Large-Scale Image Recognition", ICLR 2015.

    Args:
        widths, depths: of each stage, its channels and its number of convolutions.
    """
    layers: list[nn.Module] = []
    for width, depth in zip(widths, depths, strict=True):
        for _ in range(depth):
            layers.append(nn.Conv2d(in_channels, width, 3, padding=1))
            layers.extend([nn.BatchNorm2d(width)] if batch_norm else [])
            layers.append(nn.ReLU(inplace=True))
            in_channels = width
        layers.append(nn.MaxPool2d(2))
    network = nn.Sequential(*layers)
    initialize_he(network)
    return network


def build_caffenet_layers(in_channels: int, *, widths: Sequence[int] = (96, 256, 384, 384, 256)) -> nn.Sequential:
    """CaffeNet, the AlexNet that FCN-AlexNet was made of: two groups, normalization behind pooling.

    torchvision's `alexnet` has neither, and narrower layers. Krizhevsky, Sutskever, Hinton, "ImageNet
    Classification with Deep Convolutional Neural Networks", NeurIPS 2012; layers as in FCN's release.

    Args:
        widths: channels of the five convolutions, even numbers.
    """
    first, second, third, fourth, fifth = widths

    def pooling() -> list[nn.Module]:
        return [nn.ReLU(inplace=True), nn.MaxPool2d(3, 2), nn.LocalResponseNorm(5, alpha=1e-4, beta=0.75)]

    network = nn.Sequential(
        *(nn.Conv2d(in_channels, first, 11, stride=4), *pooling()),
        *(nn.Conv2d(first, second, 5, padding=2, groups=2), *pooling()),
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
    kernel: int = 7,
    padding: int = 3,
    dilation: int = 1,
    dropout: float = 0.5,
) -> nn.Sequential:
    """fc6 and fc7 of a VGG or AlexNet as convolutions, each with ReLU and dropout.

    Args:
        in_channels: of the encoder's last map.
        kernel: side of that map at the classifier's own image size: 7 for VGG, 6 for AlexNet.
        padding: 0 in the released networks; dilation · (kernel - 1) / 2 keeps the map's size.
        dilation: the factor by which the encoder's last strides were left out.
    """
    fc6 = nn.Conv2d(in_channels, channels, kernel, padding=padding, dilation=dilation)
    fc7 = nn.Conv2d(channels, channels, 1)
    for layer in (fc6, fc7):
        nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
        nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
    return nn.Sequential(
        OrderedDict(
            fc6=fc6,
            relu6=nn.ReLU(inplace=True),
            drop6=nn.Dropout(dropout),
            fc7=fc7,
            relu7=nn.ReLU(inplace=True),
            drop7=nn.Dropout(dropout),
        )
    )


def convert_fc_layers(classifier: nn.Module, *, padding: int | None = None) -> nn.Sequential | None:
    """fc6 and fc7 of a torchvision VGG or AlexNet as convolutions, weights copied: `build_fc_layers`.

    A linear layer on a map of k x k cells is a k x k convolution: (4096, 25088) → (4096, 512, 7, 7).

    Args:
        padding: as of `build_fc_layers`; None: half the kernel.

    Returns:
        None for classifiers that pool globally, where no linear layer sees a map.
    """
    kernel = get_fc_kernel(classifier)
    if kernel == 1:
        return None
    layers = classifier.get_submodule("classifier").modules()
    first, second, _ = (layer for layer in layers if isinstance(layer, nn.Linear))
    channels, width = first.in_features // kernel**2, first.out_features
    padding = kernel // 2 if padding is None else padding
    weights = {
        "fc6.weight": first.weight.view(width, channels, kernel, kernel),
        "fc6.bias": first.bias,
        "fc7.weight": second.weight.view(width, width, 1, 1),
        "fc7.bias": second.bias,
    }
    with torch.device("meta"):  # VGG's 120 million weights are not drawn first
        head = build_fc_layers(channels, channels=width, kernel=kernel, padding=padding)
    head.load_state_dict({name: weight.detach().clone() for name, weight in weights.items()}, assign=True)
    return head


def get_fc_kernel(classifier: nn.Module) -> int:
    """Side of the map that the linear layers of a torchvision classifier see: VGG 7, AlexNet 6, others 1."""
    pool = getattr(classifier, "avgpool", None)
    size = pool.output_size if isinstance(pool, nn.AdaptiveAvgPool2d) else 1
    return int(size[0] or 1) if isinstance(size, tuple) else int(size or 1)
