"""The stages of any network's encoder, fine to coarse, the blocks of its decoder, and activation checkpointing of both.

Stages can be frozen, can learn more slowly with depth, and are run twice to save memory. A stage is the layers between
two changes of the resolution. With the encoder contract (`encoders.py`) these are the layers from one map to the next;
U-Net and SegNet have a block for each. The layers after the encoder (decoder, scores, fully connected layers of FCN)
belong to no stage.

With activation checkpointing, maps are recomputed in the backward pass instead of stored, for less memory and more time
(Chen, Xu, Zhang, Guestrin, "Training Deep Nets with Sublinear Memory Cost", 2016, arXiv:1604.06174). Only the maps
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
from pixelwise.networks.unet import UNet

Stage = tuple[nn.Module, ...]

StageMethod = Callable[..., Any]
"""A method that computes the maps of a stage."""

StageRunner = Callable[[StageMethod, tuple[Any, ...]], Any]
"""A function that calls a stage's method with its arguments."""

_DECODERS = {"UNet": "up", "EncoderUNet": "up", "SegNet": "decoder", "SegNetBasic": "decoder", "FCN": "head"}
"""Class of a network → its attribute after the encoder with large maps."""


def get_encoder_stages(network: nn.Module) -> tuple[Stage, ...]:
    """Return the modules of each stage, fine to coarse; () if the network has no encoder in stages."""
    if isinstance(network, UNet):
        return ((network.first,), *((down,) for down in network.down))
    encoder = getattr(network, "encoder", None)
    if isinstance(encoder, nn.ModuleList | nn.Sequential):  # SegNet and the networks of Table 1
        return tuple((stage,) for stage in encoder)
    if encoder is None:
        return ()
    return tuple(tuple(encoder.get_submodule(name) for name in stage) for stage in encoder.stages)


def get_encoder_end(network: nn.Module) -> nn.Module | None:
    """Return the module that ends the encoder, with the fully connected layers of FCN; None without an encoder."""
    head, encoder = getattr(network, "head", None), getattr(network, "encoder", None)
    if isinstance(head, nn.Sequential) and len(head):
        return head
    if hasattr(encoder, "run_stage"):  # stages are not modules
        return encoder
    stages = get_encoder_stages(network)
    return stages[-1][-1] if stages else None


def get_first_stages(network: nn.Module, count: int) -> list[nn.Module]:
    """Return the modules of the first `count` stages.

    Raises:
        InvalidArgumentError: The network has fewer stages.
    """
    stages = get_encoder_stages(network)
    if count > len(stages):
        raise InvalidArgumentError(
            f"optimizer.freeze_stages is {count}, but {type(network).__name__} has {len(stages)} encoder stages. "
            f"Set it to at most {len(stages)}."
        )
    return [module for stage in stages[:count] for module in stage]


def compute_learning_rate_scales(network: nn.Module, decay: float) -> dict[Tensor, float]:
    """Return the factor of each parameter's learning rate: `decay` for the coarsest stage, squared for the next finer.

    Parameters of no stage are left out; their factor is 1.

    Raises:
        InvalidArgumentError: `decay` is not 1 and the network has no stages.
    """
    if decay == 1:
        return {}
    stages = get_encoder_stages(network)
    if not stages:
        raise InvalidArgumentError(
            f"optimizer.layer_decay is {decay:g}, but {type(network).__name__} has no encoder stages. Set it to 1."
        )
    return {
        parameter: decay**depth
        for depth, stage in enumerate(reversed(stages), start=1)
        for module in stage
        for parameter in module.parameters()
    }


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
            f"training.activation_checkpointing is true, but {type(network).__name__} has no encoder stages. "
            "Set it to false."
        )
    encoder: Any = getattr(network, "encoder", None)
    if hasattr(encoder, "run_stage"):  # one method for all stages, which consist of several modules
        methods: list[tuple[nn.Module, str]] = [(encoder, "run_stage")]
    else:
        methods = [(module, "forward") for stage in stages for module in stage]
    # The decoder runs coarse to fine. Of FCN's, only the fully connected layers are large, as one module.
    decoder = getattr(network, _DECODERS.get(type(network).__name__, ""), None)
    blocks = decoder if isinstance(decoder, nn.ModuleList) else () if decoder is None else (decoder,)
    methods += [(block, "forward") for block in blocks]
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
