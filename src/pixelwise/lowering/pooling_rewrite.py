"""Pooling with switches, and its inverse, in operators that every runtime has.

A pooling, slices, comparisons and a reshape; no index into a whole plane, which runtimes gather and scatter by on
one core. The values are those of `ops/pooling.py`, but for NaN.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode

import pixelwise.ops.pooling  # noqa: F401 registers torch.ops.pixelwise
from pixelwise.shapes import Size, compute_pooled_size


def max_pool(x: Tensor, kernel: int, ceil_mode: bool) -> tuple[Tensor, Tensor]:
    """(B, C, H, W) → maxima, and their places dy · kernel + dx in uint8, both (B, C, H', W')."""
    batch, channels, height, width = x.shape
    rows, columns = compute_pooled_size((height, width), kernel, ceil_mode)
    # Beside the search for places, of which nothing is left in the graph of a network that has no use for them.
    maxima = functional.max_pool2d(x, kernel, ceil_mode=ceil_mode)
    if ceil_mode:
        x = functional.pad(x, (0, columns * kernel - width, 0, rows * kernel - height), value=-torch.inf)
    windows = x[:, :, : rows * kernel, : columns * kernel].reshape(batch, channels, rows, kernel, columns, kernel)
    best = windows[:, :, :, 0, :, 0]
    places = torch.zeros_like(best, dtype=torch.uint8)
    for place in range(1, kernel**2):
        candidate = windows[:, :, :, place // kernel, :, place % kernel]
        # Strictly greater: the first of equal maxima wins.
        places = torch.where(candidate > best, torch.full_like(places, place), places)
        best = torch.maximum(best, candidate)
    return maxima, places


def max_unpool(pooled: Tensor, switches: Tensor, size: Size, kernel: int) -> Tensor:
    """Zeros, and each value at its switch: (B, C, *size)."""
    batch, channels, rows, columns = pooled.shape
    zeros = torch.zeros_like(pooled)
    places = [torch.where(switches == place, pooled, zeros) for place in range(kernel**2)]
    lines = [torch.stack(places[dy * kernel : (dy + 1) * kernel], dim=4) for dy in range(kernel)]
    full = torch.stack(lines, dim=3).reshape(batch, channels, rows * kernel, columns * kernel)
    # Ceil mode has pooled up to kernel - 1 rows more than there are, floor mode as many less.
    return functional.pad(full, (0, size[1] - columns * kernel, 0, size[0] - rows * kernel))


class StandardPooling(TorchFunctionMode):
    """Within it, the operators of this package are computed, and so recorded, as standard ones."""

    forms: Mapping[Any, Callable[..., Any]] = {
        torch.ops.pixelwise.max_pool_with_switches: max_pool,
        torch.ops.pixelwise.max_unpool: max_unpool,
    }

    def __torch_function__(
        self, func: Any, types: Sequence[type], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        return self.forms.get(func, func)(*args, **(kwargs or {}))
