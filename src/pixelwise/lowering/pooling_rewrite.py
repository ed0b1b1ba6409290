"""Max pooling with switches, and unpooling, in operators that every runtime has.

They use pooling, slices, comparisons and a reshape. Indices into a whole plane are avoided, because runtimes gather and
scatter on one core. The values equal those of `ops/pooling.py`, except for NaN.
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
    """Pool (B, C, H, W) to maxima and switches dy · kernel + dx in uint8, both (B, C, H', W')."""
    batch, channels, height, width = x.shape
    rows, columns = compute_pooled_size((height, width), kernel, ceil_mode)
    # Separate from the search for switches, which a graph drops if its network does not use them.
    maxima = functional.max_pool2d(x, kernel, ceil_mode=ceil_mode)
    if ceil_mode:
        x = functional.pad(x, (0, columns * kernel - width, 0, rows * kernel - height), value=-torch.inf)
    windows = x[:, :, : rows * kernel, : columns * kernel].reshape(batch, channels, rows, kernel, columns, kernel)
    best = windows[:, :, :, 0, :, 0]
    switches = torch.zeros_like(best, dtype=torch.uint8)
    for switch in range(1, kernel**2):
        candidate = windows[:, :, :, switch // kernel, :, switch % kernel]
        # Strictly greater: the first of equal maxima wins.
        switches = torch.where(candidate > best, torch.full_like(switches, switch), switches)
        best = torch.maximum(best, candidate)
    return maxima, switches


def max_unpool(pooled: Tensor, switches: Tensor, size: Size, kernel: int) -> Tensor:
    """Place each value at its switch in zeros (B, C, *size)."""
    batch, channels, rows, columns = pooled.shape
    zeros = torch.zeros_like(pooled)
    cells = [torch.where(switches == switch, pooled, zeros) for switch in range(kernel**2)]
    lines = [torch.stack(cells[dy * kernel : (dy + 1) * kernel], dim=4) for dy in range(kernel)]
    full = torch.stack(lines, dim=3).reshape(batch, channels, rows * kernel, columns * kernel)
    # Ceil mode pooled up to kernel - 1 rows more than the image has, floor mode up to as many less.
    return functional.pad(full, (0, size[1] - columns * kernel, 0, size[0] - rows * kernel))


class StandardPooling(TorchFunctionMode):
    """A context in which the pooling operators of this package are computed and captured as standard ones."""

    replacements: Mapping[Any, Callable[..., Any]] = {
        torch.ops.pixelwise.max_pool_with_switches: max_pool,
        torch.ops.pixelwise.max_unpool: max_unpool,
    }

    def __torch_function__(
        self, func: Any, types: Sequence[type], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        return self.replacements.get(func, func)(*args, **(kwargs or {}))
