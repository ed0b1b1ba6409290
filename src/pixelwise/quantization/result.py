"""The results of quantization. This module does not import PyTorch."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineAccuracy:
    """The int8 network on one engine, measured on the validation images at full size."""

    mean_iou: float
    """A fraction in [0, 1]."""
    agreement: float
    """Share of all pixels, labeled or not, where int8 and float32 give the same label."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Int8Accuracy:
    """The accuracy of an int8 network compared with the same model in float32."""

    model_mean_iou: float
    """Mean IoU of the model in float32, a fraction in [0, 1]."""
    engines: Mapping[str, EngineAccuracy]
    """Engine name → its accuracy; every engine that was installed and computes in int8."""
    num_validation_images: int
    num_training_images: int
    """Images from which the activation ranges were found."""

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Int8Accuracy":
        """Build from the dictionary that `dataclasses.asdict` gives."""
        engines = {name: EngineAccuracy(**engine) for name, engine in values["engines"].items()}
        return cls(**{**values, "engines": engines})

    def compute_iou_drop(self, engine: str) -> float:
        """Return how many points of mean IoU are lost on an engine; negative if int8 is better."""
        return 100 * (self.model_mean_iou - self.engines[engine].mean_iou)


@dataclass(frozen=True, slots=True, kw_only=True)
class QuantizeResult:
    """The int8 file that `quantize` wrote."""

    file: Path
    accuracy: Int8Accuracy
