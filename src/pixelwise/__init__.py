"""Pixelwise: semantic segmentation with convolutional networks, from a folder to a measured model."""

import importlib
from typing import Any

from pixelwise.version import __version__ as __version__

_HOMES = {
    "DataError": "pixelwise.errors",
    "ModelFileError": "pixelwise.errors",
    "PixelwiseError": "pixelwise.errors",
    "Prediction": "pixelwise.inference.predictor",
    "Predictor": "pixelwise.inference.predictor",
    "Config": "pixelwise.config",
    "InvalidArgumentError": "pixelwise.errors",
    "check": "pixelwise.api.check",
    "convert": "pixelwise.conversion",
    "demo": "pixelwise.api.demo",
    "evaluate": "pixelwise.evaluation.evaluate",
    "export": "pixelwise.exporting.export",
    "info": "pixelwise.api.info",
    "load": "pixelwise.inference.predictor",
    "localize": "pixelwise.prediction.localize",
    "networks": "pixelwise",
    "plan": "pixelwise.api.plan",
    "predict": "pixelwise.api.predict",
    "quantize": "pixelwise.api.quantize",
    "train": "pixelwise.api.train",
}
"""Public name → module; resolved on first use, so that importing the package is quick."""

__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'pixelwise' has no attribute {name!r}")
    if name == "networks":
        return importlib.import_module("pixelwise.networks")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return __all__
