"""What the operators take: (B, C, H, W) maps of floating point, in either of two memory formats."""

import torch
from torch import Tensor

from pixelwise.errors import InvalidArgumentError

DTYPES = (torch.float64, torch.float32, torch.bfloat16, torch.float16)


def check_map(name: str, x: Tensor) -> None:
    """That `x` is a map; InvalidArgumentError otherwise."""
    if x.dim() != 4 or x.dtype not in DTYPES:
        raise InvalidArgumentError(
            f"{name} is {describe(x)}, but must be (B, C, H, W) in float64, float32, bfloat16 or float16."
        )


def describe(x: Tensor) -> str:
    """ "(1, 2, 8, 8) torch.float32 on cpu", for messages."""
    return f"{tuple(x.shape)} {x.dtype} on {x.device}"


def memory_format_of(x: Tensor) -> torch.memory_format:
    """The format `x` has, or would have if its gaps were closed; its strides tell also at 1x1 pixels."""
    # The last stride first: it alone is a number, and no condition on the size, in an exported graph.
    channels_last = x.stride(3) > 1 and x.shape[1] > 1 and x.stride(1) == 1
    return torch.channels_last if channels_last else torch.contiguous_format
