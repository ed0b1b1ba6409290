"""Maps that are made again on the way back, in place of being kept: less memory for more time.

Chen, Xu, Zhang, Guestrin, "Training Deep Nets with Sublinear Memory Cost", 2016 (arXiv 1604.06174).
What is kept is what passes between the stages; in the backward pass each stage runs once more, just
before its maps are needed. Numbers and weights stay the same bit by bit, as far as the device repeats
its own results.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Any
from weakref import WeakMethod

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from pixelwise.errors import InvalidArgumentError
from pixelwise.networks.stages import get_decoder_blocks, get_encoder_stages

Pass = Callable[..., Any]
"""A method that takes maps through a stage."""

Runner = Callable[[Pass, tuple[Any, ...]], Any]
"""Calls a stage's method with its arguments, in a way of its own."""


def enable_activation_checkpointing(network: nn.Module) -> None:
    """From now on, training keeps no maps inside a stage of the encoder or a step of the decoder.

    Batch statistics move once, and what is dropped out the first time is dropped out the second time.
    Names of parameters, and what is computed without gradients, are as before.

    Raises InvalidArgumentError where the network has no stages that can be told apart.
    """
    wrap_stages(network, checkpoint_call)


def wrap_stages(network: nn.Module, runner: Runner) -> None:
    """Has each stage of the encoder and each step of the decoder be run by `runner`.

    Raises InvalidArgumentError where the network has no stages that can be told apart.
    """
    if not get_encoder_stages(network):
        raise InvalidArgumentError(
            f"training.activation_checkpointing is true, but {type(network).__name__} has no encoder stages "
            "that can be told apart; leave it at false."
        )
    for module, name in _passes(network):
        # Weak: a network that refers to itself would wait for the garbage collector with its memory.
        setattr(module, name, partial(_run, WeakMethod(getattr(module, name)), runner))


def _passes(network: nn.Module) -> list[tuple[nn.Module, str]]:
    """What runs the stages and steps: modules, and the names of their methods."""
    encoder: Any = getattr(network, "encoder", None)
    if hasattr(encoder, "pass_stage"):  # one method for all stages, each of several modules
        own = [(encoder, "pass_stage")]
    else:
        own = [(module, "forward") for stage in get_encoder_stages(network) for module in stage]
    return [*own, *((step, "forward") for step in get_decoder_blocks(network))]


def _run(method: WeakMethod[Pass], runner: Runner, *inputs: Any) -> Any:
    call = method()
    assert call is not None
    return runner(call, inputs)


def checkpoint_call(call: Pass, inputs: tuple[Any, ...]) -> Any:
    """Without what it would keep, which it makes again in the backward pass."""
    module: nn.Module = call.__self__  # type: ignore[attr-defined]

    def contexts() -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
        return nullcontext(), preserve_buffers(module)

    return checkpoint(call, *inputs, use_reentrant=False, context_fn=contexts)


@contextmanager
def preserve_buffers(module: nn.Module) -> Iterator[None]:
    """Batch statistics and other buffers are, in the end, what they were."""
    before: list[Tensor] = [buffer.clone() for buffer in module.buffers()]
    try:
        yield
    finally:
        with torch.no_grad():
            for buffer, kept in zip(module.buffers(), before, strict=True):
                buffer.copy_(kept)
