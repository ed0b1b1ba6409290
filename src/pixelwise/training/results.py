"""Results of `train`. This module does not import PyTorch."""

import html
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SCORE_NAMES = ("mean_iou", "global_accuracy", "mean_class_accuracy", "mean_dice", "boundary_f1")


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainResult:
    """A finished run. In a notebook it shows its scores and its curves."""

    run: Path
    """Run folder."""
    model: Path
    report: Path
    scores: Mapping[str, Any]
    """Scores on the validation images."""

    def __repr__(self) -> str:
        return f"TrainResult(run={str(self.run)!r}, mean_iou={_format(self.scores.get('mean_iou'))})"

    def read_metrics(self) -> list[dict[str, Any]]:
        """Return the lines of `metrics.jsonl`: a dictionary per report and evaluation, in the order of steps."""
        path = self.run / "metrics.jsonl"
        return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []

    def _repr_html_(self) -> str:
        metrics = self.read_metrics()
        losses = [(line["step"], line["loss"]) for line in metrics if "loss" in line]
        scores = [(line["step"], line["val"]["mean_iou"] or 0.0) for line in metrics if "val" in line]
        curves = _draw_curve("training loss", losses) + _draw_curve("validation mean IoU", scores)
        return f"<p><b>Run</b> {_escape(self.run)}</p>{_draw_rows(_score_rows(self.scores))}{curves}"


@dataclass(frozen=True, slots=True, kw_only=True)
class CrossValidationResult:
    """The finished runs of a cross-validation. In a notebook it shows mean and standard deviation of the scores."""

    run: Path
    """Folder of all folds."""
    folds: tuple[Path, ...]
    """Run folder of each fold."""
    report: Path
    scores: Mapping[str, Any]
    """`folds`, `mean`, `std`, `pooled`; see `pixelwise.reports.cross_validation_report.summarize`."""

    def __repr__(self) -> str:
        mean, std = (_format(self.scores[name]["mean_iou"]) for name in ("mean", "std"))
        return f"CrossValidationResult(run={str(self.run)!r}, folds={len(self.folds)}, mean_iou={mean} ± {std})"

    def _repr_html_(self) -> str:
        std = dict(_score_rows(self.scores["std"]))
        rows = [(name, f"{value} ± {std[name]}") for name, value in _score_rows(self.scores["mean"])]
        return f"<p><b>{len(self.folds)} folds</b> {_escape(self.run)}</p>{_draw_rows(rows)}"


def _format(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def _score_rows(scores: Mapping[str, Any]) -> list[tuple[str, str]]:
    return [(name.replace("_", " "), _format(scores[name])) for name in SCORE_NAMES if name in scores]


def _escape(text: object) -> str:
    return html.escape(str(text))


def _draw_rows(rows: list[tuple[str, str]]) -> str:
    cells = "".join(f"<tr><td>{_escape(name)}</td><td>{_escape(value)}</td></tr>" for name, value in rows)
    return f"<table>{cells}</table>"


def _draw_curve(label: str, points: list[tuple[float, float]], width: int = 360, height: int = 120) -> str:
    """Return an SVG line chart; empty if there are fewer than two points."""
    if len(points) < 2:
        return ""
    (left, right), (low, high) = ((min(values), max(values)) for values in zip(*points, strict=True))
    corners = " ".join(
        f"{(x - left) / max(right - left, 1e-9) * width:.1f},{height - (y - low) / max(high - low, 1e-9) * height:.1f}"
        for x, y in points
    )
    return (
        f'<figure style="display:inline-block"><svg width="{width}" height="{height}" '
        f'viewBox="0 0 {width} {height}"><polyline fill="none" stroke="#1f77b4" stroke-width="1.5" '
        f'points="{corners}"/></svg><figcaption>{label}: {low:.3g} to {high:.3g}, step {left:g} to {right:g}'
        f"</figcaption></figure>"
    )
