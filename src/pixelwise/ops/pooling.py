"""Max pooling that records where each maximum was, and the unpooling that puts values back there.

The pair that SegNet is built on: Badrinarayanan, Kendall, Cipolla, "SegNet: A Deep Convolutional
Encoder-Decoder Architecture for Image Segmentation", PAMI 2017 (arXiv:1511.00561), section 3.1. A
*switch* is the place of the maximum inside its own window, dy · kernel + dx, in one byte: it needs
no knowledge of the map's width, and two bits are enough for a 2x2 window.
"""

import torch
from torch import Tensor, nn

import pixelwise.ops.kernels.registration  # noqa: F401 registers torch.ops.pixelwise
from pixelwise.errors import InvalidArgumentError
from pixelwise.ops.checks import check_map, describe, memory_format_of
from pixelwise.shapes import Size, compute_pooled_size, compute_unpooled_sides

_KERNELS = range(2, 16)  # the places of a 15x15 window are the last to fit a byte


def max_pool_with_switches(
    x: Tensor,
    kernel: int = 2,
    ceil_mode: bool = False,
    *,
    out: tuple[Tensor, Tensor] | None = None,
) -> tuple[Tensor, Tensor]:
    """Maxima of windows that do not overlap, and where in their windows they were.

    The first of equal maxima wins, in row-major order; a NaN wins its window, the last one if there
    are several. Differentiable in `x`; only the switches are kept for the backward pass.

    Args:
        x: (B, C, H, W) floating point, contiguous or channels_last; the results keep its format.
        kernel: side of the windows and stride, 2 to 15.
        ceil_mode: False leaves the last rows and columns out where they fill no window, True pools
            them in clipped windows (SegNet: 45 → 23 → 12).
        out: tensors to write instead of new ones, as the results are; not differentiable.

    Returns:
        pooled (B, C, H', W') as `x`, and switches (B, C, H', W') uint8 in [0, kernel²): place
        dy · kernel + dx, also in a clipped window. H' is H / kernel rounded down, or up.

    Raises:
        InvalidArgumentError: not such a tensor, kernel or `out`, or a side shorter than `kernel` in floor mode.
    """
    check_map("x", x)
    _check_kernel(kernel)
    size = compute_pooled_size((x.shape[2], x.shape[3]), kernel, ceil_mode)
    if min(size) < 1:
        raise InvalidArgumentError(
            f"x of {x.shape[2]}x{x.shape[3]} has no whole {kernel}x{kernel} window; "
            "use ceil_mode=True to pool clipped ones."
        )
    if out is None:
        return torch.ops.pixelwise.max_pool_with_switches(x, kernel, ceil_mode)  # type: ignore[no-any-return]
    pooled, switches = out
    _check_out(pooled, x, size, x.dtype, (x,))
    _check_out(switches, x, size, torch.uint8, (x,))
    torch.ops.pixelwise.max_pool_with_switches.out(x, kernel, ceil_mode, pooled=pooled, switches=switches)
    return pooled, switches


def max_unpool(pooled: Tensor, switches: Tensor, size: Size, kernel: int = 2, *, out: Tensor | None = None) -> Tensor:
    """Each value back at its own place, zeros everywhere else: the partial inverse of the pooling.

    Differentiable in `pooled`. On the CPU switches that lead out of their windows or out of the map
    are an error; on other devices their values are dropped, as nothing is waited for there.

    Args:
        pooled: (B, C, H', W') floating point; its memory format is the result's.
        switches: (B, C, H', W') uint8, as `max_pool_with_switches` gives them; any memory format.
        size: (height, width) of the result, which is the size of the map that was pooled. Legal are
            (H' - 1) · kernel < height < (H' + 1) · kernel, and the same for the width.
        kernel: side of the windows, 2 to 15.
        out: tensor to write instead of a new one, as the result is; not differentiable.

    Returns:
        (B, C, height, width) as `pooled`.

    Raises:
        InvalidArgumentError: tensors that do not belong together, a size these switches cannot come from,
            or switches that lead astray.
    """
    check_map("pooled", pooled)
    _check_kernel(kernel)
    if switches.dtype != torch.uint8:
        raise InvalidArgumentError(
            f"switches are {switches.dtype}, but must be uint8 places inside the windows, as "
            "max_pool_with_switches gives them; the flat indices of torch's max_pool2d are something else."
        )
    if switches.shape != pooled.shape or switches.device != pooled.device:
        raise InvalidArgumentError(
            f"switches {describe(switches)} do not belong to pooled {describe(pooled)}: they are of another pooling."
        )
    if not torch.compiler.is_exporting():  # where sides are symbols, and a condition on them is one on the image
        _check_sides(size, pooled, kernel)
    if out is None:
        return torch.ops.pixelwise.max_unpool(pooled, switches, size, kernel)  # type: ignore[no-any-return]
    _check_out(out, pooled, size, pooled.dtype, (pooled,))
    torch.ops.pixelwise.max_unpool.out(pooled, switches, size, kernel, full=out)
    return out


def pack_switches(switches: Tensor) -> Tensor:
    """Switches of 2x2 windows at 2 bits each, a quarter of their bytes: four channels in one byte.

    The SegNet paper's "2 bits for each 2x2 pooling window": 1.32 MB for all five poolings of SegNet
    at 360x480, where PyTorch's int64 indices take 42.3 MB.

    Args:
        switches: (B, C, H', W') uint8 in [0, 4).

    Returns:
        (B, ceil(C / 4), H', W') uint8: bits 0 and 1 hold channel 4c, bits 2 and 3 channel 4c + 1, ...

    Raises:
        InvalidArgumentError: not uint8, not four-dimensional, or, on the CPU, a switch above 3.
    """
    _check_switches(switches)
    if switches.is_cpu and not torch.compiler.is_compiling() and switches.numel() and switches.max() > 3:
        raise InvalidArgumentError(f"switches up to {int(switches.max())} are not of 2x2 windows: 2 bits hold 0 to 3.")
    four = nn.functional.pad(switches, (0, 0, 0, 0, 0, -switches.shape[1] % 4))
    return four[:, 0::4] | four[:, 1::4] << 2 | four[:, 2::4] << 4 | four[:, 3::4] << 6


def unpack_switches(packed: Tensor, num_channels: int) -> Tensor:
    """The inverse of `pack_switches`.

    Args:
        packed: (B, ceil(C / 4), H', W') uint8.
        num_channels: C.

    Returns:
        (B, C, H', W') uint8 in [0, 4), in the memory format of `packed`.

    Raises:
        InvalidArgumentError: not uint8, not four-dimensional, or a C that was not packed into as many bytes.
    """
    _check_switches(packed)
    if packed.shape[1] != -(-num_channels // 4):
        raise InvalidArgumentError(
            f"{packed.shape[1]} packed channels hold {4 * packed.shape[1] - 3} to {4 * packed.shape[1]} "
            f"channels of switches, not {num_channels}."
        )
    shifts = torch.arange(0, 8, 2, dtype=torch.uint8, device=packed.device).view(1, 1, 4, 1, 1)
    memory_format = memory_format_of(packed)
    switches = (packed.unsqueeze(2) >> shifts & 3).flatten(1, 2)[:, :num_channels]
    return switches.contiguous(memory_format=memory_format)


class MaxPoolWithSwitches(nn.Module):
    """`max_pool_with_switches` as a module."""

    def __init__(self, kernel: int = 2, ceil_mode: bool = False) -> None:
        super().__init__()
        _check_kernel(kernel)
        self.kernel, self.ceil_mode = kernel, ceil_mode

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return max_pool_with_switches(x, self.kernel, self.ceil_mode)


class MaxUnpool(nn.Module):
    """`max_unpool` as a module."""

    def __init__(self, kernel: int = 2) -> None:
        super().__init__()
        _check_kernel(kernel)
        self.kernel = kernel

    def forward(self, pooled: Tensor, switches: Tensor, size: Size) -> Tensor:
        return max_unpool(pooled, switches, size, self.kernel)


def _check_kernel(kernel: int) -> None:
    if kernel not in _KERNELS:
        raise InvalidArgumentError(f"kernel is {kernel!r}, but must be a whole number from 2 to 15.")


def _check_sides(size: Size, pooled: Tensor, kernel: int) -> None:
    """That a map of this size can have been pooled to that of `pooled`."""
    for name, side, windows in zip(("height", "width"), size, pooled.shape[2:], strict=True):
        legal = compute_unpooled_sides(windows, kernel)
        if not legal.start <= side < legal.stop:  # torch.compile cannot look up a side that is a symbol
            raise InvalidArgumentError(
                f"{name} {side} cannot have been pooled to {windows} by windows of {kernel}: legal are "
                f"{legal[0]} to {legal[-1]}."
            )


def _check_switches(switches: Tensor) -> None:
    if switches.dim() != 4 or switches.dtype != torch.uint8:
        raise InvalidArgumentError(f"switches are {describe(switches)}, but must be (B, C, H, W) in uint8.")


def _check_out(out: Tensor, like: Tensor, size: Size, dtype: torch.dtype, inputs: tuple[Tensor, ...]) -> None:
    """That `out` can be written in place of the result."""
    shape = (*like.shape[:2], *size)
    memory_format = memory_format_of(like)
    fits = out.shape == shape and out.dtype == dtype and out.device == like.device
    if not fits or not out.is_contiguous(memory_format=memory_format):
        layout = str(memory_format).removeprefix("torch.")
        raise InvalidArgumentError(
            f"out is {describe(out)}, but must be {shape} {dtype} on {like.device}, dense and {layout}."
        )
    if torch.is_grad_enabled() and any(tensor.requires_grad for tensor in (*inputs, out)):
        raise InvalidArgumentError("out= cannot be differentiated; leave it out, or call under torch.no_grad().")
