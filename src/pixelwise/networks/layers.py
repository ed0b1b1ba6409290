"""What decoders have in common: how a small map grows, how a skip joins it, how weights start.

A decoder step doubles a map by one of five ways of upsampling and joins it with the encoder's map
of that size in one of three ways. The two choices are independent of each other and of the network.
"""

from typing import Literal, get_args

import torch
from torch import Tensor, nn

from pixelwise.errors import unknown_name
from pixelwise.ops.pooling import max_unpool
from pixelwise.ops.transposed_convolution import TransposedConv
from pixelwise.ops.upsampling import interpolate, unpool_bed_of_nails, unpool_nearest
from pixelwise.shapes import Size

Upsampling = Literal["switches", "nearest", "bed_of_nails", "bilinear", "transposed"]
"""SegNet's recorded positions; a value repeated 2x2; a value at the top left among zeros; bilinear
interpolation; a learned 2x2 transposed convolution with stride 2 (FCN, U-Net)."""

Skips = Literal["none", "add", "concat"]
"""What becomes of the encoder's map: unused (SegNet), added (FCN), or concatenated (U-Net)."""


def upsampling_layer(upsampling: Upsampling, in_channels: int, out_channels: int) -> nn.Module:
    """The learned part of an upsampling step, to be called before `upsample`.

    "transposed" doubles the map and changes its channels at once. All others change the channels by
    a 1x1 convolution, where they change: before growing, at a quarter of the cost, and so that
    switches meet as many channels as were pooled.
    """
    if upsampling not in get_args(Upsampling):
        raise unknown_name("upsampling", upsampling, get_args(Upsampling))
    if upsampling == "transposed":
        return TransposedConv(in_channels, out_channels, 2, stride=2)
    return nn.Identity() if in_channels == out_channels else nn.Conv2d(in_channels, out_channels, 1)


def upsample(x: Tensor, size: Size, upsampling: Upsampling, switches: Tensor | None) -> Tensor:
    """(B, C, h, w) from `upsampling_layer` → (B, C, *size), grown by exactly 2.

    Where ceil-mode pooling had an odd size, the surplus row or column is cut off at the bottom or
    right; nothing is ever resized to `size`, since a factor of 45/23 cannot be tiled.

    Args:
        size: (height, width) of the map that was pooled, each twice the pooled one or one less.
        switches: (B, C, h, w) uint8, from the pooling of that level; used by "switches" only.
    """
    match upsampling:
        case "switches":
            assert switches is not None
            return max_unpool(x, switches, size)
        case "nearest":
            x = unpool_nearest(x, 2)
        case "bed_of_nails":
            x = unpool_bed_of_nails(x, 2)
        case "bilinear":
            x = interpolate(x, (2 * x.shape[2], 2 * x.shape[3]), "bilinear")
        case "transposed":
            pass  # its layer has doubled it
    return x[:, :, : size[0], : size[1]]


def count_joined_channels(channels: int, skips: Skips) -> int:
    """Channels after `join` of two maps of `channels` each."""
    if skips not in get_args(Skips):
        raise unknown_name("skips", skips, get_args(Skips))
    return 2 * channels if skips == "concat" else channels


def join(x: Tensor, skip: Tensor | None, skips: Skips) -> Tensor:
    """The decoder's map (B, C, H, W) with the encoder's of the same shape, which "none" leaves out."""
    if skips == "none" or skip is None:
        return x
    return torch.cat([skip, x], dim=1) if skips == "concat" else skip + x


def initialize_he(network: nn.Module) -> None:
    """N(0, sqrt(2 / N)) with N = k k C_in for every convolution, biases zero (He et al., ICCV 2015)."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            # Each output pixel of a transposed 2x2 stride-2 convolution sees one input pixel.
            fan_in = module.weight[0].numel() if isinstance(module, nn.Conv2d) else module.in_channels
            nn.init.normal_(module.weight, std=(2 / fan_in) ** 0.5)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
