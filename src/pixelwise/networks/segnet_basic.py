"""SegNet-Basic and the seven other decoders on the same small encoder, as compared in Table 1 of the SegNet paper:
Badrinarayanan, Kendall, Cipolla, PAMI 2017 (arXiv:1511.00561).

The file reads bottom-up: the encoder, the networks, and `TABLE_1`, which builds each by its name.
"""

import itertools
from collections.abc import Callable, Mapping
from functools import partial
from types import MappingProxyType

import torch
from torch import Tensor, nn

from pixelwise.arguments import Count, FractionBelowOne, check_arguments
from pixelwise.networks.layers import check_images
from pixelwise.networks.segnet import EncoderStage, build_dropout, distribute_dropout, initialize_as_released
from pixelwise.ops.pooling import MaxUnpool
from pixelwise.ops.transposed_convolution import TransposedConv
from pixelwise.ops.upsampling import Interpolate, bilinear_weight


def build_image_normalization() -> nn.Module:
    """Return the "local contrast normalization" of the release.

    It divides by (1 + 2e-5 times the sum of squares over the nearest 5 channels)^0.75. It is meant for raw values
    0..255, and has no effect at unit standard deviation.
    """
    return nn.LocalResponseNorm(5, alpha=1e-4, beta=0.75)


def build_basic_encoder(in_channels: int, base_channels: int, depth: int, dropout: float = 0.0) -> nn.ModuleList:
    """Return `depth` stages of 7x7 convolution, batch normalization, ReLU and pooling; depth 4 sees 106 pixels."""
    pairs = itertools.pairwise([in_channels, *[base_channels] * depth])
    dropouts = distribute_dropout(depth, dropout)
    return nn.ModuleList(EncoderStage(pair, kernel_size=7, dropout=p) for pair, p in zip(pairs, dropouts, strict=True))


class SegNetBasic(nn.Module):
    """SegNet-Basic (Badrinarayanan, Kendall, Cipolla, PAMI 2017): four convolutions down, four up, a 1x1 classifier.

    The decoder has no ReLU. `SegNetBasic(3, 11)` has 1,415,563 parameters in its convolutions, with biases as in the
    release, and 1,024 in its batch normalizations.

    Args:
        in_channels: C of the images.
        num_classes: K of the logits.
        base_channels: Channels of every map.
        depth: Number of poolings.
        encoder_addition: Whether the encoder's maps are added to the maps of the decoder's convolutions.
        single_channel_decoder: Whether each decoder filter sees only its own map.
        dropout: Probability after the poolings and decoder stages of the third level and below.

    Returns:
        `forward(images)` takes (B, C, H, W) floating point of any size, in raw units 0..255, and returns logits
        (B, K, H, W).

    Raises:
        InvalidArgumentError: `dropout` is above 0 and `depth` below 3.

    Example:
        >>> import torch
        >>> from pixelwise.networks import SegNetBasic
        >>> SegNetBasic(3, 5, base_channels=8)(torch.rand(1, 3, 45, 61) * 255).shape
        torch.Size([1, 5, 45, 61])
    """

    size_multiple = 1
    takes_raw_images = True

    @check_arguments
    def __init__(
        self,
        in_channels: Count,
        num_classes: Count,
        *,
        base_channels: Count = 64,
        depth: Count = 4,
        encoder_addition: bool = False,
        single_channel_decoder: bool = False,
        dropout: FractionBelowOne = 0.0,
    ) -> None:
        super().__init__()
        self.encoder_addition = encoder_addition
        self.in_channels = in_channels
        self.normalize = build_image_normalization()
        self.encoder = build_basic_encoder(in_channels, base_channels, depth, dropout)
        self.unpool = nn.ModuleList(MaxUnpool(2) for _ in range(depth))
        groups = base_channels if single_channel_decoder else 1
        self.decoder = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(base_channels, base_channels, 7, padding=3, groups=groups), nn.BatchNorm2d(base_channels)
            )
            for _ in range(depth)
        )
        self.decoder_dropout = nn.ModuleList(build_dropout(p) for p in distribute_dropout(depth, dropout)[::-1])
        self.classify = nn.Conv2d(base_channels, num_classes, 1)
        initialize_as_released(self)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits (B, K, H, W) for raw images (B, C, H, W)."""
        check_images(self, images, self.in_channels)
        x, levels = self.normalize(images), []
        for encode in self.encoder:
            features, x, switches = encode(x)
            levels.append((features.shape[2:], switches, features if self.encoder_addition else None))
        steps = zip(self.unpool, self.decoder, self.decoder_dropout, reversed(levels), strict=True)
        for unpool, convolve, drop, (size, switches, features) in steps:
            x = convolve(unpool(x, switches, (size[0], size[1])))
            x = drop(x if features is None else x + features)
        return self.classify(x)  # type: ignore[no-any-return]


class BilinearInterpolation(nn.Module):
    """The encoder, a 1x1 classifier, and fixed bilinear interpolation to the size of the image.

    The classifier comes first: it commutes with the interpolation, and costs 4^depth times less there. Arguments, input
    and output are those of `SegNetBasic`.
    """

    size_multiple = 1
    takes_raw_images = True

    @check_arguments
    def __init__(self, in_channels: Count, num_classes: Count, *, base_channels: Count = 64, depth: Count = 4) -> None:
        super().__init__()
        self.in_channels = in_channels
        self.normalize = build_image_normalization()
        self.encoder = build_basic_encoder(in_channels, base_channels, depth)
        self.classify = nn.Conv2d(base_channels, num_classes, 1)
        self.interpolate = Interpolate("bilinear")
        initialize_as_released(self)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits (B, K, H, W) for raw images (B, C, H, W)."""
        check_images(self, images, self.in_channels)
        x = self.normalize(images)
        for encode in self.encoder:
            _, x, _ = encode(x)
        factor = 2 ** len(self.encoder)
        logits: Tensor = self.interpolate(self.classify(x), (factor * x.shape[2], factor * x.shape[3]))
        return logits[:, :, : images.shape[2], : images.shape[3]]


class FCNBasic(nn.Module):
    """The encoder of SegNet-Basic with the decoder of FCN.

    The decoder has learned 8x8 transposed convolutions with stride 2, bilinear at first, and sums with the encoder's
    pooled maps.

    Args:
        in_channels: As in `SegNetBasic`.
        num_classes: As in `SegNetBasic`.
        base_channels: As in `SegNetBasic`.
        depth: As in `SegNetBasic`.
        addition: Whether the pooled map of the same size is added at each step.
        dim_reduction: Whether 1x1 convolutions first reduce the encoder's maps to K channels. Otherwise all channels
            are kept to the end and classified there.
    """

    size_multiple = 1
    takes_raw_images = True

    @check_arguments
    def __init__(
        self,
        in_channels: Count,
        num_classes: Count,
        *,
        base_channels: Count = 64,
        depth: Count = 4,
        addition: bool = True,
        dim_reduction: bool = True,
    ) -> None:
        super().__init__()
        channels = num_classes if dim_reduction else base_channels
        self.in_channels = in_channels
        self.normalize = build_image_normalization()
        self.encoder = build_basic_encoder(in_channels, base_channels, depth)
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
        """Return logits (B, K, H, W) for raw images (B, C, H, W)."""
        check_images(self, images, self.in_channels)
        x, sizes, pooled = self.normalize(images), [], []
        for encode in self.encoder:
            sizes.append(x.shape[2:])
            _, x, _ = encode(x)
            pooled.append(x)
        # Coarse to fine; without addition only the coarsest map is reduced.
        maps = [reduce(x) for reduce, x in zip(self.reduce, reversed(pooled), strict=False)]
        x = maps[0]
        for step, (grow, size) in enumerate(zip(self.grow, reversed(sizes), strict=True), start=1):
            x = grow(x)[:, :, : size[0], : size[1]]
            x = x + maps[step] if step < len(maps) else x
        return self.classify(x)  # type: ignore[no-any-return]


@torch.no_grad()
def initialize_bilinear(weight: Tensor) -> None:
    """Set a weight (C, C, 8, 8) to bilinear interpolation of each channel.

    At stride 2 four taps of an 8x8 kernel overlap along each axis instead of two, and sum to 4 in the plane. A quarter
    of the kernel therefore keeps a constant map constant.
    """
    weight.copy_(bilinear_weight(len(weight), 8) / 4)


TABLE_1: Mapping[str, Callable[..., nn.Module]] = MappingProxyType(
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
