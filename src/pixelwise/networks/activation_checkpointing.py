"""Activation checkpointing: maps are recomputed in the backward pass instead of stored, for less memory and more time.

Chen, Xu, Zhang, Guestrin, "Training Deep Nets with Sublinear Memory Cost", 2016 (arXiv:1604.06174). Only the maps
between the stages are stored. In the backward pass each stage runs again, just before its maps are needed. Results and
weights stay the same bit by bit, if the device repeats its own results.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import Any
from weakref import WeakMethod

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from pixelwise.errors import InvalidArgumentError
from pixelwise.networks.stages import get_decoder_blocks, get_encoder_stages

StageMethod = Callable[..., Any]
"""A method that computes the maps of a stage."""

StageRunner = Callable[[StageMethod, tuple[Any, ...]], Any]
"""A function that calls a stage's method with its arguments."""


def enable_activation_checkpointing(network: nn.Module) -> None:
    """Change a network in place, so that training stores no maps inside a stage of the encoder or a decoder block.

    Batch statistics are updated once, and dropout draws the same values both times. The names of parameters and
    passes without gradients do not change.

    Raises:
        InvalidArgumentError: The network has no stages.
    """
    wrap_stages(network, checkpoint_call)


def wrap_stages(network: nn.Module, runner: StageRunner) -> None:
    """Change a network in place, so that `runner` runs each stage of the encoder and each block of the decoder.

    Raises:
        InvalidArgumentError: The network has no stages.
    """
    stages = get_encoder_stages(network)
    if not stages:
        raise InvalidArgumentError(
            f"training.activation_checkpointing is true, but {type(network).__name__} has no encoder stages; "
            "set it to false."
        )
    encoder: Any = getattr(network, "encoder", None)
    if hasattr(encoder, "run_stage"):  # one method for all stages, which consist of several modules
        methods: list[tuple[nn.Module, str]] = [(encoder, "run_stage")]
    else:
        methods = [(module, "forward") for stage in stages for module in stage]
    methods += [(block, "forward") for block in get_decoder_blocks(network)]
    for module, name in methods:
        # Weak: a network that refers to itself would keep its memory until the garbage collector runs.
        setattr(module, name, partial(_call_weakly, WeakMethod(getattr(module, name)), runner))


def _call_weakly(method: WeakMethod[StageMethod], runner: StageRunner, *inputs: Any) -> Any:
    call = method()
    assert call is not None
    return runner(call, inputs)


def checkpoint_call(call: StageMethod, inputs: tuple[Any, ...]) -> Any:
    """Call a stage's method without storing its maps; the backward pass calls it again."""
    module: nn.Module = call.__self__  # type: ignore[attr-defined]
    return checkpoint(call, *inputs, use_reentrant=False, context_fn=lambda: (nullcontext(), preserve_buffers(module)))


@contextmanager
def preserve_buffers(module: nn.Module) -> Iterator[None]:
    """Restore batch statistics and other buffers at the end."""
    before: list[Tensor] = [buffer.clone() for buffer in module.buffers()]
    try:
        yield
    finally:
        with torch.no_grad():
            for buffer, kept in zip(module.buffers(), before, strict=True):
                buffer.copy_(kept)
