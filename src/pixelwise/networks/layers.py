"""Building blocks of all decoders: upsampling, skip connections, initialization, and the check of image sizes.

A decoder step doubles a map with one of five upsamplings, and joins it with the encoder's map of the same size in one
of three ways. The two choices are independent of each other and of the network.
"""

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from pixelwise.arguments import describe_value
from pixelwise.errors import InvalidArgumentError
from pixelwise.ops.pooling import MaxUnpool
from pixelwise.ops.transposed_convolution import TransposedConv
from pixelwise.ops.upsampling import Interpolate, UnpoolBedOfNails, UnpoolNearest
from pixelwise.shapes import Size, round_up
from pixelwise.tensors import INTEGER_DTYPES, check_map

Upsampling = Literal["switches", "nearest", "bed_of_nails", "bilinear", "transposed"]
"""Unpooling to recorded positions (SegNet), repetition of each value, a value among zeros, bilinear interpolation, or a
learned 2x2 transposed convolution with stride 2 (FCN, U-Net)."""

Skips = Literal["none", "add", "concat"]
"""The use of the encoder's map: none (SegNet), addition (FCN), or concatenation (U-Net)."""


def build_upsampling(upsampling: Upsampling, in_channels: int, out_channels: int) -> nn.Module:
    """Return the learned layer of an upsampling step, which runs before that of `build_unpooling`.

    "transposed" doubles the map and changes its channels. The others change channels, if necessary, by a 1x1
    convolution. It runs before upsampling, at a quarter of the cost, and so switches meet as many channels as were
    pooled.
    """
    if upsampling == "transposed":
        return TransposedConv(in_channels, out_channels, 2, stride=2)
    return nn.Identity() if in_channels == out_channels else nn.Conv2d(in_channels, out_channels, 1)


def build_unpooling(upsampling: Upsampling) -> nn.Module:
    """Return the layer without weights that doubles a map; an identity for "transposed", which has doubled it."""
    match upsampling:
        case "switches":
            return MaxUnpool(2)
        case "nearest":
            return UnpoolNearest(2)
        case "bed_of_nails":
            return UnpoolBedOfNails(2)
        case "bilinear":
            return Interpolate("bilinear")
        case "transposed":
            return nn.Identity()


def upsample(x: Tensor, size: Size, unpool: nn.Module, switches: Tensor | None) -> Tensor:
    """Upsample (B, C, h, w) from `build_upsampling` by exactly 2, and crop to (B, C, *size).

    Where ceil-mode pooling had an odd size, one row or column is cropped at the bottom or right. Maps are never resized
    to `size`, because a factor of 45/23 cannot be tiled.

    Args:
        x: (B, C, h, w).
        size: (height, width) of the map that was pooled; each is twice the pooled side or one less.
        unpool: The layer of `build_unpooling`.
        switches: (B, C, h, w) uint8 of the pooling at this level; used by `MaxUnpool` only.
    """
    if isinstance(unpool, MaxUnpool):
        return unpool(x, switches, size)  # type: ignore[no-any-return]
    double = ((2 * x.shape[2], 2 * x.shape[3]),) if isinstance(unpool, Interpolate) else ()
    x = unpool(x, *double)
    return x[:, :, : size[0], : size[1]]


def count_joined_channels(channels: int, skip_channels: int, skips: Skips) -> int:
    """Return the channels after `join_skip` of a map with `channels` and one of the encoder with `skip_channels`."""
    return channels + skip_channels if skips == "concat" else channels


def join_skip(x: Tensor, skip: Tensor | None, skips: Skips) -> Tensor:
    """Join the decoder's map (B, C, H, W) with the encoder's map of the same size; "add" needs the same channels."""
    if skips == "none" or skip is None:
        return x
    return torch.cat([skip, x], dim=1) if skips == "concat" else skip + x


def initialize_he(network: nn.Module) -> None:
    """Draw the weights of all convolutions from N(0, sqrt(2 / N)) with N = k k C_in, and set biases to 0.

    He, Zhang, Ren, Sun, "Delving Deep into Rectifiers", ICCV 2015.
    """
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            # Each output pixel of a transposed 2x2 convolution with stride 2 sees one input pixel.
            fan_in = module.weight[0].numel() if isinstance(module, nn.Conv2d) else module.in_channels
            nn.init.normal_(module.weight, std=(2 / fan_in) ** 0.5)
            if module.bias is not None:
                nn.init.zeros_(module.bias)


class WidenedConv2d(nn.Conv2d):
    """A convolution that computes at least 16 output channels in bfloat16 training on a CPU, and returns its own.

    oneDNN 3.12, in PyTorch 2.14, overwrites foreign memory on processors with AMX in the backward pass of bfloat16
    convolutions with more than 2,048 input and fewer than 16 output channels. Every FCN on VGG16 with few classes has
    one. The additional channels have zero weights, so neither the result nor a gradient changes.
    """

    def _conv_forward(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        is_bf16 = torch.bfloat16 in (input.dtype, torch.is_autocast_enabled("cpu") and torch.get_autocast_dtype("cpu"))
        if not (input.is_cpu and is_bf16 and torch.is_grad_enabled()):
            return super()._conv_forward(input, weight, bias)  # type: ignore[no-any-return]
        missing = _MIN_SAFE_OUTPUTS - self.out_channels
        weight = functional.pad(weight, (0, 0, 0, 0, 0, 0, 0, missing))
        bias = None if bias is None else functional.pad(bias, (0, missing))
        widened: Tensor = super()._conv_forward(input, weight, bias)
        return widened[:, : self.out_channels]


_MAX_SAFE_INPUTS, _MIN_SAFE_OUTPUTS = 2048, 16


def widen_convolutions(network: nn.Module) -> None:
    """Turn the convolutions of a network that need it into `WidenedConv2d`; parameters and their names stay."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d) and type(module) is nn.Conv2d and module.groups == 1:
            is_unsafe = module.in_channels > _MAX_SAFE_INPUTS and module.out_channels < _MIN_SAFE_OUTPUTS
            module.__class__ = WidenedConv2d if is_unsafe else nn.Conv2d


def check_images(network: nn.Module, images: Tensor, in_channels: int, multiple: int = 1) -> None:
    """Raise InvalidArgumentError unless `network` takes these images: (B, in_channels, H, W) floats of a legal size."""
    if isinstance(images, Tensor) and images.dtype in INTEGER_DTYPES:
        raise InvalidArgumentError(
            f"images is {describe_value(images)}, but must be floating point. Use images.float(), or wrap the network "
            "in Segmenter, which normalizes raw images."
        )
    check_map("images", images)
    if images.shape[1] != in_channels:
        raise InvalidArgumentError(
            f"images is {describe_value(images)}, but must be (B, {in_channels}, H, W): this {type(network).__name__} "
            f"has in_channels={in_channels}."
        )
    if not torch.compiler.is_compiling() and images.device != (device := next(network.parameters()).device):
        raise InvalidArgumentError(f"images is on {images.device}, but must be on {device}, as the network.")
    height, width = images.shape[2:]
    if height % multiple or width % multiple:
        legal = f"{round_up(height, multiple)}x{round_up(width, multiple)}"
        raise InvalidArgumentError(
            f"This {type(network).__name__} takes images whose height and width are multiples of {multiple}, such as "
            f"{legal}, not {height}x{width}. Pad them, or wrap the network in Segmenter, which pads and crops."
        )
