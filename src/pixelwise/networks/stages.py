"""The encoder of any network as stages, fine to coarse: what can be frozen, learns slower with depth, and is
run twice to save memory (`recomputation.py`, with the steps of the decoder).

A stage is what lies between two changes of the resolution. On the encoder contract (`encoders.py`)
these are the layers from one map to the next; U-Net and SegNet have a block for each. What follows
the encoder (decoder, scores, fully connected layers of FCN) belongs to no stage.
"""

from torch import Tensor, nn

from pixelwise.errors import InvalidArgumentError
from pixelwise.networks.unet import UNet

Stage = tuple[nn.Module, ...]


def get_encoder_stages(network: nn.Module) -> tuple[Stage, ...]:
    """The modules of each stage, fine to coarse; () where the network has no encoder to tell."""
    if isinstance(network, UNet):
        return ((network.first,), *((down,) for down in network.down))
    encoder = getattr(network, "encoder", None)
    if isinstance(encoder, nn.ModuleList | nn.Sequential):  # SegNet and its kin
        return tuple((stage,) for stage in encoder)
    if encoder is None:
        return ()
    home = getattr(encoder, "model", encoder)  # of timm's networks; their names are its own
    return tuple(tuple(home.get_submodule(name) for name in stage) for stage in encoder.stages)


_DECODERS = {"UNet": "up", "EncoderUNet": "up", "SegNet": "decoder", "SegNetBasic": "decoder", "FCN": "head"}
"""Class of a network → its attribute that follows the encoder and holds large maps."""


def get_decoder_blocks(network: nn.Module) -> tuple[nn.Module, ...]:
    """The modules that act one after the other behind the encoder, coarse to fine; () where none is worth it.

    Of FCN its fully connected layers, as one: the rest are scores of few classes.
    """
    found = getattr(network, _DECODERS.get(type(network).__name__, ""), None)
    return tuple(found) if isinstance(found, nn.ModuleList) else () if found is None else (found,)


def get_first_stages(network: nn.Module, count: int) -> list[nn.Module]:
    """The modules of the first `count` stages.

    Raises InvalidArgumentError where the network has fewer.
    """
    stages = get_encoder_stages(network)
    if count > len(stages):
        kind = type(network).__name__
        has = f"has {len(stages)} encoder stages" if stages else "has no encoder stages that can be told apart"
        raise InvalidArgumentError(f"optimizer.freeze_stages is {count}, but {kind} {has}; give at most {len(stages)}.")
    return [module for stage in stages[:count] for module in stage]


def compute_learning_rate_scales(network: nn.Module, decay: float) -> dict[Tensor, float]:
    """Parameter → its share of the learning rate: `decay` for the coarsest stage, squared for the next finer, ...

    Parameters of no stage are left out: theirs is 1.

    Raises InvalidArgumentError for a decay other than 1 where the network has no stages.
    """
    if decay == 1:
        return {}
    stages = get_encoder_stages(network)
    if not stages:
        raise InvalidArgumentError(
            f"optimizer.layer_decay is {decay:g}, but {type(network).__name__} has no encoder stages that can be "
            "told apart; leave it at 1."
        )
    return {
        parameter: decay**depth
        for depth, stage in enumerate(reversed(stages), start=1)
        for module in stage
        for parameter in module.parameters()
    }
