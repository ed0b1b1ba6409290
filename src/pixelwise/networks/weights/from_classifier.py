"""Initialize a segmentation network with the weights of a classifier: the encoder, and fc6 and fc7 of FCN.

FCN and SegNet were trained this way (Long, Shelhamer, Darrell, CVPR 2015, section 3): the classifier's layers keep
their weights; the layers that restore the size and the one that scores the classes are new.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from torch import Tensor, nn

from pixelwise.config import NetworkConfig
from pixelwise.errors import InvalidArgumentError
from pixelwise.networks.backbones import VGG_DEPTHS, convert_fc_weights
from pixelwise.networks.encoders import Encoder, TimmEncoder
from pixelwise.networks.segnet import SegNet
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
    """Load a classifier's weights into the layers of `network` that are the same.

    For images with a different number of channels than the classifier's, the first weights are adapted
    (`io.adapt_first_layer`).

    Args:
        network: A network from `build_network` with `config`.
        config: The network section of the config.
        weights: "imagenet", which torchvision or timm downloads, or a file of the classifier's weights.

    Returns:
        The report; its `missing` tensors are of the layers that are new.

    Raises:
        InvalidArgumentError: The network has no layers of a classifier, the weights cannot be downloaded, or no tensor
            fits.
        PathNotFoundError: The file does not exist.
        ModelFileError: The file cannot be read.
    """
    if isinstance(weights, Path):
        source = read_weights(weights)
    else:
        classifier = build_classifier(config.encoder or "vgg16", weights=weights).network
        source = Weights(tensors=classifier.state_dict())
    return load_weights(network, Weights(tensors=_rename(network, source.tensors), notes=source.notes))


def map_vgg16_names(*, batch_norm: bool = False) -> dict[str, str]:
    """Return torchvision's names of VGG16's 13 convolutions → the names in SegNet's encoder.

    For example `features.0.weight → encoder.0.convolutions.0.weight`. For `vgg16_bn` the batch normalizations with
    their statistics are included.
    """
    parts = [("weight", "bias"), ("weight", "bias", "running_mean", "running_var")][: 1 + batch_norm]
    names, index = {}, 0
    for stage, depth in enumerate(VGG_DEPTHS["vgg16"]):
        for layer in range(depth):
            for offset, entries in enumerate(parts):
                for entry in entries:
                    ours = f"encoder.{stage}.convolutions.{3 * layer + offset}.{entry}"
                    names[f"features.{index + offset}.{entry}"] = ours
            index += len(parts) + 1  # and its ReLU
        index += 1  # the pooling
    return names


def _rename(network: nn.Module, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the classifier's tensors with the names and shapes that they have in the network."""
    if isinstance(network, SegNet):
        names = map_vgg16_names(batch_norm="features.1.running_mean" in tensors)
        renamed = {ours: tensors[theirs] for theirs, ours in names.items() if theirs in tensors}
        first = next(iter(names.values()))
    else:
        encoder = getattr(network, "encoder", None)
        if not isinstance(encoder, Encoder):
            raise InvalidArgumentError(
                f"{type(network).__name__} has no layers of a classifier; choose an encoder with --encoder, or another "
                "network."
            )
        theirs = _rename_for_timm(encoder, tensors) if isinstance(encoder, TimmEncoder) else tensors
        renamed = {f"encoder.{name}": tensor for name, tensor in theirs.items()}
        if head := getattr(network, "head", None):
            renamed |= {f"head.{name}": tensor for name, tensor in convert_fc_weights(head, tensors).items()}
        first = f"encoder.{encoder.first_layer}.weight"
    if first in renamed:
        channels = network.get_parameter(first).shape[1]
        if renamed[first].dim() == 4 and renamed[first].shape[1] != channels:
            renamed[first] = adapt_first_layer(renamed[first], channels)
    return renamed


def _rename_for_timm(encoder: TimmEncoder, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors with the names of features: timm renames the "stages.0" of a classifier to "stages_0"."""
    ours = {re.sub(r"[._]", ".", name.removeprefix("model.")): name for name in encoder.state_dict()}
    return {ours.get(re.sub(r"[._]", ".", name), name): tensor for name, tensor in tensors.items()}
