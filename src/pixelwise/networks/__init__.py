"""Networks: images in, logits out."""

import importlib
from typing import TYPE_CHECKING, Any

from pixelwise.networks.convolutionalize import convolutionalize
from pixelwise.networks.registry import NETWORKS, build_network
from pixelwise.networks.segmenter import Segmenter
from pixelwise.networks.segnet import SegNet
from pixelwise.networks.segnet_basic import SegNetBasic
from pixelwise.networks.unet import UNet

if TYPE_CHECKING:
    from pixelwise.networks.fcn import FCN
    from pixelwise.networks.summary import describe

_LATER = {
    "FCN": "pixelwise.networks.fcn",
    "describe": "pixelwise.networks.summary",
}
"""Resolved on first use, because their imports are slow: torchvision and timm take seconds. None is named
like its module, which would take its place here once it is imported."""

__all__ = [
    "FCN",
    "NETWORKS",
    "SegNet",
    "SegNetBasic",
    "Segmenter",
    "UNet",
    "build_network",
    "convolutionalize",
    "describe",
]


def __getattr__(name: str) -> Any:
    if name not in _LATER:
        raise AttributeError(f"module 'pixelwise.networks' has no attribute {name!r}")
    return getattr(importlib.import_module(_LATER[name]), name)
