"""Errors of torch.compile that say what to install."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from pixelwise.errors import InvalidArgumentError


@contextmanager
def explain_compile_errors() -> Iterator[None]:
    """Turn errors of torch.compile into InvalidArgumentError, and hide its warning that CUDA was not found."""
    logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)
    try:
        yield
    except RuntimeError as error:
        from torch._dynamo.exc import TorchDynamoException  # takes seconds to import

        if not isinstance(error, TorchDynamoException):
            raise
        reason = " ".join(str(error).strip().splitlines()[:2])  # the second names the backend error
        raise InvalidArgumentError(
            f"torch.compile failed ({reason}). It needs a C++ compiler on a CPU, and Triton and a C compiler on a GPU. "
            "Install them, or do not compile: training.compile=false, --engine torch."
        ) from error
