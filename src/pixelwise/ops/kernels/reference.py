"""The pooling kernels in plain PyTorch, for any device.

The compiled kernels are tested against them, and they run where no compiled kernels are available. All tensors are
checked, dense and in one memory format.
"""

import torch
from torch import Tensor
from torch.nn import functional


def max_pool(full: Tensor, kernel: int, pooled: Tensor, switches: Tensor) -> None:
    """Write the maxima of (B, C, H, W) and their positions dy · kernel + dx, both (B, C, H', W')."""
    full = _fit_whole_windows(full, pooled, kernel, -torch.inf)
    best = _select_position(full, 0, kernel)
    positions = torch.zeros_like(best, dtype=torch.uint8)
    for position in range(1, kernel**2):
        candidate = _select_position(full, position, kernel)
        # Strictly greater, so the first of equal maxima wins. The last NaN wins over all values.
        wins = (candidate > best) | candidate.isnan()
        best = torch.where(wins, candidate, best)
        positions = torch.where(wins, position, positions)
    pooled.copy_(best)
    switches.copy_(positions)


def max_unpool(pooled: Tensor, switches: Tensor, kernel: int, full: Tensor) -> bool:
    """Write each value to its switch and zeros elsewhere; return, on the CPU, whether a switch was out of range."""
    rows, columns = (side * kernel for side in pooled.shape[2:])
    whole = pooled.new_zeros(()).expand(*pooled.shape[:2], rows, columns).clone()
    for position in range(kernel**2):
        _select_position(whole, position, kernel).copy_(torch.where(switches == position, pooled, 0))
    height, width = full.shape[2:]
    full.copy_(functional.pad(whole, (0, width - columns, 0, height - rows)))
    return _has_invalid_switch(full, switches, kernel)


def take(full: Tensor, switches: Tensor, kernel: int, pooled: Tensor) -> bool:
    """Write the values of (B, C, H, W) at the switches; return, on the CPU, whether a switch was out of range."""
    whole = _fit_whole_windows(full, pooled, kernel, 0)
    values = torch.zeros_like(pooled)
    for position in range(kernel**2):
        values = torch.where(switches == position, _select_position(whole, position, kernel), values)
    pooled.copy_(values)
    return _has_invalid_switch(full, switches, kernel)


def _select_position(full: Tensor, position: int, kernel: int) -> Tensor:
    """Return one element of each window."""
    return full[:, :, position // kernel :: kernel, position % kernel :: kernel]


def _fit_whole_windows(full: Tensor, pooled: Tensor, kernel: int, value: float) -> Tensor:
    """Crop or pad with `value` so that all windows are kernel x kernel."""
    rows, columns = (side * kernel for side in pooled.shape[2:])
    height, width = full.shape[2:]
    return functional.pad(full, (0, columns - width, 0, rows - height), value=value)


def _has_invalid_switch(full: Tensor, switches: Tensor, kernel: int) -> bool:
    """Return whether a switch is outside its window or map; False without a check on devices other than the CPU."""
    if switches.device.type != "cpu":
        return False
    dy, dx = switches // kernel, switches % kernel
    rows = torch.arange(switches.shape[2]).view(-1, 1) * kernel + dy
    columns = torch.arange(switches.shape[3]) * kernel + dx
    height, width = full.shape[2:]
    return bool(((dy >= kernel) | (rows >= height) | (columns >= width)).any())
