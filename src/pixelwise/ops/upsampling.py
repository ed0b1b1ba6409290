"""Upsampling without weights: unpooling without switches, interpolation, and bilinear kernels.

All operators keep the memory format of their input, take float64, float32, bfloat16 and float16, and have derivatives
of every order.
"""

from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional

from pixelwise.arguments import convert, describe_value
from pixelwise.errors import InvalidArgumentError
from pixelwise.shapes import Size
from pixelwise.tensors import DTYPES, check_int, check_map, check_pair, check_size, get_memory_format

InterpolationMode = Literal["nearest", "bilinear", "bicubic"]
_MODES = get_args(InterpolationMode)

# Measured with PyTorch 2.15 on 2 Zen 5 cores: factor 2, (8, 64, 120, 160), an allocator that keeps freed memory.
# Milliseconds forward, and forward with backward.
#
#                               contiguous             channels_last
#   nearest                     float32    bfloat16    float32    bfloat16
#   stack of copies             15   23    7.3   16    18    31   8.8   19
#   interpolate                 12   24     13   26    7.5   16   4.5   12
#   expand and reshape          14  119     26  238    7.5  175   5.9  194
#   bed of nails
#   pad each value to a block   13   26    8.8   19     10   14   4.9  7.7
#   zeros, strided assignment   13   36    8.9   24     10   51   5.0   27
#   cat with zeros              18   18     11   11     15   16   8.6  8.4
#
# The stack is slower on contiguous float32 maps only; at (2, 512, 23, 30) it takes 0.84 ms and interpolate 6.1 ms.
# The gradient of cat is a view with gaps, which slows the layer before.


def unpool_nearest(x: Tensor, kernel_size: int | Size = 2) -> Tensor:
    """Repeat each value over its own block of `kernel_size` pixels.

    Up to a factor, this is the gradient of average pooling. It is one of the upsamplings compared with switches in the
    SegNet paper (Badrinarayanan, Kendall, Cipolla, PAMI 2017, arXiv:1511.00561).

    Args:
        x: (B, C, H, W) floating point, contiguous or channels_last.
        kernel_size: Rows and columns k of a block in pixels, at least 1; one number for both.

    Returns:
        (B, C, H · k, W · k) in the dtype of `x`.

    Raises:
        InvalidArgumentError: `x` is not such a tensor, or `kernel_size` is below 1.

    Example:
        >>> import torch
        >>> from pixelwise.ops import unpool_nearest
        >>> unpool_nearest(torch.tensor([[[[1.0, 2.0]]]]))
        tensor([[[[1., 1., 2., 2.],
                  [1., 1., 2., 2.]]]])
    """
    check_map("x", x)
    rows, columns = check_pair("kernel_size", kernel_size)
    if not x.is_cpu or get_memory_format(x) == torch.channels_last:
        return functional.interpolate(x, size=(x.shape[2] * rows, x.shape[3] * columns), mode="nearest")
    wide = torch.stack([x] * columns, dim=4).flatten(3)
    return torch.stack([wide] * rows, dim=3).flatten(2, 3)


def unpool_bed_of_nails(x: Tensor, kernel_size: int | Size = 2) -> Tensor:
    """Write each value to the top left of its block and zeros elsewhere: unpooling without switches.

    Fixed positions instead of recorded ones: Dosovitskiy, Springenberg, Brox, "Learning to Generate Chairs with
    Convolutional Neural Networks", CVPR 2015 (arXiv:1411.5928).

    Args:
        x: (B, C, H, W) floating point, contiguous or channels_last.
        kernel_size: Rows and columns k of a block in pixels, at least 1; one number for both.

    Returns:
        (B, C, H · k, W · k) in the dtype of `x`.

    Raises:
        InvalidArgumentError: `x` is not such a tensor, or `kernel_size` is below 1.

    Example:
        >>> import torch
        >>> from pixelwise.ops import unpool_bed_of_nails
        >>> unpool_bed_of_nails(torch.tensor([[[[1.0, 2.0]]]]))
        tensor([[[[1., 0., 2., 0.],
                  [0., 0., 0., 0.]]]])
    """
    check_map("x", x)
    rows, columns = check_pair("kernel_size", kernel_size)
    if get_memory_format(x) == torch.channels_last:
        pixels = x.permute(0, 2, 3, 1)[:, :, None, :, None]
        blocks = functional.pad(pixels, (0, 0, 0, columns - 1, 0, 0, 0, rows - 1))
        return blocks.flatten(3, 4).flatten(1, 2).permute(0, 3, 1, 2)
    blocks = functional.pad(x[:, :, :, None, :, None], (0, columns - 1, 0, 0, 0, rows - 1))
    return blocks.flatten(4).flatten(2, 3)


def interpolate(x: Tensor, size: Size, mode: InterpolationMode = "bilinear") -> Tensor:
    """Resample a map to `size`, with half-pixel centers in every mode (`align_corners=False`).

    Output row i reads the input at row (i + 1/2) · H / height - 1/2, so the corners of the two maps coincide. The
    border is repeated beyond the outermost centers.

    - "nearest" reads the pixel that contains this point.
    - "bilinear" reads the weighted mean of the 2x2 pixels around it.
    - "bicubic" reads a weighted sum of 4x4 pixels (Keys, "Cubic Convolution Interpolation for Digital Image
      Processing", 1981, a = -0.75); it can exceed the range of the input.

    No mode averages more pixels for smaller outputs. At a quarter of the size, "bilinear" reads the middle 4 pixels of
    16, and details finer than the new pixels cause aliasing. Pool first in that case.

    Args:
        x: (B, C, H, W) floating point, with H and W of at least 1.
        size: (height, width) of the result in pixels, at least 1.
        mode: "nearest", "bilinear" or "bicubic".

    Returns:
        (B, C, height, width) in the dtype of `x`.

    Raises:
        InvalidArgumentError: `x` is not such a tensor, a side is below 1, or `mode` is unknown.

    Example:
        >>> import torch
        >>> from pixelwise.ops import interpolate
        >>> interpolate(torch.tensor([[[[0.0, 4.0]]]]), (1, 4))
        tensor([[[[0., 1., 3., 4.]]]])
    """
    check_map("x", x)
    size = check_size("size", size)
    if not isinstance(mode, str) or mode not in _MODES:
        mode = convert(mode, InterpolationMode, "mode")
    if min(x.shape[2:]) < 1:
        raise InvalidArgumentError(f"x is {describe_value(x)}, but must have at least one pixel to interpolate.")
    if mode == "nearest":  # PyTorch's own "nearest" reads floor(i · scale), half a pixel off the other two modes
        return functional.interpolate(x, size, mode="nearest-exact")
    return functional.interpolate(x, size, mode=mode, align_corners=False)


def bilinear_kernel(
    kernel_size: int | Size, *, dtype: torch.dtype = torch.float32, device: torch.device | None = None
) -> Tensor:
    """Return the kernel with which a transposed convolution interpolates bilinearly.

    FCN initializes its upsampling with it: Long, Shelhamer, Darrell, CVPR 2015. The kernel is
    (1 - |y - c| / f)(1 - |x - c| / f) with f = (k + 1) // 2 and its peak c in the middle: on a pixel for odd k, between
    two pixels for even k. With stride s = f each phase of the output sums to 1, so a constant map stays constant away
    from the border. Only k = 2s with padding s / 2 aligns the corners as `interpolate` does.

    Args:
        kernel_size: Side k in pixels, at least 1.
        dtype: Data type of the result.
        device: Device of the result.

    Returns:
        (k, k), or one side each for the height and the width, with values in (0, 1].

    Raises:
        InvalidArgumentError: `kernel_size` is below 1.

    Example:
        >>> from pixelwise.ops import bilinear_kernel
        >>> bilinear_kernel(3)
        tensor([[0.2500, 0.5000, 0.2500],
                [0.5000, 1.0000, 0.5000],
                [0.2500, 0.5000, 0.2500]])
    """
    _check_factory(dtype, device)
    tents = []
    for side in check_pair("kernel_size", kernel_size):
        distance = (torch.arange(side, dtype=torch.float64, device=device) - (side - 1) / 2).abs()
        tents.append(1 - distance / ((side + 1) // 2))
    return torch.outer(*tents).to(dtype)


def bilinear_weight(
    channels: int,
    kernel_size: int | Size,
    *,
    groups: int = 1,
    dtype: torch.dtype = torch.float32,
    device: torch.device | None = None,
) -> Tensor:
    """Return the weight of a transposed convolution that interpolates each channel separately.

    The kernel of `bilinear_kernel` is on the diagonal only, as in FCN (Long, Shelhamer, Darrell, CVPR 2015). With the
    kernel at all pairs of channels, each output would be the sum over all classes.

    Args:
        channels: C, the number of input and of output channels.
        kernel_size: Side k of the kernel in pixels; one number, or one for the height and one for the width.
        groups: 1 as in FCN, which can then learn to mix classes; C for the same map with C times fewer products.
        dtype: Data type of the result.
        device: Device of the result.

    Returns:
        (C, C / groups, k, k) with values in [0, 1].

    Raises:
        InvalidArgumentError: `groups` does not divide `channels`, or `kernel_size` is below 1.

    Example:
        >>> from pixelwise.ops import bilinear_weight
        >>> weight = bilinear_weight(21, 64)
        >>> weight.shape, weight[0, 1].abs().max().item()
        (torch.Size([21, 21, 64, 64]), 0.0)
    """
    check_int("channels", channels)
    check_int("groups", groups)
    _check_factory(dtype, device)
    if channels % groups:
        raise InvalidArgumentError(f"groups is {groups}, but must divide the {channels} channels.")
    group_channels = channels // groups
    kernel = bilinear_kernel(kernel_size, dtype=dtype, device=device)
    weight = torch.zeros(channels, group_channels, *kernel.shape, dtype=dtype, device=device)
    indices = torch.arange(channels, device=device)
    weight[indices, indices % group_channels] = kernel
    return weight


class _BlockUnpool(nn.Module):
    """A module that writes each value into a block of pixels."""

    def __init__(self, kernel_size: int | Size = 2) -> None:
        super().__init__()
        check_pair("kernel_size", kernel_size)
        self.kernel_size = kernel_size

    def extra_repr(self) -> str:
        return f"kernel_size={self.kernel_size}"


class UnpoolNearest(_BlockUnpool):
    """The module form of `unpool_nearest`.

    Args:
        kernel_size: Rows and columns k of a block in pixels, at least 1; one number for both.

    Returns:
        `forward(x)` takes (B, C, H, W) and returns (B, C, H · k, W · k).

    Raises:
        InvalidArgumentError: `kernel_size` is below 1.

    Example:
        >>> import torch
        >>> from pixelwise.ops import UnpoolNearest
        >>> UnpoolNearest(2)(torch.rand(1, 8, 23, 30)).shape
        torch.Size([1, 8, 46, 60])
    """

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, C, H, W) with each value repeated over its block."""
        return unpool_nearest(x, self.kernel_size)


class UnpoolBedOfNails(_BlockUnpool):
    """The module form of `unpool_bed_of_nails`.

    Args:
        kernel_size: Rows and columns k of a block in pixels, at least 1; one number for both.

    Returns:
        `forward(x)` takes (B, C, H, W) and returns (B, C, H · k, W · k).

    Raises:
        InvalidArgumentError: `kernel_size` is below 1.

    Example:
        >>> import torch
        >>> from pixelwise.ops import UnpoolBedOfNails
        >>> UnpoolBedOfNails(2)(torch.rand(1, 8, 23, 30)).shape
        torch.Size([1, 8, 46, 60])
    """

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, C, H, W) with each value at the top left of its block."""
        return unpool_bed_of_nails(x, self.kernel_size)


class Interpolate(nn.Module):
    """The module form of `interpolate`; the size is an argument of `forward`, as in `MaxUnpool`.

    Args:
        mode: "nearest", "bilinear" or "bicubic".

    Returns:
        `forward(x, size)` takes (B, C, H, W) and returns (B, C, height, width).

    Raises:
        InvalidArgumentError: The mode is unknown or, in `forward`, a side is below 1.

    Example:
        >>> import torch
        >>> from pixelwise.ops import Interpolate
        >>> Interpolate("bicubic")(torch.rand(1, 8, 23, 30), (45, 60)).shape
        torch.Size([1, 8, 45, 60])
    """

    def __init__(self, mode: InterpolationMode = "bilinear") -> None:
        super().__init__()
        self.mode: InterpolationMode = convert(mode, InterpolationMode, "mode")

    def forward(self, x: Tensor, size: Size) -> Tensor:
        """Return (B, C, H, W) resampled to `size`."""
        return interpolate(x, size, self.mode)

    def extra_repr(self) -> str:
        return f"mode={self.mode}"


def _check_factory(dtype: torch.dtype, device: torch.device | None) -> None:
    """Raise InvalidArgumentError unless a floating-point tensor can be made with these arguments."""
    if not isinstance(dtype, torch.dtype) or dtype not in DTYPES:
        raise InvalidArgumentError(f"dtype is {describe_value(dtype)}, but must be a floating-point torch.dtype.")
    if device is not None and not isinstance(device, torch.device):
        raise InvalidArgumentError(f"device is {describe_value(device)}, but must be a torch.device.")
