"""U-Net: Ronneberger, Fischer, Brox, "U-Net: Convolutional Networks for Biomedical Image Segmentation", MICCAI 2015
(arXiv:1505.04597).

The file reads bottom-up: a block, a step down, a step up, the network, and the same decoder on another encoder.
"""

import itertools
import math
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from pixelwise.arguments import Count, Index, check_arguments
from pixelwise.errors import InvalidArgumentError
from pixelwise.networks.layers import (
    Skips,
    Upsampling,
    build_unpooling,
    build_upsampling,
    check_images,
    count_joined_channels,
    initialize_he,
    join_skip,
    upsample,
)
from pixelwise.ops import MaxPoolWithSwitches
from pixelwise.shapes import Size, center_crop

if TYPE_CHECKING:  # imports torchvision and timm
    from pixelwise.networks.encoders import Encoder

Padding = Literal["valid", "same"]
Normalization = Literal["none", "batch", "group"]


def build_normalization(normalization: Normalization, channels: int) -> list[nn.Module]:
    """Return the normalization layer, or no layer."""
    match normalization:
        case "none":
            return []
        case "batch":
            return [nn.BatchNorm2d(channels)]
        case "group":
            # 32 groups, the best number in Wu and He (ECCV 2018), but at least 2 channels per group: a group of
            # one channel on a map of one pixel has no standard deviation.
            groups = math.gcd(channels, 32)
            return [nn.GroupNorm(groups if groups < channels else max(groups // 2, 1), channels)]


class DoubleConv(nn.Sequential):
    """Two 3x3 convolutions, each followed by normalization and ReLU."""

    def __init__(self, in_channels: int, out_channels: int, padding: Padding, normalization: Normalization) -> None:
        layers: list[nn.Module] = []
        for channels in (in_channels, out_channels):
            # Batch normalization subtracts the mean, so a bias would have no effect.
            bias = normalization != "batch"
            layers.append(nn.Conv2d(channels, out_channels, 3, padding=int(padding == "same"), bias=bias))
            layers += build_normalization(normalization, out_channels)
            layers.append(nn.ReLU(inplace=True))
        super().__init__(*layers)


class Down(nn.Module):
    """A step of the contracting path: 2x2 max pooling with stride 2, then a double convolution."""

    def __init__(self, in_channels: int, out_channels: int, padding: Padding, normalization: Normalization) -> None:
        super().__init__()
        self.pool = MaxPoolWithSwitches(2)
        self.block = DoubleConv(in_channels, out_channels, padding, normalization)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the coarser map and the switches of the pooling."""
        pooled, switches = self.pool(x)
        return self.block(pooled), switches


class Up(nn.Module):
    """A step of the expanding path: transposed 2x2 convolution, concatenation of the skip, then a double convolution.

    The map has as many channels as the skip, or `out_channels`. `upsampling` and `skips` select alternatives. Unpadded
    convolutions shrink the maps, so the skip and the switches are cropped to the size of the upsampled map.
    """

    def __init__(
        self,
        in_channels: int,
        skip_channels: int,
        padding: Padding,
        normalization: Normalization,
        upsampling: Upsampling,
        skips: Skips,
        out_channels: int | None = None,
    ) -> None:
        super().__init__()
        out_channels = out_channels or skip_channels
        self.upsampling: Upsampling = upsampling
        self.skips: Skips = skips
        self.up = build_upsampling(upsampling, in_channels, out_channels)
        self.unpool = build_unpooling(upsampling)
        joined_channels = count_joined_channels(out_channels, skip_channels, skips)
        self.block = DoubleConv(joined_channels, out_channels, padding, normalization)

    def forward(self, x: Tensor, switches: Tensor | None, skip: Tensor | None) -> Tensor:
        """Return the finer map."""
        height, width = x.shape[2:]
        size = (2 * height, 2 * width)
        if switches is not None and self.upsampling == "switches":
            switches = crop(switches, (height, width))
        x = upsample(self.up(x), size, self.unpool, switches)
        skip = None if skip is None else crop(skip, size)
        return self.block(join_skip(x, skip, self.skips))  # type: ignore[no-any-return]

    def extra_repr(self) -> str:
        return f"upsampling={self.upsampling}, skips={self.skips}"


def crop(x: Tensor, size: Size) -> Tensor:
    """Return the center (B, C, *size) of (B, C, H, W)."""
    rows, columns = center_crop((x.shape[2], x.shape[3]), size)
    return x[:, :, rows, columns]


class UNet(nn.Module):
    """U-Net (Ronneberger, Fischer, Brox, MICCAI 2015): a contracting path, an expanding path, and skips between them.

    The defaults are the network of the paper: 23 convolutions without padding, so 572x572 pixels give 388x388 logits.
    `UNet(1, 2)` has 31,030,658 parameters.

    Args:
        in_channels: C of the images.
        num_classes: K of the logits.
        base_channels: Channels of the finest level, doubled at each level down to at most `max_channels`.
        depth: Number of poolings.
        max_channels: Largest number of channels of a level.
        padding: "valid" reduces the maps at each convolution, as in the paper; "same" keeps their size.
        normalization: "none" as in the paper, or "batch" or "group" normalization after each convolution.
        upsampling: "transposed" as in the paper, "switches", "nearest", "bed_of_nails" or "bilinear".
        skips: "concat" as in the paper, "add" or "none".
        stem_stride: 1, or 2 or 4 to fold blocks of 2x2 or 4x4 pixels into channels. The last layer unfolds them,
            so the network is as fast as on an image that much smaller, and no pixel is lost. Needs padding "same".
            (Pixel shuffle: Shi et al., CVPR 2016.)

    Returns:
        `forward(images)` takes (B, C, H, W) floating point and returns logits (B, K, H', W'). With padding "same", H
        and W must be multiples of `size_multiple`, and H' = H. With "valid", every pooled side must be even.

    Raises:
        InvalidArgumentError: A name is unknown, `stem_stride` is above 1 without padding "same", or, in `forward`, H or
            W is not legal; the message names legal sizes.

    Example:
        >>> import torch
        >>> from pixelwise.networks import UNet
        >>> network = UNet(3, 5, base_channels=8, depth=2, padding="same", normalization="batch")
        >>> network(torch.rand(1, 3, 64, 96)).shape
        torch.Size([1, 5, 64, 96])
        >>> UNet(1, 2, base_channels=8)(torch.rand(1, 1, 188, 204)).shape  # without padding, as in the paper
        torch.Size([1, 2, 4, 20])
    """

    @check_arguments
    def __init__(
        self,
        in_channels: Count,
        num_classes: Count,
        *,
        base_channels: Count = 64,
        depth: Index = 4,
        max_channels: Count = 1024,
        padding: Padding = "valid",
        normalization: Normalization = "none",
        upsampling: Upsampling = "transposed",
        skips: Skips = "concat",
        stem_stride: Literal[1, 2, 4] = 1,
    ) -> None:
        super().__init__()
        if stem_stride > 1 and padding == "valid":
            raise InvalidArgumentError(f"stem_stride {stem_stride} needs padding='same'. With 'valid' it must be 1.")
        channels = [min(base_channels * 2**level, max_channels) for level in range(depth + 1)]
        self.in_channels = in_channels
        self.padding: Padding = padding
        self.skips: Skips = skips
        self.stem_stride = stem_stride
        self.size_multiple = stem_stride * 2**depth
        self.first = DoubleConv(in_channels * stem_stride**2, channels[0], padding, normalization)
        pairs = list(itertools.pairwise(channels))
        self.down = nn.ModuleList(Down(fine, coarse, padding, normalization) for fine, coarse in pairs)
        self.up = nn.ModuleList(
            Up(coarse, fine, padding, normalization, upsampling, self.skips) for fine, coarse in pairs[::-1]
        )
        self.classify = nn.Conv2d(channels[0], num_classes * stem_stride**2, 1)
        initialize_he(self)
        initialize_blocks_equally(self.classify, stem_stride)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits (B, K, H', W') for images (B, C, H, W)."""
        self._check_images(images)
        # torch.compile cannot trace an unshuffle by 1 with sizes that vary.
        stride = self.stem_stride
        x = self.first(functional.pixel_unshuffle(images, stride) if stride > 1 else images)
        levels = []
        for down in self.down:
            skip = None if self.skips == "none" else x
            x, switches = down(x)
            levels.append((switches, skip))
        for up, (switches, skip) in zip(self.up, reversed(levels), strict=True):
            x = up(x, switches, skip)
        logits: Tensor = self.classify(x)
        return functional.pixel_shuffle(logits, stride) if stride > 1 else logits

    @property
    def size_offset(self) -> int:
        """Return the offset of legal sides, which are `size_multiple` · m + offset: 60 in the paper."""
        # From the bottom up: two convolutions reduce 2 m + 4 pixels to 2 m, which are pooled to m, ...
        return 0 if self.padding == "same" else 4 * (2 ** len(self.down) - 1)

    @property
    def output_margin(self) -> int:
        """Return the rows, and columns, by which the output is smaller than the input: 184 in the paper."""
        levels = 2 ** len(self.down)
        return 0 if self.padding == "same" else 4 * levels + 8 * (levels - 1)

    def _check_images(self, images: Tensor) -> None:
        is_padded = self.padding == "same"
        check_images(self, images, self.in_channels, self.size_multiple if is_padded else 1)
        if is_padded:
            return
        height, width = images.shape[2:]
        levels, offset = self.size_multiple, self.size_offset
        if any((side - offset) % levels or (side - offset) // levels < 8 for side in (height, width)):
            raise InvalidArgumentError(
                f"This UNet without padding takes images with heights and widths of {levels}m+{offset} with m of at "
                f"least 8 ({8 * levels + offset}, {9 * levels + offset}, ...), not {height}x{width}. "
                "Wrap it in Segmenter, which pads and crops, or use padding='same'."
            )


class EncoderUNet(nn.Module):
    """U-Net's expanding path on the maps of any encoder, instead of its contracting path.

    Each step up halves the stride and has as many output channels as the encoder's map there, or `base_channels` at
    the finest map and twice as many at each coarser one. The last layer unfolds the remaining stride of the finest map
    (2 for ResNet, 4 for ConvNeXt), as with `stem_stride` of `UNet`.

    Args:
        in_channels: C of the images, equal to that of the encoder.
        num_classes: K of the logits.
        encoder: Network that returns maps with strides that double; see `encoders.py`.
        base_channels: Channels of the finest map of the expanding path; None for those of the encoder's maps.
        max_channels: Largest number of channels with `base_channels`.
        normalization: "none", "batch" or "group", in the expanding path.
        upsampling: As in `UNet`; "switches" needs an encoder with 2x2 max poolings (VGG).
        skips: As in `UNet`.

    Returns:
        `forward(images)` takes (B, C, H, W) floating point, with H and W multiples of `size_multiple`, and returns
        logits (B, K, H, W).

    Raises:
        InvalidArgumentError: The encoder has other channels, strides or poolings than needed, or, in `forward`, H or W
            is not a multiple of `size_multiple`.
    """

    size_offset = output_margin = 0

    @check_arguments
    def __init__(
        self,
        in_channels: Count,
        num_classes: Count,
        *,
        encoder: "Encoder",
        base_channels: Count | None = None,
        max_channels: Count = 512,
        normalization: Normalization = "batch",
        upsampling: Upsampling = "transposed",
        skips: Skips = "concat",
    ) -> None:
        super().__init__()
        self.upsampling: Upsampling = upsampling
        self.skips: Skips = skips
        strides, channels = encoder.strides, encoder.out_channels
        encoder.check_in_channels(in_channels)
        if any(coarse != 2 * fine for fine, coarse in itertools.pairwise(strides)):
            raise InvalidArgumentError(f"This encoder has maps of strides {strides}. U-Net needs strides that double.")
        pools = [m for m in encoder.modules() if isinstance(m, nn.MaxPool2d) and m.kernel_size == m.stride == 2]
        if self.upsampling == "switches" and len(pools) != len(strides) - 1:
            raise InvalidArgumentError(
                "upsampling='switches' needs an encoder with 2x2 max pooling after each map, such as vgg16. "
                "Choose another upsampling for this encoder."
            )
        if base_channels and (self.skips == "add" or self.upsampling == "switches"):
            choice = "skips='add'" if self.skips == "add" else "upsampling='switches'"
            raise InvalidArgumentError(
                f"{choice} needs as many channels as the encoder's maps. Leave base_channels out."
            )
        self.encoder = encoder
        self.size_multiple, self.finest_stride = strides[-1], strides[0]
        # Fine to coarse; the coarsest map is the encoder's.
        widths = [min(base_channels * 2**i, max_channels) if base_channels else c for i, c in enumerate(channels[:-1])]
        self.up = nn.ModuleList(
            Up(coarse, skip, "same", normalization, self.upsampling, self.skips, width)
            for coarse, skip, width in list(zip([*widths[1:], channels[-1]], channels, widths, strict=False))[::-1]
        )
        self.classify = nn.Conv2d(widths[0], num_classes * self.finest_stride**2, 1)
        initialize_he(self.up)
        initialize_he(self.classify)
        initialize_blocks_equally(self.classify, self.finest_stride)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits (B, K, H, W) for images (B, C, H, W)."""
        check_images(self, images, self.encoder.in_channels, self.size_multiple)
        maps, switches = self.encoder(images, with_switches=self.upsampling == "switches")
        x, skips = maps[-1], maps[-2::-1]
        for up, skip, level_switches in itertools.zip_longest(self.up, skips, switches[::-1]):
            x = up(x, level_switches, None if self.skips == "none" else skip)
        logits: Tensor = self.classify(x)
        return functional.pixel_shuffle(logits, self.finest_stride) if self.finest_stride > 1 else logits


def initialize_blocks_equally(layer: nn.Conv2d, side: int) -> None:
    """Give the pixels of each unfolded block equal weights, so that the first output has no checkerboard.

    Aitken et al., "Checkerboard artifact free sub-pixel convolution", 2017 (arXiv:1707.02937).
    """
    with torch.no_grad():
        layer.weight.copy_(layer.weight[:: side**2].repeat_interleave(side**2, dim=0))
