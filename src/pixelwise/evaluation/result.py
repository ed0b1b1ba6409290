"""The result of `evaluate`. This module does not import PyTorch."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

BINARY_SCORES = {
    "sensitivity": ("sensitivity (recall)", "share of the class that was found"),
    "specificity": ("specificity", "share of the other class that was not taken for it"),
    "precision": ("precision", "share of the pixels labeled as the class that are right"),
    "auc": ("AUC (ROC)", "area under the ROC curve, over all thresholds"),
    "average_precision": ("average precision", "precision averaged over all thresholds"),
}
"""Score of the foreground of two classes → its title and explanation."""


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
class BinaryScores:
    """The scores of the foreground of two classes: fractions in [0, 1], None where undefined."""

    name: str
    """Name of the class: the second one, unless it is named background."""
    sensitivity: float | None
    """Fraction of the foreground that is found, also called recall."""
    specificity: float | None
    """Fraction of the background that is not labeled foreground."""
    precision: float | None
    """Fraction of the pixels labeled foreground that are foreground."""
    auc: float | None
    """Area under the ROC curve, for all thresholds."""
    auc_error: float | None
    """Largest error of `auc`, which is computed from a histogram."""
    average_precision: float | None
    """Area under the curve of precision and recall, for all thresholds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChosenThreshold:
    """The threshold with the best score of a split, and the scores of the foreground with it."""

    criterion: str
    """Score that it maximizes: "dice", or "youden" (sensitivity + specificity - 1)."""
    split: str
    threshold: float
    """For `pixelwise predict --threshold`."""
    dice: float | None
    sensitivity: float | None
    specificity: float | None
    precision: float | None


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
    """F1 of predicted boundaries, compared with those of the masks."""
    per_class: Mapping[str, ClassScores]
    """Class name → its scores."""
    binary: BinaryScores | None
    """Scores of the foreground; None unless there are two classes."""
    confusion: Sequence[Sequence[int]]
    """Numbers of pixels; rows for the classes of the masks, columns for predicted classes."""
    num_images: int
    split: str
    """Split that was scored; "all" for a dataset without splits."""
    model: str
    data: str
    threshold: float | None = None
    """Probability from which on pixels were labeled foreground; None: they got the most probable class."""
    chosen_threshold: ChosenThreshold | None = None
    """None unless a threshold was to be chosen; the other scores do not use it."""

    def __repr__(self) -> str:
        score = "-" if self.mean_iou is None else f"{self.mean_iou:.4f}"
        return f"EvaluationResult(mean_iou={score}, split={self.split!r}, num_images={self.num_images})"

    @classmethod
    def from_scores(
        cls,
        scores: Mapping[str, Any],
        *,
        split: str,
        model: str,
        data: str,
        threshold: float | None = None,
        chosen_threshold: ChosenThreshold | None = None,
    ) -> "EvaluationResult":
        """Build from the dictionary of `pixelwise.metrics.compute_scores`."""
        per_class = {name: ClassScores(**row) for name, row in scores["per_class"].items()}
        binary = None if scores["binary"] is None else BinaryScores(**scores["binary"])
        return cls(
            **{**scores, "per_class": per_class, "binary": binary},
            split=split,
            model=model,
            data=data,
            threshold=threshold,
            chosen_threshold=chosen_threshold,
        )

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, as `evaluate --json` writes them."""
        return asdict(self)
