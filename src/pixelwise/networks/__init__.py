"""Networks for semantic segmentation: images in, logits out."""

import importlib
from typing import TYPE_CHECKING, Any

from pixelwise.networks.convolutionalize import convolutionalize
from pixelwise.networks.fcn import FCN
from pixelwise.networks.registry import NETWORKS, build_network
from pixelwise.networks.segmenter import Segmenter
from pixelwise.networks.segnet import SegNet
from pixelwise.networks.segnet_basic import SegNetBasic
from pixelwise.networks.unet import UNet

if TYPE_CHECKING:
    from pixelwise.networks.summary import describe

_LAZY = {"describe": "pixelwise.networks.summary"}
"""Imported on first use, because it imports packages that only this needs."""

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
    if name not in _LAZY:
        raise AttributeError(f"module 'pixelwise.networks' has no attribute {name!r}")
    return getattr(importlib.import_module(_LAZY[name]), name)


def __dir__() -> list[str]:
    return __all__
