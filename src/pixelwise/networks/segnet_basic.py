"""SegNet-Basic and the seven other decoders that Table 1 of the SegNet paper (Badrinarayanan,
Kendall, Cipolla, PAMI 2017, arXiv 1511.00561) compares on the same small encoder. `TABLE_1`, at the
bottom, builds each by its name.
"""

import itertools
from collections.abc import Mapping
from functools import partial
from types import MappingProxyType
from typing import Protocol

import torch
from torch import Tensor, nn

from pixelwise.networks.segnet import EncoderStage, dropout_by_level, dropout_layer, initialize_as_released
from pixelwise.ops.pooling import max_unpool
from pixelwise.ops.transposed_convolution import TransposedConv
from pixelwise.ops.upsampling import bilinear_weight, interpolate


def image_normalization() -> nn.Module:
    """The release's "local contrast normalization": divides by (1 + 2e-5 times the sum of squares
    over the nearest 5 channels)^0.75. Made for raw values 0..255; at unit std it does nothing.
    """
    return nn.LocalResponseNorm(5, alpha=1e-4, beta=0.75)


def basic_encoder(in_channels: int, base_channels: int, depth: int, dropout: float = 0.0) -> nn.ModuleList:
    """7x7 convolution, batch normalization, ReLU and pooling, `depth` times; sees 106 pixels at depth 4."""
    channels = [in_channels, *[base_channels] * depth]
    drops = dropout_by_level(depth, dropout)
    pairs = itertools.pairwise(channels)
    return nn.ModuleList(EncoderStage(pair, kernel=7, dropout=p) for pair, p in zip(pairs, drops, strict=True))


class SegNetBasic(nn.Module):
    """Four convolutions down, four up, and a 1x1 classifier; no ReLU in the decoder.

    `SegNetBasic(3, 11)` has 1,415,563 parameters in its convolutions, biases included as in the
    release, and 1,024 in its batch normalizations.

    Args:
        in_channels: C of the images.
        num_classes: K of the logits.
        base_channels: channels of every map.
        depth: number of poolings.
        encoder_addition: adds the encoder's maps to what the decoder's convolution gives.
        single_channel_decoder: each decoder filter sees only the map it belongs to.
        dropout: probability, after the poolings and decoder stages of the third level and below.

    Input (B, C, H, W) floating point in raw units 0..255 (see `image_normalization`), output
    (B, K, H, W); any H and W.
    """

    size_multiple = 1
    takes_raw_images = True

    def __init__(
        self,
        in_channels: int,
        num_classes: int,
        *,
        base_channels: int = 64,
        depth: int = 4,
        encoder_addition: bool = False,
        single_channel_decoder: bool = False,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.encoder_addition = encoder_addition
        self.normalize = image_normalization()
        self.encoder = basic_encoder(in_channels, base_channels, depth, dropout)
        groups = base_channels if single_channel_decoder else 1
        self.decoder = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(base_channels, base_channels, 7, padding=3, groups=groups), nn.BatchNorm2d(base_channels)
            )
            for _ in range(depth)
        )
        self.decoder_dropout = nn.ModuleList(dropout_layer(p) for p in dropout_by_level(depth, dropout)[::-1])
        self.classify = nn.Conv2d(base_channels, num_classes, 1)
        initialize_as_released(self)

    def forward(self, images: Tensor) -> Tensor:
        x, levels = self.normalize(images), []
        for encode in self.encoder:
            features, x, switches = encode(x)
            levels.append((features.shape[2:], switches, features if self.encoder_addition else None))
        for convolve, drop, level in zip(self.decoder, self.decoder_dropout, reversed(levels), strict=True):
            size, switches, features = level
            x = convolve(max_unpool(x, switches, (size[0], size[1])))
            x = drop(x if features is None else x + features)
        return self.classify(x)  # type: ignore[no-any-return]


class BilinearInterpolation(nn.Module):
    """The encoder, a 1x1 classifier, and fixed bilinear interpolation back to the image's size.

    The classifier comes first: it commutes with interpolation, and costs 4^depth times less there.
    Arguments, input and output as `SegNetBasic`.
    """

    size_multiple = 1
    takes_raw_images = True

    def __init__(self, in_channels: int, num_classes: int, *, base_channels: int = 64, depth: int = 4) -> None:
        super().__init__()
        self.normalize = image_normalization()
        self.encoder = basic_encoder(in_channels, base_channels, depth)
        self.classify = nn.Conv2d(base_channels, num_classes, 1)
        initialize_as_released(self)

    def forward(self, images: Tensor) -> Tensor:
        x = self.normalize(images)
        for encode in self.encoder:
            _, x, _ = encode(x)
        logits, factor = self.classify(x), 2 ** len(self.encoder)
        logits = interpolate(logits, (factor * x.shape[2], factor * x.shape[3]), "bilinear")
        return logits[:, :, : images.shape[2], : images.shape[3]]


class FCNBasic(nn.Module):
    """The encoder of SegNet-Basic under the decoder of FCN: learned 8x8 transposed convolutions with
    stride 2 that start bilinear, and sums with the encoder's pooled maps.

    Args:
        in_channels, num_classes, base_channels, depth: as `SegNetBasic`.
        addition: adds the pooled map of the same size at each step.
        dim_reduction: 1x1 convolutions bring the encoder's maps to K channels first; else all
            channels are kept to the end and classified there.

    Input and output as `SegNetBasic`.
    """

    size_multiple = 1
    takes_raw_images = True

    def __init__(
        self,
        in_channels: int,
        num_classes: int,
        *,
        base_channels: int = 64,
        depth: int = 4,
        addition: bool = True,
        dim_reduction: bool = True,
    ) -> None:
        super().__init__()
        channels = num_classes if dim_reduction else base_channels
        self.normalize = image_normalization()
        self.encoder = basic_encoder(in_channels, base_channels, depth)
        self.reduce = nn.ModuleList(
            nn.Conv2d(base_channels, num_classes, 1) if dim_reduction else nn.Identity()
            for _ in range(depth if addition else 1)
        )
        self.grow = nn.ModuleList(
            TransposedConv(channels, channels, 8, stride=2, padding=3, bias=False) for _ in range(depth)
        )
        self.classify = nn.Identity() if dim_reduction else nn.Conv2d(base_channels, num_classes, 1)
        initialize_as_released(self)
        for layer in self.grow:
            initialize_bilinear(layer.weight)  # type: ignore[arg-type]

    def forward(self, images: Tensor) -> Tensor:
        x, sizes, pooled = self.normalize(images), [], []
        for encode in self.encoder:
            sizes.append(x.shape[2:])
            _, x, _ = encode(x)
            pooled.append(x)
        # Coarse to fine; without addition only the coarsest has something to reduce it.
        maps = [reduce(x) for reduce, x in zip(self.reduce, reversed(pooled), strict=False)]
        x = maps[0]
        for step, (grow, size) in enumerate(zip(self.grow, reversed(sizes), strict=True), start=1):
            x = grow(x)[:, :, : size[0], : size[1]]
            x = x + maps[step] if step < len(maps) else x
        return self.classify(x)  # type: ignore[no-any-return]


@torch.no_grad()
def initialize_bilinear(weight: Tensor) -> None:
    """Each channel (of (C, C, 8, 8)) onto itself, none onto another.

    At stride 2 four of an 8x8 kernel overlap along an axis, not two, and add up to 2, in the plane to
    4: a quarter of it keeps a constant map as it is.
    """
    weight.copy_(bilinear_weight(len(weight), 8) / 4)


class Builder(Protocol):
    """What builds a network of Table 1."""

    def __call__(self, in_channels: int, num_classes: int, *, base_channels: int = 64, depth: int = 4) -> nn.Module: ...


TABLE_1: Mapping[str, Builder] = MappingProxyType(
    {
        "bilinear-interpolation": BilinearInterpolation,
        "segnet-basic": SegNetBasic,
        "segnet-basic-encoder-addition": partial(SegNetBasic, encoder_addition=True),
        "segnet-basic-single-channel-decoder": partial(SegNetBasic, single_channel_decoder=True),
        "fcn-basic": FCNBasic,
        "fcn-basic-no-addition": partial(FCNBasic, addition=False),
        "fcn-basic-no-dim-reduction": partial(FCNBasic, dim_reduction=False),
        "fcn-basic-no-addition-no-dim-reduction": partial(FCNBasic, addition=False, dim_reduction=False),
    }
)
"""Name → constructor of the eight rows of the SegNet paper's Table 1."""
