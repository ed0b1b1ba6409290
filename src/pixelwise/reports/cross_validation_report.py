"""`folds.html`: mean and standard deviation of the scores of several folds, and one confusion matrix of all images."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from pixelwise.data.classes import Classes, find_foreground
from pixelwise.data.visualization import list_css_colors
from pixelwise.files import write_atomically
from pixelwise.metrics import ConfusionMatrix, compute_scores
from pixelwise.progress import format_percent
from pixelwise.reports.commands import ModelCommands
from pixelwise.reports.html import (
    SCORE_TITLES,
    Cell,
    build_confusion_table,
    build_table,
    make_count_cell,
    make_score_cell,
    render_page,
)
from pixelwise.reports.verdict import VerdictFacts, judge

Scores = Mapping[str, Any]


def summarize_folds(folds: Mapping[str, Scores]) -> dict[str, Any]:
    """Combine the scores of folds.

    Args:
        folds: name → scores on the validation images of the fold, as `metrics.compute_scores` returns them.

    Returns:
        A dictionary with these keys:

        - `folds`: the argument.
        - `mean` and `std` over the folds where a score is defined: `mean_iou, global_accuracy, mean_class_accuracy,
          mean_dice, boundary_f1` and `per_class` (name → `iou`). `std` divides by n - 1 and is None for one fold.
        - `pooled`: scores of the sum of the confusion matrices, without `boundary_f1`.
    """
    all_scores = list(folds.values())
    names = list(all_scores[0]["per_class"])
    matrices = [ConfusionMatrix.from_counts(scores["confusion"]) for scores in all_scores]
    confusion = sum(matrices[1:], start=matrices[0])
    num_images = sum(scores["num_images"] for scores in all_scores)
    pooled = compute_scores(confusion, None, names, num_images=num_images, foreground=find_foreground(names))
    del pooled["boundary_f1"]
    return {
        "folds": dict(folds),
        "mean": _combine(all_scores, names, lambda values: float(np.mean(values)) if values else None),
        "std": _combine(all_scores, names, lambda values: float(np.std(values, ddof=1)) if values[1:] else None),
        "pooled": pooled,
    }


def write_folds_report(path: Path, title: str, summary: Scores, classes: Classes, commands: ModelCommands) -> None:
    """Write the report atomically.

    Args:
        summary: the result of `summarize_folds`.
        commands: commands for the dataset.
    """
    folds, pooled = summary["folds"], summary["pooled"]
    facts = VerdictFacts(scores=pooled, split="val", commands=commands, image_scores={})
    rows = [*((name, f"{name}/report.html", scores) for name, scores in folds.items()), ("all images", "", pooled)]
    fold_columns: dict[str, Callable[[tuple[str, str, Scores]], Cell]] = {
        "fold": lambda row: Cell(text=row[0], is_text=True, link=row[1]),
        "images": lambda row: make_count_cell(row[2]["num_images"]),
        **{title: partial(_make_fold_cell, key) for key, title in SCORE_TITLES.items()},
    }
    names = list(pooled["per_class"])
    colors = dict(zip(names, list_css_colors(classes), strict=True))
    class_columns: dict[str, Callable[[str], Cell]] = {
        "class": lambda name: Cell(text=name, is_text=True, color=colors[name]),
        "mean ± std": lambda name: Cell(
            text=format_spread(summary, "iou", name), value=summary["mean"]["per_class"][name]["iou"]
        ),
        **{fold: partial(_make_class_cell, scores) for fold, scores in folds.items()},
        "all images": partial(_make_class_cell, pooled),
        "pixels": lambda name: make_count_cell(pooled["per_class"][name]["pixels"]),
    }
    values = {
        "title": title,
        "num_images": pooled["num_images"],
        "num_folds": len(folds),
        "verdict": judge(facts),
        "cards": [(title, format_spread(summary, key), "") for key, title in SCORE_TITLES.items()],
        "folds": build_table(fold_columns, rows),
        "classes": build_table(class_columns, names),
        "confusion": build_confusion_table(classes, np.array(pooled["confusion"])),
    }
    write_atomically(path, render_page("cross_validation_report.html.jinja", values))


def _make_fold_cell(key: str, row: tuple[str, str, Scores]) -> Cell:
    return make_score_cell(row[2].get(key))


def _make_class_cell(scores: Scores, name: str) -> Cell:
    return make_score_cell(scores["per_class"][name]["iou"])


def format_spread(summary: Scores, key: str, class_name: str | None = None) -> str:
    """Return `71.2 ± 3.4 %` for a score, or for a score of a class."""
    mean, std = summary["mean"], summary["std"]
    if class_name is not None:
        mean, std = mean["per_class"][class_name], std["per_class"][class_name]
    if mean[key] is None or std[key] is None:
        return format_percent(mean[key])
    return f"{100 * mean[key]:.1f} ± {100 * std[key]:.1f} %"


def _combine(
    all_scores: Sequence[Scores], names: Sequence[str], reduce: Callable[[list[float]], float | None]
) -> dict[str, Any]:
    ious = {name: [scores["per_class"][name]["iou"] for scores in all_scores] for name in names}
    return {
        **{key: reduce([s[key] for s in all_scores if s[key] is not None]) for key in SCORE_TITLES},
        "per_class": {name: {"iou": reduce([v for v in values if v is not None])} for name, values in ious.items()},
    }
