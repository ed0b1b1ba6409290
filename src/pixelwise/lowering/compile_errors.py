"""Where torch.compile cannot work: an error that says what it needs."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from pixelwise.errors import InvalidArgumentError


@contextmanager
def compilation_explained() -> Iterator[None]:
    """What torch.compile raises, at the first pass of a size, becomes a InvalidArgumentError.

    It also warns that no CUDA was found, which is no news on a CPU: that is not passed on.
    """
    logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)
    try:
        yield
    except RuntimeError as error:
        from torch._dynamo.exc import TorchDynamoException  # whose import takes seconds

        if not isinstance(error, TorchDynamoException):
            raise
        reason = " ".join(str(error).strip().splitlines()[:2])  # the second says what its backend has met
        raise InvalidArgumentError(
            f"torch.compile failed ({reason}); it needs a C++ compiler on a CPU, and Triton and a C compiler on a GPU. "
            "Install them, or leave compiling out: training.compile=false, --engine torch."
        ) from error
