"""Input checks shared by all operators: floating-point maps (B, C, H, W) in one of two memory formats."""

import torch
from torch import Tensor

from pixelwise.errors import InvalidArgumentError

DTYPES = (torch.float64, torch.float32, torch.bfloat16, torch.float16)


def check_map(name: str, x: Tensor) -> None:
    """Raise InvalidArgumentError unless `x` is a floating-point map (B, C, H, W)."""
    if x.dim() != 4 or x.dtype not in DTYPES:
        raise InvalidArgumentError(
            f"{name} is {describe_tensor(x)}, but must be (B, C, H, W) in float64, float32, bfloat16 or float16."
        )


def describe_tensor(x: Tensor) -> str:
    """Return shape, dtype and device for an error message: "(1, 2, 8, 8) torch.float32 on cpu"."""
    return f"{tuple(x.shape)} {x.dtype} on {x.device}"


def get_memory_format(x: Tensor) -> torch.memory_format:
    """Return the memory format of `x`, or the one of its dense copy; the strides also decide at 1x1 pixels."""
    # The last stride is tested first: in an exported graph it is the only number that does not depend on the size.
    channels_last = x.stride(3) > 1 and x.shape[1] > 1 and x.stride(1) == 1
    return torch.channels_last if channels_last else torch.contiguous_format
