"""A classifier's weights as the first weights of a segmentation network: encoder, and fc6 and fc7 of FCN.

This is how FCN and SegNet were trained (Long et al., CVPR 2015, section 3): the classifier's layers
are kept, the layers that bring the size back, and the one that scores the classes, are new.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from torch import Tensor, nn

from pixelwise.config import NetworkConfig
from pixelwise.errors import InvalidArgumentError
from pixelwise.networks.encoders import Encoder, TimmEncoder
from pixelwise.networks.segnet import SegNet, map_vgg16_names
from pixelwise.networks.weights.io import (
    LoadReport,
    Weights,
    adapt_first_layer,
    build_classifier,
    load_weights,
    read_weights,
)


def load_classifier_weights(
    network: nn.Module, config: NetworkConfig, weights: Literal["imagenet"] | Path
) -> LoadReport:
    """Loads a classifier's weights into what of `network` is made of its layers.

    Images with another number of channels than the classifier's get adapted first weights
    (`pretrained.adapt_first_layer`).

    Args:
        network: as `build_network` makes it from `config`.
        weights: "imagenet", downloaded by torchvision or timm, or a file of the classifier's weights.

    Returns what was loaded; `missing` are the layers that are new.

    Raises:
        InvalidArgumentError: a network without a classifier in it, weights that cannot be downloaded, or of
            which nothing fits.
        ModelFileError: a file that cannot be read.
    """
    name = config.encoder or "vgg16"
    if isinstance(weights, Path):
        found = read_weights(weights)
    else:
        found = Weights(tensors=build_classifier(name, weights=weights).network.state_dict())
    return load_weights(network, Weights(tensors=_renamed(network, found.tensors), notes=found.notes))


def _renamed(network: nn.Module, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The classifier's tensors under the names they have in the network, and in its shapes."""
    if isinstance(network, SegNet):
        names = map_vgg16_names(batch_norm="features.1.running_mean" in tensors)
        renamed = {ours: tensors[theirs] for theirs, ours in names.items() if theirs in tensors}
        first = next(iter(names.values()))
    else:
        encoder = getattr(network, "encoder", None)
        if not isinstance(encoder, Encoder):
            raise InvalidArgumentError(
                f"{type(network).__name__} has no classifier in it that weights could be for; name one with "
                "--encoder, or take another network."
            )
        theirs = _as_timm_names(encoder, tensors) if isinstance(encoder, TimmEncoder) else tensors
        renamed = {f"encoder.{name}": tensor for name, tensor in theirs.items()}
        renamed |= _fully_connected(network, tensors)
        first = f"encoder.{encoder.first_layer}.weight"
    if first in renamed:
        channels = network.get_parameter(first).shape[1]
        if renamed[first].dim() == 4 and renamed[first].shape[1] != channels:
            renamed[first] = adapt_first_layer(renamed[first], channels)
    return renamed


def _as_timm_names(encoder: TimmEncoder, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """timm names a stage "stages_0" where it gives features, and "stages.0" in the classifier."""
    ours = {re.sub(r"[._]", ".", name.removeprefix("model.")): name for name in encoder.state_dict()}
    return {ours.get(re.sub(r"[._]", ".", name), name): tensor for name, tensor in tensors.items()}


def _fully_connected(network: nn.Module, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """fc6 and fc7 of VGG and AlexNet as convolutions: (4096, 25088) → (4096, 512, 7, 7)."""
    head = getattr(network, "head", None)
    if not head:
        return {}
    linear = [name for name, tensor in tensors.items() if name.startswith("classifier.") and tensor.dim() == 2]
    renamed = {}
    for layer, theirs in zip(("fc6", "fc7"), linear, strict=False):
        weight = head.get_parameter(f"{layer}.weight")
        if tensors[theirs].numel() == weight.numel():
            renamed[f"head.{layer}.weight"] = tensors[theirs].view(weight.shape)
            renamed[f"head.{layer}.bias"] = tensors[theirs.replace("weight", "bias")]
    return renamed
