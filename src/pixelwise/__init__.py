"""Semantic segmentation with convolutional networks: datasets, training, evaluation, prediction, export."""

import importlib
from typing import TYPE_CHECKING, Any

from pixelwise.version import __version__

if TYPE_CHECKING:
    from pixelwise import losses, metrics, networks, ops
    from pixelwise.api import (
        check,
        convert,
        demo,
        evaluate,
        export,
        info,
        load,
        localize,
        plan,
        predict,
        quantize,
        train,
    )
    from pixelwise.config import Config
    from pixelwise.data.dataset import Dataset
    from pixelwise.errors import (
        CheckpointError,
        DataError,
        InvalidArgumentError,
        ModelFileError,
        PathAccessError,
        PathNotFoundError,
        PixelwiseError,
        TrainingError,
    )
    from pixelwise.inference.predictor import Prediction, Predictor

__all__ = [
    "CheckpointError",
    "Config",
    "DataError",
    "Dataset",
    "InvalidArgumentError",
    "ModelFileError",
    "PathAccessError",
    "PathNotFoundError",
    "PixelwiseError",
    "Prediction",
    "Predictor",
    "TrainingError",
    "__version__",
    "check",
    "convert",
    "demo",
    "evaluate",
    "export",
    "info",
    "load",
    "localize",
    "losses",
    "metrics",
    "networks",
    "ops",
    "plan",
    "predict",
    "quantize",
    "train",
]

_SUBPACKAGES = ("losses", "metrics", "networks", "ops")
_CLASSES = {
    "Config": "pixelwise.config",
    "Dataset": "pixelwise.data.dataset",
    "Prediction": "pixelwise.inference.predictor",
    "Predictor": "pixelwise.inference.predictor",
}

if not TYPE_CHECKING:  # a type checker knows the names above, and reports all others

    def __getattr__(name: str) -> Any:
        """Import a public name on first use: PyTorch takes seconds."""
        if name not in __all__:
            raise AttributeError(f"module 'pixelwise' has no attribute {name!r}")
        if name in _SUBPACKAGES:
            return importlib.import_module(f"pixelwise.{name}")
        home = _CLASSES.get(name) or ("pixelwise.errors" if name.endswith("Error") else "pixelwise.api")
        return getattr(importlib.import_module(home), name)


def __dir__() -> list[str]:
    return __all__
