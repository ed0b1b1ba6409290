"""The pooling kernels in plain PyTorch, for any device: what the compiled ones are tested against,
and what runs where none of them is there. All tensors come checked, dense and in one memory format.
"""

import torch
from torch import Tensor
from torch.nn import functional


def max_pool(full: Tensor, kernel: int, pooled: Tensor, switches: Tensor) -> None:
    """(B, C, H, W) → maxima and their places dy · kernel + dx, both (B, C, H', W')."""
    full = _whole_windows(full, pooled, kernel, -torch.inf)
    best = _at(full, 0, kernel)
    places = torch.zeros_like(best, dtype=torch.uint8)
    for place in range(1, kernel**2):
        candidate = _at(full, place, kernel)
        # Strictly greater: the first of equal maxima wins. The last NaN wins over all.
        wins = (candidate > best) | candidate.isnan()
        best = torch.where(wins, candidate, best)
        places = torch.where(wins, place, places)
    pooled.copy_(best)
    switches.copy_(places)


def max_unpool(pooled: Tensor, switches: Tensor, kernel: int, full: Tensor) -> bool:
    """Zeros, and each value at its switch. On CPU, whether a switch led out of its window or map."""
    rows, columns = (side * kernel for side in pooled.shape[2:])
    whole = pooled.new_zeros(()).expand(*pooled.shape[:2], rows, columns).clone()
    for place in range(kernel**2):
        _at(whole, place, kernel).copy_(torch.where(switches == place, pooled, 0))
    height, width = full.shape[2:]
    full.copy_(functional.pad(whole, (0, width - columns, 0, height - rows)))
    return _astray(full, switches, kernel)


def take(full: Tensor, switches: Tensor, kernel: int, pooled: Tensor) -> bool:
    """The values of (B, C, H, W) at the switches. Returns as `max_unpool` does."""
    whole = _whole_windows(full, pooled, kernel, 0)
    taken = torch.zeros_like(pooled)
    for place in range(kernel**2):
        taken = torch.where(switches == place, _at(whole, place, kernel), taken)
    pooled.copy_(taken)
    return _astray(full, switches, kernel)


def _at(full: Tensor, place: int, kernel: int) -> Tensor:
    """One element of each window."""
    return full[:, :, place // kernel :: kernel, place % kernel :: kernel]


def _whole_windows(full: Tensor, pooled: Tensor, kernel: int, value: float) -> Tensor:
    """Cut or padded with `value` to windows that all are kernel x kernel."""
    rows, columns = (side * kernel for side in pooled.shape[2:])
    height, width = full.shape[2:]
    return functional.pad(full, (0, columns - width, 0, rows - height), value=value)


def _astray(full: Tensor, switches: Tensor, kernel: int) -> bool:
    """Asked on the CPU alone: on another device the answer would have to be waited for."""
    if switches.device.type != "cpu":
        return False
    dy, dx = switches // kernel, switches % kernel
    rows = torch.arange(switches.shape[2]).view(-1, 1) * kernel + dy
    columns = torch.arange(switches.shape[3]) * kernel + dx
    height, width = full.shape[2:]
    return bool(((dy >= kernel) | (rows >= height) | (columns >= width)).any())
