"""Ways from a small map to a large one that learn nothing: unpooling without switches, interpolation,
and the kernel with which a transposed convolution interpolates.

All keep the memory format of their input, take float64, float32, bfloat16 and float16, and are
differentiable as often as asked.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional

from pixelwise.errors import InvalidArgumentError, unknown_name
from pixelwise.ops.checks import check_map, memory_format_of
from pixelwise.shapes import Size, pair

InterpolationMode = Literal["nearest", "bilinear", "bicubic"]

# PyTorch's own "nearest" takes the pixel at floor(i · scale), half a pixel off the other two modes.
_TORCH_MODES: Mapping[str, str] = MappingProxyType(
    {"nearest": "nearest-exact", "bilinear": "bilinear", "bicubic": "bicubic"}
)

# Measured: PyTorch 2.15, 2 Zen 5 cores, factor 2, (8, 64, 120, 160), freed memory kept by the allocator;
# milliseconds forward, and forward with backward.
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
# On contiguous maps the stack is the slower one in that one case; at (2, 512, 23, 30) it takes 0.84 where
# interpolate takes 6.1. The gradient of cat is a view with gaps, which the layer before pays for.


def unpool_nearest(x: Tensor, factor: int | Size = 2) -> Tensor:
    """Each value repeated over its own block: the gradient of average pooling, up to a factor.

    Args:
        x: (B, C, H, W) floating point, contiguous or channels_last.
        factor: rows and columns of a block, at least 1; one number for both.

    Returns:
        (B, C, H · factor, W · factor) as `x`.

    Raises:
        InvalidArgumentError: not such a tensor or factor.
    """
    check_map("x", x)
    rows, columns = _check_factor(factor)
    if not x.is_cpu or memory_format_of(x) == torch.channels_last:
        return functional.interpolate(x, size=(x.shape[2] * rows, x.shape[3] * columns), mode="nearest")
    wide = torch.stack([x] * columns, dim=4).flatten(3)
    return torch.stack([wide] * rows, dim=3).flatten(2, 3)


def unpool_bed_of_nails(x: Tensor, factor: int | Size = 2) -> Tensor:
    """Each value at the top left of its block, zeros elsewhere: unpooling where no switches are known.

    Args:
        x: (B, C, H, W) floating point, contiguous or channels_last.
        factor: rows and columns of a block, at least 1; one number for both.

    Returns:
        (B, C, H · factor, W · factor) as `x`.

    Raises:
        InvalidArgumentError: not such a tensor or factor.
    """
    check_map("x", x)
    rows, columns = _check_factor(factor)
    if memory_format_of(x) == torch.channels_last:
        pixels = x.permute(0, 2, 3, 1)[:, :, None, :, None]
        blocks = functional.pad(pixels, (0, 0, 0, columns - 1, 0, 0, 0, rows - 1))
        return blocks.flatten(3, 4).flatten(1, 2).permute(0, 3, 1, 2)
    blocks = functional.pad(x[:, :, :, None, :, None], (0, columns - 1, 0, 0, 0, rows - 1))
    return blocks.flatten(4).flatten(2, 3)


def interpolate(x: Tensor, size: Size, mode: InterpolationMode = "bilinear") -> Tensor:
    """Resampled to `size`; pixels are squares and their values lie at the centers.

    Output pixel i lies at (i + 1/2) · H / height - 1/2 in rows of the input, in every mode, so that the
    corners of the images coincide and not the centers of the corner pixels (`align_corners=False`).
    Beyond the outermost centers the border is repeated.

    - "nearest": the pixel the center falls into.
    - "bilinear": the weighted mean of the 2x2 pixels around the center.
    - "bicubic": a weighted sum of 4x4 (Keys 1981, a = -0.75); it can leave the range of the input.

    No mode averages more when the map gets smaller. Bilinear still reads 2x2 pixels: at half the size
    that is the mean of each 2x2 block, at a quarter the mean of the middle 4 pixels of 16, the others
    unread. What is finer than the new pixels then shows up as false patterns (aliasing); pool first.

    Args:
        x: (B, C, H, W) floating point with H and W of at least 1.
        size: (height, width) of the result, at least 1.
        mode: as above.

    Returns:
        (B, C, height, width) as `x`.

    Raises:
        InvalidArgumentError: not such a tensor, size or mode.
    """
    check_map("x", x)
    if mode not in _TORCH_MODES:
        raise unknown_name("interpolation mode", mode, get_args(InterpolationMode))
    if min(size) < 1 or min(x.shape[2:]) < 1:
        raise InvalidArgumentError(
            f"cannot interpolate {x.shape[2]}x{x.shape[3]} to {size[0]}x{size[1]}: sides start at 1."
        )
    align_corners = None if mode == "nearest" else False
    return functional.interpolate(x, size, mode=_TORCH_MODES[mode], align_corners=align_corners)


def bilinear_kernel(kernel: int, *, dtype: torch.dtype = torch.float32, device: torch.device | None = None) -> Tensor:
    """The kernel with which a transposed convolution interpolates bilinearly (FCN, Long et al., CVPR 2015).

    A tent, (1 - |y - c| / f)(1 - |x - c| / f), with f = (k + 1) // 2 and its peak c in the middle: on a
    pixel for odd k, between two for even k. With stride s = f each phase of the output sums to 1, so
    that a constant map stays constant away from the border; the kernel itself sums to s². Only
    k = 2s with padding s / 2 keeps the corners of the images together, as `interpolate` does.

    Args:
        kernel: side k, at least 1.
        dtype, device: of the result.

    Returns:
        (k, k) in (0, 1]: `bilinear_kernel(4)` is the outer product of (.25, .75, .75, .25) with itself.

    Raises:
        InvalidArgumentError: a kernel below 1.
    """
    if kernel < 1:
        raise InvalidArgumentError(f"kernel is {kernel}, but a kernel has at least 1 row.")
    distance = (torch.arange(kernel, dtype=torch.float64, device=device) - (kernel - 1) / 2).abs()
    tent = 1 - distance / ((kernel + 1) // 2)
    return torch.outer(tent, tent).to(dtype)


def bilinear_weight(
    channels: int,
    kernel: int,
    *,
    groups: int = 1,
    dtype: torch.dtype = torch.float32,
    device: torch.device | None = None,
) -> Tensor:
    """Weight of a transposed convolution that interpolates each channel by itself.

    The kernel stands on the diagonal only. Written to all pairs of channels, as is often done, each
    output would be the sum over all classes.

    Args:
        channels: C, going in and coming out.
        kernel: side k of `bilinear_kernel`.
        groups: 1 as in FCN, which may learn to mix classes; C for the same map at C times less work.
        dtype, device: of the result.

    Returns:
        (C, C / groups, k, k).

    Raises:
        InvalidArgumentError: channels that cannot be divided into the groups.
    """
    if channels < 1 or groups < 1 or channels % groups:
        raise InvalidArgumentError(f"{channels} channels cannot be divided into {groups} groups.")
    group_channels = channels // groups
    weight = torch.zeros(channels, group_channels, kernel, kernel, dtype=dtype, device=device)
    every = torch.arange(channels, device=device)
    weight[every, every % group_channels] = bilinear_kernel(kernel, dtype=dtype, device=device)
    return weight


class UnpoolNearest(nn.Module):
    """`unpool_nearest` as a module."""

    def __init__(self, factor: int | Size = 2) -> None:
        super().__init__()
        self.factor = _check_factor(factor)

    def forward(self, x: Tensor) -> Tensor:
        return unpool_nearest(x, self.factor)


class UnpoolBedOfNails(nn.Module):
    """`unpool_bed_of_nails` as a module."""

    def __init__(self, factor: int | Size = 2) -> None:
        super().__init__()
        self.factor = _check_factor(factor)

    def forward(self, x: Tensor) -> Tensor:
        return unpool_bed_of_nails(x, self.factor)


class Interpolate(nn.Module):
    """`interpolate` as a module; the size comes with the map, as in `MaxUnpool`."""

    def __init__(self, mode: InterpolationMode = "bilinear") -> None:
        super().__init__()
        self.mode = mode

    def forward(self, x: Tensor, size: Size) -> Tensor:
        return interpolate(x, size, self.mode)


def _check_factor(factor: int | Size) -> Size:
    rows, columns = pair(factor)
    if min(rows, columns) < 1:
        raise InvalidArgumentError(f"factor is {factor}, but blocks have at least 1 row and 1 column.")
    return rows, columns
