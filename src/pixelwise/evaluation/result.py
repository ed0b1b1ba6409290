"""The result of `evaluate`. This module does not import PyTorch."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassScores:
    """The scores of one class: fractions in [0, 1], None where undefined."""

    iou: float | None
    """Intersection over union."""
    accuracy: float | None
    """Fraction of the pixels of the class that are predicted as it."""
    dice: float | None
    """Dice coefficient, also called F1."""
    pixels: int
    """Number of pixels of the class in the masks."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluationResult:
    """The scores of a model on a dataset: fractions in [0, 1], None where undefined."""

    mean_iou: float | None
    """Mean of the IoU over the classes that occur in masks or predictions."""
    global_accuracy: float | None
    """Fraction of all pixels that are predicted correctly."""
    mean_class_accuracy: float | None
    mean_dice: float | None
    boundary_f1: float | None
    """How closely predicted boundaries follow those of the masks."""
    per_class: Mapping[str, ClassScores]
    """Class name → its scores."""
    confusion: Sequence[Sequence[int]]
    """Numbers of pixels; rows for the classes of the masks, columns for predicted classes."""
    num_images: int
    split: str
    """Split that was scored; "all" for a dataset without splits."""
    model: str
    data: str

    def __repr__(self) -> str:
        score = "-" if self.mean_iou is None else f"{self.mean_iou:.4f}"
        return f"EvaluationResult(mean_iou={score}, split={self.split!r}, num_images={self.num_images})"

    @classmethod
    def from_scores(cls, scores: Mapping[str, Any], *, split: str, model: str, data: str) -> "EvaluationResult":
        """Build from the dictionary of `pixelwise.metrics.compute_scores`."""
        per_class = {name: ClassScores(**row) for name, row in scores["per_class"].items()}
        return cls(**{**scores, "per_class": per_class}, split=split, model=model, data=data)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, as `evaluate --json` writes them."""
        return asdict(self)
