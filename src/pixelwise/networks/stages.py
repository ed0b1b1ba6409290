"""The encoder of any network as stages, fine to coarse: what can be frozen, and learns slower with depth.

A stage is what lies between two changes of the resolution. On the encoder contract (`encoders.py`)
these are the layers from one map to the next; U-Net and SegNet have a block for each. What follows
the encoder (decoder, scores, fully connected layers of FCN) belongs to no stage.
"""

import itertools
from collections.abc import Mapping, Sequence

from torch import Tensor, nn

from pixelwise.errors import RequestError
from pixelwise.networks.unet import UNet

Stage = tuple[nn.Module, ...]


def encoder_stages(network: nn.Module) -> tuple[Stage, ...]:
    """The modules of each stage, fine to coarse; () where the network has no encoder to tell."""
    if isinstance(network, UNet):
        return ((network.first,), *((down,) for down in network.down))
    encoder = getattr(network, "encoder", None)
    if isinstance(encoder, nn.ModuleList | nn.Sequential):  # SegNet and its kin
        return tuple((stage,) for stage in encoder)
    if encoder is None:
        return ()
    from pixelwise.networks.encoders import ChainEncoder  # imports torchvision and timm: seconds

    return _of_chain(encoder) if isinstance(encoder, ChainEncoder) else _of_timm(encoder)


def _of_chain(encoder: nn.Module) -> tuple[Stage, ...]:
    chain: Sequence[str] = encoder.chain  # type: ignore[assignment]
    taps: Sequence[int] = encoder.taps  # type: ignore[assignment]
    cuts = [0, *(place + 1 for place in taps)]
    names = [chain[start:end] for start, end in itertools.pairwise(cuts)]
    return tuple(tuple(encoder.get_submodule(name) for name in stage) for stage in names)


def _of_timm(encoder: nn.Module) -> tuple[Stage, ...]:
    """Of timm's networks that are a chain of modules, some of which give maps."""
    model = getattr(encoder, "model", None)
    given: Mapping[str, str] | None = getattr(model, "return_layers", None)
    if model is None or given is None:
        return ()
    stages: list[Stage] = []
    since: list[nn.Module] = []
    for name, module in model.named_children():
        since.append(module)
        if name in given:
            stages.append(tuple(since))
            since = []
    return tuple(stages)


def first_stages(network: nn.Module, count: int) -> list[nn.Module]:
    """The modules of the first `count` stages.

    Raises RequestError where the network has fewer.
    """
    stages = encoder_stages(network)
    if count > len(stages):
        kind = type(network).__name__
        has = f"has {len(stages)} encoder stages" if stages else "has no encoder stages that can be told apart"
        raise RequestError(f"optimizer.frozen_stages is {count}, but {kind} {has}; give at most {len(stages)}.")
    return [module for stage in stages[:count] for module in stage]


def learning_rate_scales(network: nn.Module, decay: float) -> dict[Tensor, float]:
    """Parameter → its share of the learning rate: `decay` for the coarsest stage, squared for the next finer, ...

    Parameters of no stage are left out: theirs is 1.

    Raises RequestError for a decay other than 1 where the network has no stages.
    """
    if decay == 1:
        return {}
    stages = encoder_stages(network)
    if not stages:
        raise RequestError(
            f"optimizer.layer_decay is {decay:g}, but {type(network).__name__} has no encoder stages that can be "
            "told apart; leave it at 1."
        )
    return {
        parameter: decay**depth
        for depth, stage in enumerate(reversed(stages), start=1)
        for module in stage
        for parameter in module.parameters()
    }
