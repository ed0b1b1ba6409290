"""U-Net: Ronneberger, Fischer, Brox, "U-Net: Convolutional Networks for Biomedical Image
Segmentation", MICCAI 2015. Read from the bottom up: a block, a step down, a step up, the network.
"""

import itertools
import math
from typing import TYPE_CHECKING, Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional

from pixelwise.errors import InvalidArgumentError, unknown_name
from pixelwise.networks.layers import (
    Skips,
    Upsampling,
    count_joined_channels,
    initialize_he,
    join,
    upsample,
    upsampling_layer,
)
from pixelwise.ops import max_pool_with_switches
from pixelwise.shapes import Size, center_crop

if TYPE_CHECKING:  # whose import brings along all of torchvision and timm
    from pixelwise.networks.encoders import Encoder

Padding = Literal["valid", "same"]
Normalization = Literal["none", "batch", "group"]


class DoubleConv(nn.Sequential):
    """Two 3x3 convolutions, each with normalization and ReLU."""

    def __init__(self, in_channels: int, out_channels: int, padding: Padding, normalization: Normalization) -> None:
        layers: list[nn.Module] = []
        for channels in (in_channels, out_channels):
            # A bias before batch normalization would be subtracted again with the mean.
            bias = normalization != "batch"
            layers.append(nn.Conv2d(channels, out_channels, 3, padding=int(padding == "same"), bias=bias))
            layers += normalization_layer(normalization, out_channels)
            layers.append(nn.ReLU(inplace=True))
        super().__init__(*layers)


def normalization_layer(normalization: Normalization, channels: int) -> list[nn.Module]:
    match normalization:
        case "none":
            return []
        case "batch":
            return [nn.BatchNorm2d(channels)]
        case "group":
            # 32 groups as Wu and He (ECCV 2018) found best, of 2 channels or more: a group of one
            # channel on a map of one pixel has no std.
            groups = math.gcd(channels, 32)
            return [nn.GroupNorm(groups if groups < channels else max(groups // 2, 1), channels)]
        case _:
            raise unknown_name("normalization", normalization, get_args(Normalization))


class Down(nn.Module):
    """2x2 max pooling with stride 2, then a double convolution; and the switches of the pooling."""

    def __init__(self, in_channels: int, out_channels: int, padding: Padding, normalization: Normalization) -> None:
        super().__init__()
        self.block = DoubleConv(in_channels, out_channels, padding, normalization)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        pooled, switches = max_pool_with_switches(x, 2)
        return self.block(pooled), switches


class Up(nn.Module):
    """Transposed 2x2 convolution, concatenation with the cropped skip, then a double convolution.

    Or another `upsampling` and another use of the skip. Unpadded convolutions have cut a border off
    since the pooling, so its switches are cropped like the skip.
    """

    def __init__(
        self,
        in_channels: int,
        skip_channels: int,
        padding: Padding,
        normalization: Normalization,
        upsampling: Upsampling,
        skips: Skips,
    ) -> None:
        super().__init__()
        self.upsampling: Upsampling = upsampling
        self.skips: Skips = skips
        self.up = upsampling_layer(upsampling, in_channels, skip_channels)
        self.block = DoubleConv(count_joined_channels(skip_channels, skips), skip_channels, padding, normalization)

    def forward(self, x: Tensor, switches: Tensor | None, skip: Tensor | None) -> Tensor:
        height, width = x.shape[2:]
        size = (2 * height, 2 * width)
        switches = None if switches is None else crop(switches, (height, width))
        x = upsample(self.up(x), size, self.upsampling, switches)
        skip = None if skip is None else crop(skip, size)
        return self.block(join(x, skip, self.skips))  # type: ignore[no-any-return]


def crop(x: Tensor, size: Size) -> Tensor:
    """The middle of (B, C, H, W)."""
    rows, columns = center_crop((x.shape[2], x.shape[3]), size)
    return x[:, :, rows, columns]


class UNet(nn.Module):
    """The contracting path, the expanding path, and the skips between them.

    The defaults are the paper's network: 23 convolutions, none padded, so that 572 x 572 pixels
    give 388 x 388 logits; `UNet(1, 2)` has 31,030,658 parameters.

    Args:
        in_channels: C of the images.
        num_classes: K of the logits.
        base_channels: channels of the finest level, doubled at each level down to at most `max_channels`.
        depth: number of poolings.
        padding: "valid" loses a border at each convolution, as in the paper; "same" keeps the size.
        normalization: "none" as in the paper, or "batch" or "group" after each convolution.
        upsampling: how the expanding path doubles its maps.
        skips: what the expanding path does with the maps of the contracting path.
        stem_stride: with 2 or 4, blocks of that many pixels squared become the channels of one, and
            the last layer unfolds them again; the network between is as fast as on an image that
            much smaller, without losing pixels. Needs padding "same". (Pixel shuffle: Shi et al.,
            CVPR 2016.)

    Input (B, C, H, W) floating point, output (B, K, H', W'). With "same", H and W must be multiples
    of `size_multiple`, and H' = H. With "valid", each pooled size must be even.
    """

    def __init__(
        self,
        in_channels: int,
        num_classes: int,
        *,
        base_channels: int = 64,
        depth: int = 4,
        max_channels: int = 1024,
        padding: Padding = "valid",
        normalization: Normalization = "none",
        upsampling: Upsampling = "transposed",
        skips: Skips = "concat",
        stem_stride: int = 1,
    ) -> None:
        super().__init__()
        if stem_stride > 1 and padding == "valid":
            raise InvalidArgumentError("stem_stride above 1 needs padding='same'.")
        channels = [min(base_channels * 2**level, max_channels) for level in range(depth + 1)]
        self.padding = padding
        self.skips: Skips = skips
        self.stem_stride = stem_stride
        self.size_multiple = stem_stride * 2**depth
        self.first = DoubleConv(in_channels * stem_stride**2, channels[0], padding, normalization)
        pairs = list(itertools.pairwise(channels))
        self.down = nn.ModuleList(Down(fine, coarse, padding, normalization) for fine, coarse in pairs)
        self.up = nn.ModuleList(
            Up(coarse, fine, padding, normalization, upsampling, skips) for fine, coarse in pairs[::-1]
        )
        self.classify = nn.Conv2d(channels[0], num_classes * stem_stride**2, 1)
        initialize_he(self)
        initialize_blocks_equally(self.classify, stem_stride)

    def forward(self, images: Tensor) -> Tensor:
        self._check_size(images.shape[2], images.shape[3])
        x = self.first(functional.pixel_unshuffle(images, self.stem_stride))
        levels = []
        for down in self.down:
            skip = None if self.skips == "none" else x
            x, switches = down(x)
            levels.append((switches, skip))
        for up, (switches, skip) in zip(self.up, reversed(levels), strict=True):
            x = up(x, switches, skip)
        return functional.pixel_shuffle(self.classify(x), self.stem_stride)

    @property
    def size_offset(self) -> int:
        """Legal sides are this and multiples of `size_multiple`: 60 in the paper."""
        # From the bottom up: m pixels pooled from 2 m, which two convolutions left of 2 m + 4, ...
        return 0 if self.padding == "same" else 4 * (2 ** len(self.down) - 1)

    @property
    def output_margin(self) -> int:
        """Rows, and columns, by which the output is smaller than the input: 184 in the paper."""
        levels = 2 ** len(self.down)
        return 0 if self.padding == "same" else 4 * levels + 8 * (levels - 1)

    def _check_size(self, height: int, width: int) -> None:
        if self.padding == "same":
            require_multiples((height, width), self.size_multiple)
            return
        levels, offset = self.size_multiple, self.size_offset
        if any((side - offset) % levels or (side - offset) // levels < 8 for side in (height, width)):
            raise InvalidArgumentError(
                f"this unpadded U-Net takes sides of {levels}m+{offset} with m of at least 8 "
                f"({8 * levels + offset}, {9 * levels + offset}, ...), not {height}x{width}."
            )


class EncoderUNet(nn.Module):
    """The expanding path on the maps of any encoder, in place of the contracting path.

    Each step up halves the stride and ends with as many channels as the encoder's map there. What is
    left of the stride at the finest map (2 for ResNet, 4 for ConvNeXt) is unfolded by the last layer,
    as after `stem_stride`.

    Args:
        in_channels: C of the images, as the encoder has it.
        num_classes: K of the logits.
        encoder: gives the maps, see `encoders.py`; their strides double.
        normalization: of the expanding path, "none", "batch" or "group".
        upsampling: how it doubles its maps; "switches" needs an encoder of 2x2 max poolings (VGG).
        skips: what it does with the encoder's maps.

    Input (B, C, H, W) floating point, sides multiples of `size_multiple`; output (B, K, H, W).

    Raises:
        InvalidArgumentError: parts that do not fit together.
    """

    size_offset = output_margin = 0

    def __init__(
        self,
        in_channels: int,
        num_classes: int,
        *,
        encoder: "Encoder",
        normalization: Normalization = "batch",
        upsampling: Upsampling = "transposed",
        skips: Skips = "concat",
    ) -> None:
        super().__init__()
        strides, channels = encoder.strides, encoder.out_channels
        if encoder.in_channels != in_channels:
            raise InvalidArgumentError(
                f"the encoder takes {encoder.in_channels} channels, the images have {in_channels}."
            )
        if any(coarse != 2 * fine for fine, coarse in itertools.pairwise(strides)):
            raise InvalidArgumentError(f"this encoder has maps of strides {strides}; U-Net needs strides that double.")
        pools = [m for m in encoder.modules() if isinstance(m, nn.MaxPool2d) and m.kernel_size == m.stride == 2]
        if upsampling == "switches" and len(pools) != len(strides) - 1:
            raise InvalidArgumentError(
                "upsampling='switches' needs an encoder whose maps all end in 2x2 max pooling, such as vgg16; "
                "choose another upsampling for this one."
            )
        self.encoder = encoder
        self.upsampling, self.skips = upsampling, skips
        self.size_multiple, self.finest = strides[-1], strides[0]
        self.up = nn.ModuleList(
            Up(coarse, fine, "same", normalization, upsampling, skips)
            for fine, coarse in list(itertools.pairwise(channels))[::-1]
        )
        self.classify = nn.Conv2d(channels[0], num_classes * self.finest**2, 1)
        initialize_he(self.up)
        initialize_he(self.classify)
        initialize_blocks_equally(self.classify, self.finest)

    def forward(self, images: Tensor) -> Tensor:
        require_multiples((images.shape[2], images.shape[3]), self.size_multiple)
        maps, switches = self.encoder(images, with_switches=self.upsampling == "switches")
        x, skips = maps[-1], maps[-2::-1]
        for up, skip, places in itertools.zip_longest(self.up, skips, switches[::-1]):
            x = up(x, places, None if self.skips == "none" else skip)
        return functional.pixel_shuffle(self.classify(x), self.finest)


def require_multiples(size: Size, multiple: int) -> None:
    """InvalidArgumentError for sides that a padded U-Net cannot halve as often as it has to."""
    height, width = size
    if height % multiple or width % multiple:
        raise InvalidArgumentError(
            f"this U-Net takes sides that are multiples of {multiple}, not {height}x{width}; "
            "wrap it in Segmenter, which pads and crops."
        )


def initialize_blocks_equally(layer: nn.Conv2d, side: int) -> None:
    """The pixels of one block start alike, so that unfolding draws no checkerboard (Aitken et al.,
    "Checkerboard artifact free sub-pixel convolution", 2017).
    """
    with torch.no_grad():
        layer.weight.copy_(layer.weight[:: side**2].repeat_interleave(side**2, dim=0))
