"""Max pooling that records the position of each maximum, and the unpooling that restores the positions.

SegNet is built on this pair: Badrinarayanan, Kendall, Cipolla, "SegNet: A Deep Convolutional Encoder-Decoder
Architecture for Image Segmentation", PAMI 2017 (arXiv:1511.00561), section 3.1. A *switch* is the position of the
maximum inside its window, dy · kernel_size + dx, stored in one byte. It does not depend on the width of the map, and
two bits are enough for a 2x2 window.
"""

import torch
from torch import Tensor, nn

from pixelwise.arguments import describe_value
from pixelwise.errors import InvalidArgumentError
from pixelwise.ops.kernels import registration
from pixelwise.shapes import Size, compute_pooled_size, compute_unpooled_sides
from pixelwise.tensors import can_read_values, check_int, check_map, check_size, check_tensor, get_memory_format

_MAX_KERNEL_SIZE = 15
"""A byte can number the positions of windows up to 15x15."""


def max_pool_with_switches(
    x: Tensor, kernel_size: int = 2, ceil_mode: bool = False, *, out: tuple[Tensor, Tensor] | None = None
) -> tuple[Tensor, Tensor]:
    """Pool non-overlapping windows to their maxima and record the position of each maximum.

    The first of equal maxima wins, in row-major order. A NaN wins its window; of several, the last one wins. The
    operator is differentiable in `x`, and only the switches are stored for the backward pass.

    Args:
        x: (B, C, H, W) floating point, contiguous or channels_last. The results have the same memory format.
        kernel_size: Side and stride of the windows in pixels, 2 to 15.
        ceil_mode: False drops the last rows and columns where they do not fill a window; True pools them in smaller
            windows (SegNet: 45 → 23 → 12).
        out: Tensors to write instead of new ones, with the shape and dtype of the results. Not differentiable.

    Returns:
        The maxima (B, C, H', W') in the dtype of `x`, and the switches (B, C, H', W') uint8 in [0, kernel_size²).
        A switch is dy · kernel_size + dx, also in a smaller window. H' is H / kernel_size, rounded down or up.

    Raises:
        InvalidArgumentError: `x`, `kernel_size` or `out` is invalid, or a side is shorter than `kernel_size` and
            `ceil_mode` is False.

    Example:
        >>> import torch
        >>> from pixelwise.ops import max_pool_with_switches
        >>> x = torch.tensor([[[[1.0, 5.0, 0.0, 2.0], [3.0, 2.0, 9.0, 4.0]]]])
        >>> max_pool_with_switches(x)
        (tensor([[[[5., 9.]]]]), tensor([[[[1, 2]]]], dtype=torch.uint8))
    """
    check_map("x", x)
    _check_pooling(kernel_size, ceil_mode)
    size = compute_pooled_size((x.shape[2], x.shape[3]), kernel_size, ceil_mode)
    if min(size) < 1:
        raise InvalidArgumentError(
            f"x of {x.shape[2]}x{x.shape[3]} has no whole {kernel_size}x{kernel_size} window. "
            "Use ceil_mode=True to pool smaller ones."
        )
    if out is None:
        return registration.max_pool(x, kernel_size, ceil_mode)
    if not isinstance(out, tuple | list) or len(out) != 2:
        raise InvalidArgumentError(f"out is {describe_value(out)}, but must be the two tensors of the result.")
    pooled, switches = out
    _check_out(pooled, x, size, x.dtype)
    _check_out(switches, x, size, torch.uint8)
    torch.ops.pixelwise.max_pool_with_switches.out(x, kernel_size, ceil_mode, pooled=pooled, switches=switches)
    return pooled, switches


def max_unpool(
    pooled: Tensor, switches: Tensor, size: Size, kernel_size: int = 2, *, out: Tensor | None = None
) -> Tensor:
    """Write each value to the position of its switch and zeros everywhere else.

    This is the partial inverse of `max_pool_with_switches`, and it is differentiable in `pooled`. On the CPU, a switch
    outside its window or outside the map is an error. Other devices drop its value, because a check would have to wait
    for the device.

    Args:
        pooled: (B, C, H', W') floating point. The result has the same memory format.
        switches: (B, C, H', W') uint8 from `max_pool_with_switches`, in any memory format.
        size: (height, width) of the result, which is the size of the map that was pooled. The height must satisfy
            (H' - 1) · kernel_size < height < (H' + 1) · kernel_size; the width likewise.
        kernel_size: Side of the windows in pixels, 2 to 15.
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
    _check_kernel_size(kernel_size)
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
        _check_sides(size, pooled, kernel_size)
    if out is None:
        return registration.unpool(pooled, switches, size, kernel_size)
    _check_out(out, pooled, size, pooled.dtype)
    torch.ops.pixelwise.max_unpool.out(pooled, switches, size, kernel_size, full=out)
    return out


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
        kernel_size: Side and stride of the windows in pixels, 2 to 15.
        ceil_mode: Whether incomplete windows at the bottom and right are pooled, too.

    Returns:
        `forward(x)` takes (B, C, H, W) and returns the maxima and the switches (B, C, H', W').

    Raises:
        InvalidArgumentError: `kernel_size` is not in 2 to 15.

    Example:
        >>> import torch
        >>> from pixelwise.ops import MaxPoolWithSwitches
        >>> pooled, switches = MaxPoolWithSwitches(ceil_mode=True)(torch.rand(1, 8, 45, 60))
        >>> pooled.shape, switches.dtype
        (torch.Size([1, 8, 23, 30]), torch.uint8)
    """

    def __init__(self, kernel_size: int = 2, ceil_mode: bool = False) -> None:
        super().__init__()
        _check_pooling(kernel_size, ceil_mode)
        self.kernel_size, self.ceil_mode = kernel_size, ceil_mode

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the maxima and the switches of (B, C, H, W)."""
        return max_pool_with_switches(x, self.kernel_size, self.ceil_mode)

    def extra_repr(self) -> str:
        return f"kernel_size={self.kernel_size}, ceil_mode={self.ceil_mode}"


class MaxUnpool(nn.Module):
    """The module form of `max_unpool`.

    Args:
        kernel_size: Side of the windows in pixels, 2 to 15.

    Returns:
        `forward(pooled, switches, size)` returns (B, C, height, width).

    Raises:
        InvalidArgumentError: `kernel_size` is not in 2 to 15.

    Example:
        >>> import torch
        >>> from pixelwise.ops import MaxPoolWithSwitches, MaxUnpool
        >>> x = torch.rand(1, 8, 45, 60)
        >>> pooled, switches = MaxPoolWithSwitches(ceil_mode=True)(x)
        >>> MaxUnpool()(pooled, switches, (45, 60)).shape
        torch.Size([1, 8, 45, 60])
    """

    def __init__(self, kernel_size: int = 2) -> None:
        super().__init__()
        _check_kernel_size(kernel_size)
        self.kernel_size = kernel_size

    def forward(self, pooled: Tensor, switches: Tensor, size: Size) -> Tensor:
        """Return (B, C, height, width) with each value of `pooled` at its switch."""
        return max_unpool(pooled, switches, size, self.kernel_size)

    def extra_repr(self) -> str:
        return f"kernel_size={self.kernel_size}"


def _check_kernel_size(kernel_size: int) -> None:
    check_int("kernel_size", kernel_size, 2, _MAX_KERNEL_SIZE)


def _check_pooling(kernel_size: int, ceil_mode: bool) -> None:
    _check_kernel_size(kernel_size)
    if not isinstance(ceil_mode, bool):
        raise InvalidArgumentError(f"ceil_mode is {describe_value(ceil_mode)}, but must be True or False.")


def _check_sides(size: Size, pooled: Tensor, kernel_size: int) -> None:
    """Raise InvalidArgumentError unless a map of `size` can have been pooled to the size of `pooled`."""
    for name, side, windows in zip(("height", "width"), size, pooled.shape[2:], strict=True):
        legal = compute_unpooled_sides(windows, kernel_size)
        if not legal.start <= side < legal.stop:  # torch.compile cannot look up a symbolic side in a range
            raise InvalidArgumentError(
                f"The {name} of size {tuple(size)} cannot have been pooled to {windows} by windows of {kernel_size}. "
                f"It must be {legal[0]} to {legal[-1]}."
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
