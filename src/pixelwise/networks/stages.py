"""The stages of any network's encoder, fine to coarse, and the blocks of its decoder.

Stages can be frozen, can learn more slowly with depth, and are run twice to save memory (`activation_checkpointing.py`,
with the blocks of the decoder). A stage is the layers between two changes of the resolution. With the encoder contract
(`encoders.py`) these are the layers from one map to the next; U-Net and SegNet have a block for each. The layers after
the encoder (decoder, scores, fully connected layers of FCN) belong to no stage.
"""

from torch import Tensor, nn

from pixelwise.errors import InvalidArgumentError
from pixelwise.networks.unet import UNet

Stage = tuple[nn.Module, ...]

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


def get_decoder_blocks(network: nn.Module) -> tuple[nn.Module, ...]:
    """Return the modules that run in order after the encoder, coarse to fine; () where all are small.

    For FCN these are the fully connected layers, as one module; the rest are scores of few classes.
    """
    blocks = getattr(network, _DECODERS.get(type(network).__name__, ""), None)
    return tuple(blocks) if isinstance(blocks, nn.ModuleList) else () if blocks is None else (blocks,)


def get_first_stages(network: nn.Module, count: int) -> list[nn.Module]:
    """Return the modules of the first `count` stages.

    Raises:
        InvalidArgumentError: The network has fewer stages.
    """
    stages = get_encoder_stages(network)
    if count > len(stages):
        raise InvalidArgumentError(
            f"optimizer.freeze_stages is {count}, but {type(network).__name__} has {len(stages)} encoder stages; "
            f"set it to at most {len(stages)}."
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
            f"optimizer.layer_decay is {decay:g}, but {type(network).__name__} has no encoder stages; set it to 1."
        )
    return {
        parameter: decay**depth
        for depth, stage in enumerate(reversed(stages), start=1)
        for module in stage
        for parameter in module.parameters()
    }
