"""Checks of tensors and sizes, shared by operators, losses and networks.

The checks read attributes of tensors and no values, so that they work on every device, in compiled and exported graphs
and under the transforms of `torch.func`. `can_read_values` says where values can be read.
"""

import math
from numbers import Integral
from typing import Annotated, Any

import torch
from torch import Tensor

from pixelwise.arguments import Range, convert, describe_value
from pixelwise.errors import InvalidArgumentError

NON_NEGATIVE, FRACTION = Range(ge=0), Range(ge=0, le=1)

DTYPES = (torch.float64, torch.float32, torch.bfloat16, torch.float16)

INTEGER_DTYPES = (torch.uint8, torch.uint16, torch.uint32, torch.int8, torch.int16, torch.int32, torch.int64)


def check_map(name: str, x: Tensor) -> None:
    """Raise InvalidArgumentError unless `x` is a floating-point map (B, C, H, W)."""
    check_tensor(name, x, "(B, C, H, W)", DTYPES)


def check_tensor(name: str, x: Tensor, axes: str, dtypes: tuple[torch.dtype, ...]) -> None:
    """Raise InvalidArgumentError unless `x` is a tensor with these axes, such as "(B, C, H, W)", in one of the dtypes.

    Args:
        name: Name of the parameter, for the message.
        x: What the caller gave.
        axes: Axes in the notation of `shapes.py`; a 1 is not checked.
        dtypes: Legal dtypes.
    """
    rank = axes.count(",") + (not axes.endswith(",)"))
    if isinstance(x, Tensor) and x.dim() == rank and x.dtype in dtypes:
        return
    kinds = [str(dtype).removeprefix("torch.") for dtype in dtypes]
    kind = " or ".join(filter(None, (", ".join(kinds[:-1]), kinds[-1])))
    what = "" if isinstance(x, Tensor) else "a tensor "
    is_batch = isinstance(x, Tensor) and axes.startswith("(B,") and x.dim() == rank - 1
    hint = f" Add the batch dimension with {name}[None]." if is_batch else ""
    raise InvalidArgumentError(f"{name} is {describe_value(x)}, but must be {what}{axes} in {kind}.{hint}")


def can_read_values(x: Tensor) -> bool:
    """Return whether values can be read without waiting for a device, and outside of graphs and transforms."""
    return x.is_cpu and not torch.compiler.is_compiling() and not is_transforming() and type(x) is Tensor


def is_transforming() -> bool:
    """Return whether `torch.func` or forward-mode differentiation is at work, which cannot use registered gradients."""
    return torch._C._are_functorch_transforms_active() or torch.autograd.forward_ad._current_level >= 0


def check_int(name: str, value: Any, low: int | None = 1, high: int | None = None) -> int:
    """Return an integer from `low` to `high`, or raise InvalidArgumentError; sides of traced images pass."""
    if type(value) is int and (low is None or low <= value) and (high is None or value <= high):
        return value
    if isinstance(value, torch.SymInt):
        return value  # type: ignore[return-value]
    if not isinstance(value, bool) and isinstance(value, Integral) and int(value) in Range(ge=low, le=high):
        return int(value)
    legal = "" if low is None else f" of at least {low}" if high is None else f" from {low} to {high}"
    raise InvalidArgumentError(f"{name} is {describe_value(value)}, but must be an integer{legal}.")


def check_number(name: str, value: Any, legal: Range) -> float:
    """Return a finite number in a range, or raise InvalidArgumentError."""
    if type(value) is float and value in legal and value < math.inf:
        return value
    return float(convert(value, Annotated[float, legal], name))


def check_pair(name: str, value: Any, low: int = 1, high: int | None = None) -> tuple[int, int]:
    """Return (height, width) from one number for both or a pair, each from `low` to `high`."""
    if isinstance(value, tuple | list) and len(value) == 2:
        return check_int(name, value[0], low, high), check_int(name, value[1], low, high)
    if isinstance(value, tuple | list | str | None) or hasattr(value, "__len__"):
        raise InvalidArgumentError(f"{name} is {describe_value(value)}, but must be an integer, or a pair of integers.")
    number = check_int(name, value, low, high)
    return number, number


def check_size(name: str, value: Any) -> tuple[int, int]:
    """Return (height, width) from a pair of integers of at least 1."""
    if isinstance(value, tuple | list) and len(value) == 2:
        return check_int(name, value[0]), check_int(name, value[1])
    raise InvalidArgumentError(f"{name} is {describe_value(value)}, but must be (height, width) in pixels.")


def get_memory_format(x: Tensor) -> torch.memory_format:
    """Return the memory format of `x`, or the one of its dense copy; the strides also decide at 1x1 pixels."""
    # The last stride is tested first: in an exported graph it is the only number that does not depend on the size.
    channels_last = x.stride(3) > 1 and x.shape[1] > 1 and x.stride(1) == 1
    return torch.channels_last if channels_last else torch.contiguous_format
