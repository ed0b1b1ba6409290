"""Max pooling that records the position of each maximum, and the unpooling that restores the positions.

SegNet is built on this pair: Badrinarayanan, Kendall, Cipolla, "SegNet: A Deep Convolutional Encoder-Decoder
Architecture for Image Segmentation", PAMI 2017 (arXiv:1511.00561), section 3.1. A *switch* is the position of the
maximum inside its window, dy · kernel_size + dx, stored in one byte. It does not depend on the width of the map, and
two bits are enough for a 2x2 window.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from pixelwise.arguments import describe_value
from pixelwise.errors import InvalidArgumentError
from pixelwise.ops.kernels import registration
from pixelwise.shapes import Size, compute_pooled_size, compute_unpooled_sides
from pixelwise.tensors import (
    can_read_values,
    check_int,
    check_map,
    check_pair,
    check_size,
    check_tensor,
    get_memory_format,
)

_MAX_POSITIONS = 256
"""A switch is one byte."""


class Windows(NamedTuple):
    """Checked windows of a pooling, as (height, width) pairs."""

    kernel_size: Size
    stride: Size
    padding: Size = (0, 0)
    dilation: Size = (1, 1)

    @property
    def have_kernels(self) -> bool:
        """Return whether the compiled kernels pool them: squares up to 15x15, side by side."""
        side = self.kernel_size[0]
        return 2 <= side <= 15 and self == Windows((side, side), (side, side))


def max_pool_with_switches(
    x: Tensor,
    kernel_size: int | Size = 2,
    stride: int | Size | None = None,
    padding: int | Size = 0,
    dilation: int | Size = 1,
    ceil_mode: bool = False,
    *,
    out: tuple[Tensor, Tensor] | None = None,
) -> tuple[Tensor, Tensor]:
    """Pool windows to their maxima and record the position of each maximum.

    The arguments are those of `torch.nn.functional.max_pool2d`, and the maxima are the same. The first of equal maxima
    wins, in row-major order. A NaN wins its window; of several, the last one wins. The operator is differentiable in
    `x`. For square windows side by side, as in SegNet, it stores only the switches for the backward pass and runs in
    compiled kernels; other windows take PyTorch's operator.

    Args:
        x: (B, C, H, W) floating point, contiguous or channels_last. The results have the same memory format.
        kernel_size: Side of the windows in pixels, with at most 256 positions in a window.
        stride: Distance of the windows in pixels; None: `kernel_size`.
        padding: Rows and columns around the map that never win, at most half of a window.
        dilation: Distance of the pixels of a window.
        ceil_mode: False drops the last rows and columns where they do not fill a window; True pools them in smaller
            windows (SegNet: 45 → 23 → 12).
        out: Tensors to write instead of new ones, with the shape and dtype of the results. Not differentiable.

    Returns:
        The maxima (B, C, H', W') in the dtype of `x`, and the switches (B, C, H', W') uint8. A switch is
        dy · width + dx for the pixel in row dy and column dx of a window of that width, also in a smaller window.

    Raises:
        InvalidArgumentError: An argument is invalid, or `x` has no whole window and `ceil_mode` is False.

    Example:
        >>> import torch
        >>> from pixelwise.ops import max_pool_with_switches
        >>> x = torch.tensor([[[[1.0, 5.0, 0.0, 2.0], [3.0, 2.0, 9.0, 4.0]]]])
        >>> max_pool_with_switches(x)
        (tensor([[[[5., 9.]]]]), tensor([[[[1, 2]]]], dtype=torch.uint8))
    """
    check_map("x", x)
    windows = _check_windows(kernel_size, stride, padding, dilation, ceil_mode)
    size = _compute_pooled_size((x.shape[2], x.shape[3]), windows, ceil_mode)
    if min(size) < 1:
        shape = "x".join(map(str, windows.kernel_size))
        raise InvalidArgumentError(
            f"x of {x.shape[2]}x{x.shape[3]} has no whole {shape} window. Use ceil_mode=True to pool smaller ones."
        )
    kernel = windows.kernel_size[0]
    if out is None:
        if windows.have_kernels:
            return registration.max_pool(x, kernel, ceil_mode)
        pooled, indices = functional.max_pool2d(x, *windows, ceil_mode, return_indices=True)
        return pooled, _to_switches(indices, x.shape[3], windows)
    if not isinstance(out, tuple | list) or len(out) != 2:
        raise InvalidArgumentError(f"out is {describe_value(out)}, but must be the two tensors of the result.")
    pooled, switches = out
    _check_out(pooled, x, size, x.dtype)
    _check_out(switches, x, size, torch.uint8)
    if windows.have_kernels:
        torch.ops.pixelwise.max_pool_with_switches.out(x, kernel, ceil_mode, pooled=pooled, switches=switches)
    else:
        for target, result in zip(out, max_pool_with_switches(x, *windows, ceil_mode), strict=True):
            target.copy_(result)
    return pooled, switches


def max_unpool(
    pooled: Tensor,
    switches: Tensor,
    size: Size,
    kernel_size: int | Size = 2,
    stride: int | Size | None = None,
    padding: int | Size = 0,
    dilation: int | Size = 1,
    *,
    out: Tensor | None = None,
) -> Tensor:
    """Write each value to the position of its switch and zeros everywhere else.

    This is the partial inverse of `max_pool_with_switches`, and it is differentiable in `pooled`. The windows must be
    those of the pooling. Where overlapping windows have the same maximum, one of their values stays, as in
    `torch.nn.functional.max_unpool2d`. On the CPU, a switch outside its window or outside the map is an error. Other
    devices do not check it, because a check would have to wait for the device.

    Args:
        pooled: (B, C, H', W') floating point. The result has the same memory format.
        switches: (B, C, H', W') uint8 from `max_pool_with_switches`, in any memory format.
        size: (height, width) of the result, which is the size of the map that was pooled.
        kernel_size: As in `max_pool_with_switches`.
        stride: As in `max_pool_with_switches`.
        padding: As in `max_pool_with_switches`.
        dilation: As in `max_pool_with_switches`.
        out: Tensor to write instead of a new one, with the shape and dtype of the result. Not differentiable.

    Returns:
        (B, C, height, width) in the dtype of `pooled`.

    Raises:
        InvalidArgumentError: The tensors do not match, `size` cannot have been pooled to H' x W', or, on the CPU, a
            switch is out of range.

    Example:
        >>> import torch
        >>> from pixelwise.ops import max_unpool
        >>> pooled = torch.tensor([[[[5.0, 9.0]]]])
        >>> switches = torch.tensor([[[[1, 2]]]], dtype=torch.uint8)
        >>> max_unpool(pooled, switches, (2, 4))
        tensor([[[[0., 5., 0., 0.],
                  [0., 0., 9., 0.]]]])
    """
    check_map("pooled", pooled)
    windows = _check_windows(kernel_size, stride, padding, dilation)
    size = check_size("size", size)
    if isinstance(switches, Tensor) and switches.dtype == torch.int64:
        raise InvalidArgumentError(
            f"switches is {describe_value(switches)}, but must be uint8 positions inside the windows from "
            "max_pool_with_switches. The flat indices of torch's max_pool2d cannot be used."
        )
    check_tensor("switches", switches, "(B, C, H, W)", (torch.uint8,))
    if switches.shape != pooled.shape or switches.device != pooled.device:
        raise InvalidArgumentError(
            f"switches is {describe_value(switches)}, but must match pooled {describe_value(pooled)}: "
            "it comes from another pooling."
        )
    if not torch.compiler.is_exporting():  # sides are symbols there, and a check would limit the image size
        _check_sides(size, pooled, windows)
    kernel = windows.kernel_size[0]
    if out is not None:
        _check_out(out, pooled, size, pooled.dtype)
        if windows.have_kernels:
            torch.ops.pixelwise.max_unpool.out(pooled, switches, size, kernel, full=out)
            return out
        return out.copy_(max_unpool(pooled, switches, size, *windows))
    if windows.have_kernels:
        return registration.unpool(pooled, switches, size, kernel)
    indices = _to_indices(switches, size, windows).flatten(2)
    flat = pooled.new_zeros(*pooled.shape[:2], size[0] * size[1]).scatter(2, indices, pooled.flatten(2))
    full = flat.view(*pooled.shape[:2], *size)
    return full.contiguous(memory_format=get_memory_format(pooled))


def pack_switches(switches: Tensor) -> Tensor:
    """Pack the switches of 2x2 windows at 2 bits each, four channels in one byte.

    The SegNet paper counts "2 bits for each 2x2 pooling window". All five poolings of SegNet at 360x480 then take
    1.32 MB; the int64 indices of PyTorch take 42.3 MB.

    Args:
        switches: (B, C, H', W') uint8 in [0, 3].

    Returns:
        (B, ceil(C / 4), H', W') uint8. Bits 0 and 1 hold channel 4c, bits 2 and 3 hold channel 4c + 1, and so on.

    Raises:
        InvalidArgumentError: `switches` is not a uint8 tensor with four dimensions or, on the CPU, has a value above 3.

    Example:
        >>> import torch
        >>> from pixelwise.ops import pack_switches
        >>> switches = torch.tensor([1, 2, 3, 0, 3], dtype=torch.uint8).view(1, 5, 1, 1)
        >>> pack_switches(switches).flatten()  # 1 + 2·4 + 3·16 + 0·64, and 3
        tensor([57,  3], dtype=torch.uint8)
    """
    check_tensor("switches", switches, "(B, C, H, W)", (torch.uint8,))
    if can_read_values(switches) and switches.numel() and switches.max() > 3:
        raise InvalidArgumentError(f"switches has values up to {int(switches.max())}, but they must be 0 to 3.")
    four = nn.functional.pad(switches, (0, 0, 0, 0, 0, -switches.shape[1] % 4))
    return four[:, 0::4] | four[:, 1::4] << 2 | four[:, 2::4] << 4 | four[:, 3::4] << 6


def unpack_switches(packed: Tensor, num_channels: int) -> Tensor:
    """Restore the switches that `pack_switches` packed.

    Args:
        packed: (B, ceil(C / 4), H', W') uint8.
        num_channels: C.

    Returns:
        (B, C, H', W') uint8 in [0, 3], in the memory format of `packed`.

    Raises:
        InvalidArgumentError: `packed` is not a uint8 tensor with four dimensions, or C switches do not take as many
            bytes as it has channels.

    Example:
        >>> import torch
        >>> from pixelwise.ops import unpack_switches
        >>> packed = torch.tensor([57, 3], dtype=torch.uint8).view(1, 2, 1, 1)
        >>> unpack_switches(packed, 5).flatten()
        tensor([1, 2, 3, 0, 3], dtype=torch.uint8)
    """
    check_tensor("packed", packed, "(B, C, H, W)", (torch.uint8,))
    check_int("num_channels", num_channels, 0)
    if packed.shape[1] != -(-num_channels // 4):
        raise InvalidArgumentError(
            f"num_channels is {num_channels}, but packed {describe_value(packed)} has {packed.shape[1]} channels, "
            f"which must hold {max(4 * packed.shape[1] - 3, 0)} to {4 * packed.shape[1]} channels of switches."
        )
    shifts = torch.arange(0, 8, 2, dtype=torch.uint8, device=packed.device).view(1, 1, 4, 1, 1)
    switches = (packed.unsqueeze(2) >> shifts & 3).flatten(1, 2)[:, :num_channels]
    return switches.contiguous(memory_format=get_memory_format(packed))


class MaxPoolWithSwitches(nn.Module):
    """The module form of `max_pool_with_switches`.

    Args:
        kernel_size: As in `max_pool_with_switches`.
        stride: As in `max_pool_with_switches`.
        padding: As in `max_pool_with_switches`.
        dilation: As in `max_pool_with_switches`.
        ceil_mode: Whether incomplete windows at the bottom and right are pooled, too.

    Returns:
        `forward(x)` takes (B, C, H, W) and returns the maxima and the switches (B, C, H', W').

    Raises:
        InvalidArgumentError: An argument is invalid.

    Example:
        >>> import torch
        >>> from pixelwise.ops import MaxPoolWithSwitches
        >>> pooled, switches = MaxPoolWithSwitches(ceil_mode=True)(torch.rand(1, 8, 45, 60))
        >>> pooled.shape, switches.dtype
        (torch.Size([1, 8, 23, 30]), torch.uint8)
    """

    def __init__(
        self,
        kernel_size: int | Size = 2,
        stride: int | Size | None = None,
        padding: int | Size = 0,
        dilation: int | Size = 1,
        ceil_mode: bool = False,
    ) -> None:
        super().__init__()
        _check_windows(kernel_size, stride, padding, dilation, ceil_mode)
        self.kernel_size, self.stride = kernel_size, kernel_size if stride is None else stride
        self.padding, self.dilation, self.ceil_mode = padding, dilation, ceil_mode

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the maxima and the switches of (B, C, H, W)."""
        return max_pool_with_switches(x, self.kernel_size, self.stride, self.padding, self.dilation, self.ceil_mode)

    def extra_repr(self) -> str:
        return _describe_windows(self, "kernel_size", "stride", "padding", "dilation", "ceil_mode")


class MaxUnpool(nn.Module):
    """The module form of `max_unpool`.

    Args:
        kernel_size: As in `max_pool_with_switches`.
        stride: As in `max_pool_with_switches`.
        padding: As in `max_pool_with_switches`.
        dilation: As in `max_pool_with_switches`.

    Returns:
        `forward(pooled, switches, size)` returns (B, C, height, width).

    Raises:
        InvalidArgumentError: An argument is invalid.

    Example:
        >>> import torch
        >>> from pixelwise.ops import MaxPoolWithSwitches, MaxUnpool
        >>> x = torch.rand(1, 8, 45, 60)
        >>> pooled, switches = MaxPoolWithSwitches(ceil_mode=True)(x)
        >>> MaxUnpool()(pooled, switches, (45, 60)).shape
        torch.Size([1, 8, 45, 60])
    """

    def __init__(
        self,
        kernel_size: int | Size = 2,
        stride: int | Size | None = None,
        padding: int | Size = 0,
        dilation: int | Size = 1,
    ) -> None:
        super().__init__()
        _check_windows(kernel_size, stride, padding, dilation)
        self.kernel_size, self.stride = kernel_size, kernel_size if stride is None else stride
        self.padding, self.dilation = padding, dilation

    def forward(self, pooled: Tensor, switches: Tensor, size: Size) -> Tensor:
        """Return (B, C, height, width) with each value of `pooled` at its switch."""
        return max_unpool(pooled, switches, size, self.kernel_size, self.stride, self.padding, self.dilation)

    def extra_repr(self) -> str:
        return _describe_windows(self, "kernel_size", "stride", "padding", "dilation")


def _describe_windows(module: nn.Module, *names: str) -> str:
    return ", ".join(f"{name}={getattr(module, name)}" for name in names)


def _check_windows(
    kernel_size: int | Size,
    stride: int | Size | None,
    padding: int | Size,
    dilation: int | Size,
    ceil_mode: bool = False,
) -> Windows:
    kernel = check_pair("kernel_size", kernel_size)
    if kernel[0] * kernel[1] > _MAX_POSITIONS:
        raise InvalidArgumentError(
            f"kernel_size is {kernel_size}, but a window must have at most {_MAX_POSITIONS} positions, such as 16x16."
        )
    windows = Windows(
        kernel_size=kernel,
        stride=kernel if stride is None else check_pair("stride", stride),
        padding=check_pair("padding", padding, 0),
        dilation=check_pair("dilation", dilation),
    )
    for side, added, spread in zip(kernel, windows.padding, windows.dilation, strict=True):
        if added > (spread * (side - 1) + 1) // 2:
            raise InvalidArgumentError(
                f"padding is {padding}, but must be at most half of a window of {spread * (side - 1) + 1} pixels."
            )
    if not isinstance(ceil_mode, bool):
        raise InvalidArgumentError(f"ceil_mode is {describe_value(ceil_mode)}, but must be True or False.")
    return windows


def _compute_pooled_size(size: Size, windows: Windows, ceil_mode: bool) -> Size:
    """Return the size after pooling: that of a convolution, with one more window at the end in ceil mode."""
    if windows.have_kernels:
        return compute_pooled_size(size, windows.kernel_size[0], ceil_mode)
    return _count_windows(size[0], windows, 0, ceil_mode), _count_windows(size[1], windows, 1, ceil_mode)


def _count_windows(side: int, windows: Windows, axis: int, ceil_mode: bool) -> int:
    kernel, stride, padding, dilation = (pair[axis] for pair in windows)
    added = stride - 1 if ceil_mode else 0
    count = (side + 2 * padding - dilation * (kernel - 1) - 1 + added) // stride + 1
    starts_outside = ceil_mode and (count - 1) * stride >= side + padding
    return count - 1 if starts_outside else count


def _locate_windows(windows: Windows, size: Size, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return the first row of each window of a map of `size` windows, and the first column."""
    top, left = (
        torch.arange(count, device=device) * stride - padding
        for count, stride, padding in zip(size, windows.stride, windows.padding, strict=True)
    )
    return top[:, None], left


def _to_switches(indices: Tensor, width: int, windows: Windows) -> Tensor:
    """Return the switches of PyTorch's indices into the flat map."""
    top, left = _locate_windows(windows, (indices.shape[2], indices.shape[3]), indices.device)
    dy = (indices // width - top) // windows.dilation[0]
    dx = (indices % width - left) // windows.dilation[1]
    return (dy * windows.kernel_size[1] + dx).byte()


def _to_indices(switches: Tensor, size: Size, windows: Windows) -> Tensor:
    """Return the indices into the flat map of switches, the inverse of `_to_switches`."""
    top, left = _locate_windows(windows, (switches.shape[2], switches.shape[3]), switches.device)
    dy, dx = switches // windows.kernel_size[1], switches % windows.kernel_size[1]
    row, column = top + dy.long() * windows.dilation[0], left + dx.long() * windows.dilation[1]
    outside = (dy >= windows.kernel_size[0]) | (row < 0) | (row >= size[0]) | (column < 0) | (column >= size[1])
    if can_read_values(switches) and outside.any():
        shape = "x".join(map(str, windows.kernel_size))
        raise InvalidArgumentError(
            f"switches point outside their {shape} windows or outside the {size[0]}x{size[1]} map: "
            "they were not recorded by max_pool_with_switches with these windows on a map of this size."
        )
    return (row * size[1] + column).clamp(0, size[0] * size[1] - 1)


def _check_sides(size: Size, pooled: Tensor, windows: Windows) -> None:
    """Raise InvalidArgumentError unless a map of `size` can have been pooled to the size of `pooled`."""
    for axis, (name, side, count) in enumerate(zip(("height", "width"), size, pooled.shape[2:], strict=True)):
        kernel = windows.kernel_size[axis]
        if windows.have_kernels:
            legal = compute_unpooled_sides(count, kernel)
            if legal.start <= side < legal.stop:  # torch.compile cannot look up a symbolic side in a range
                continue
            hint = f"It must be {legal[0]} to {legal[-1]}"
        else:
            counts = [_count_windows(side, windows, axis, ceil_mode) for ceil_mode in (False, True)]
            if count in counts:
                continue
            hint = f"They pool it to {counts[0]}"
        raise InvalidArgumentError(
            f"The {name} of size {tuple(size)} cannot have been pooled to {count} by windows of {kernel}. {hint}."
        )


def _check_out(out: Tensor, like: Tensor, size: Size, dtype: torch.dtype) -> None:
    """Raise InvalidArgumentError unless the result for the input `like` can be written to `out`."""
    shape = (*like.shape[:2], *size)
    memory_format = get_memory_format(like)
    fits = isinstance(out, Tensor) and out.shape == shape and out.dtype == dtype and out.device == like.device
    if not fits or not out.is_contiguous(memory_format=memory_format):
        layout = str(memory_format).removeprefix("torch.")
        raise InvalidArgumentError(
            f"out is {describe_value(out)}, but must be {shape} {dtype} on {like.device}, dense and {layout}."
        )
    if torch.is_grad_enabled() and (like.requires_grad or out.requires_grad):
        raise InvalidArgumentError("out= cannot be differentiated. Leave it out, or call under torch.no_grad().")
