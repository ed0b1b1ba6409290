"""SegNet: Badrinarayanan, Kendall, Cipolla, "SegNet: A Deep Convolutional Encoder-Decoder
Architecture for Image Segmentation", PAMI 2017 (arXiv 1511.00561), as its authors released it.
With dropout it is Bayesian SegNet: Kendall, Badrinarayanan, Cipolla, BMVC 2017 (arXiv 1511.02680).
Read from the bottom up: convolutions, an encoder stage, a decoder stage, the network.
"""

import itertools
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from pixelwise.errors import InvalidArgumentError
from pixelwise.networks.layers import (
    Skips,
    Upsampling,
    count_joined_channels,
    initialize_he,
    join,
    upsample,
    upsampling_layer,
)
from pixelwise.ops.pooling import max_pool_with_switches
from pixelwise.shapes import Size


def conv_bn_relu(channels: Sequence[int], kernel: int = 3) -> list[nn.Module]:
    """Convolution (same size, with bias), batch normalization and ReLU for each pair of channels.

    Batch normalization subtracts the bias again; it is there because it is in the release.
    """
    layers: list[nn.Module] = []
    for inputs, outputs in itertools.pairwise(channels):
        convolution = nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2)
        layers += [convolution, nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)]
    return layers


def dropout_by_level(depth: int, dropout: float) -> list[float]:
    """Bayesian SegNet drops at the third level and below: `(5, 0.5) → [0, 0, .5, .5, .5]`."""
    if dropout and depth < 3:
        raise InvalidArgumentError(
            f"dropout sits at the third level and below, and this network has {depth}; use dropout=0."
        )
    return [0.0, 0.0, *[dropout] * (depth - 2)][:depth]


def dropout_layer(dropout: float) -> nn.Module:
    return nn.Dropout(dropout) if dropout else nn.Identity()


class EncoderStage(nn.Module):
    """Convolutions, then 2x2 max pooling that records its switches.

    (B, C, H, W) → features (B, C', H, W), pooled (B, C', ceil(H / 2), ceil(W / 2)) and the switches
    of the pooling, uint8 of the pooled shape. Ceil mode pools every size: 45 → 23 → 12.
    """

    def __init__(self, channels: Sequence[int], *, kernel: int = 3, dropout: float = 0.0) -> None:
        super().__init__()
        self.convolutions = nn.Sequential(*conv_bn_relu(channels, kernel))
        self.dropout = dropout_layer(dropout)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        features = self.convolutions(x)
        pooled, switches = max_pool_with_switches(features, 2, ceil_mode=True)
        return features, self.dropout(pooled), switches


class DecoderStage(nn.Module):
    """Upsampling to the size before the pooling, the skip if there is one, then convolutions.

    Args:
        channels: of the pooled maps, after each convolution but the last, and of the output. They
            drop in the last convolution, so that unpooled maps always fit their switches.
        classify: the last convolution gives logits, without batch normalization and ReLU.
    """

    def __init__(
        self, channels: Sequence[int], *, classify: bool, upsampling: Upsampling, skips: Skips, dropout: float
    ) -> None:
        super().__init__()
        self.upsampling: Upsampling = upsampling
        self.skips: Skips = skips
        self.up = upsampling_layer(upsampling, channels[0], channels[0])
        layers = conv_bn_relu([count_joined_channels(channels[0], skips), *channels[1:]])
        self.convolutions = nn.Sequential(*layers[: -2 if classify else None])
        self.dropout = dropout_layer(dropout)

    def forward(self, x: Tensor, size: Size, switches: Tensor, skip: Tensor | None) -> Tensor:
        x = upsample(self.up(x), size, self.upsampling, switches)
        return self.dropout(self.convolutions(join(x, skip, self.skips)))  # type: ignore[no-any-return]


class SegNet(nn.Module):
    """VGG16's convolutions as encoder, their mirror image as decoder, switches between the two.

    The defaults are the released network: 26 convolutions, each with batch normalization and ReLU
    except the last, which gives the logits. `SegNet(3, 11)` has 29,433,483 parameters in its
    convolutions and 15,872 in its batch normalizations. Where the release differs from PyTorch's
    batch normalization: its eps is 1e-9 (here 1e-5, as reduced precision and VGG16's own batch
    normalization need), and its test statistics are recomputed over the training set.

    Args:
        in_channels: C of the images.
        num_classes: K of the logits.
        widths: channels of each level, fine to coarse.
        convolutions: how many of them at each level, in the encoder and in the decoder.
        upsampling: how the decoder grows its maps.
        skips: whether the encoder's map before pooling is added to, or concatenated with, the grown one.
        dropout: probability, after the poolings and the decoder stages of the third level and below,
            as in Bayesian SegNet, which uses 0.5 (`bayesian.sample` keeps it on at prediction).

    Input (B, C, H, W) floating point, output (B, K, H, W); any H and W. The release feeds raw
    values 0..255; batch normalization makes the scale of the input immaterial.
    """

    size_multiple = 1

    def __init__(
        self,
        in_channels: int,
        num_classes: int,
        *,
        widths: Sequence[int] = (64, 128, 256, 512, 512),
        convolutions: Sequence[int] = (2, 2, 3, 3, 3),
        upsampling: Upsampling = "switches",
        skips: Skips = "none",
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if not widths or len(widths) != len(convolutions):
            raise InvalidArgumentError(f"widths {widths} and convolutions {convolutions} must be one pair a level.")
        self.skips: Skips = skips
        drops = dropout_by_level(len(widths), dropout)
        inputs, outputs = (in_channels, *widths[:-1]), (num_classes, *widths[:-1])
        self.encoder = nn.ModuleList(
            EncoderStage([first, *[width] * count], dropout=drop)
            for first, width, count, drop in zip(inputs, widths, convolutions, drops, strict=True)
        )
        decoder = [
            DecoderStage(
                [*[width] * count, last], classify=level == 0, upsampling=upsampling, skips=skips, dropout=drop
            )
            for level, (width, count, last, drop) in enumerate(zip(widths, convolutions, outputs, drops, strict=True))
        ]
        self.decoder = nn.ModuleList(decoder[::-1])
        initialize_as_released(self)

    def forward(self, images: Tensor) -> Tensor:
        x, levels = images, []
        for encode in self.encoder:
            features, x, switches = encode(x)
            # Without skips only the switches cross over: at a byte a window, not the maps they came from.
            skip = None if self.skips == "none" else features
            levels.append(((features.shape[2], features.shape[3]), switches, skip))
        for decode, (size, switches, skip) in zip(self.decoder, reversed(levels), strict=True):
            x = decode(x, size, switches, skip)
        return x


def initialize_as_released(network: nn.Module) -> None:
    """He initialization, and batch normalization that starts with scale 1 and shift 0.001."""
    initialize_he(network)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.ones_(module.weight)
            nn.init.constant_(module.bias, 1e-3)


VGG16_CONVOLUTIONS = (2, 2, 3, 3, 3)


def map_vgg16_names(*, batch_norm: bool = False) -> dict[str, str]:
    """From torchvision's names of VGG16's 13 convolutions to those of SegNet's encoder.

    `features.0.weight → encoder.0.convolutions.0.weight`, and so on; for `vgg16_bn` the batch
    normalizations with their statistics too.
    """
    parts = [("weight", "bias"), ("weight", "bias", "running_mean", "running_var")][: 1 + batch_norm]
    names, index = {}, 0
    for stage, count in enumerate(VGG16_CONVOLUTIONS):
        for layer in range(count):
            for offset, entries in enumerate(parts):
                for entry in entries:
                    ours = f"encoder.{stage}.convolutions.{3 * layer + offset}.{entry}"
                    names[f"features.{index + offset}.{entry}"] = ours
            index += len(parts) + 1  # and its ReLU
        index += 1  # the pooling
    return names


def load_vgg16(network: SegNet, weights: Mapping[str, Tensor]) -> None:
    """Copies the convolutions of torchvision's `vgg16` or `vgg16_bn` into the encoder, all or nothing.

    Args:
        network: with VGG16's widths and convolutions, and 3 input channels.
        weights: the classifier's state dict; its fully connected layers are left out.
    """
    names = map_vgg16_names(batch_norm="features.1.running_mean" in weights)
    targets = network.state_dict()
    for theirs, ours in names.items():
        if theirs not in weights:
            raise InvalidArgumentError(f"these are no weights of torchvision's vgg16 or vgg16_bn: {theirs} is missing.")
        if ours not in targets or weights[theirs].shape != targets[ours].shape:
            raise InvalidArgumentError(
                f"{theirs}, {tuple(weights[theirs].shape)}, does not fit this SegNet's {ours}; VGG16 weights "
                "need 3 input channels and the default widths and convolutions."
            )
    with torch.no_grad():
        for theirs, ours in names.items():
            targets[ours].copy_(weights[theirs])
