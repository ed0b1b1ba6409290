"""`folds.html`: mean and standard deviation of the scores of several folds, and one confusion matrix of all images."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pixelwise.data.classes import Classes, find_foreground
from pixelwise.data.visualization import to_css_color
from pixelwise.files import write_atomically
from pixelwise.metrics import ConfusionMatrix, compute_scores
from pixelwise.reports.html import SCORE_TITLES, build_confusion_table, format_percent, render_page

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


def write_folds_report(path: Path, title: str, summary: Scores, classes: Classes) -> None:
    """Write the report atomically.

    Args:
        summary: the result of `summarize_folds`.
    """
    folds, pooled = summary["folds"], summary["pooled"]
    rows = [(name, f"{name}/report.html", scores) for name, scores in folds.items()]
    values = {
        "title": title,
        "num_images": pooled["num_images"],
        "cards": [(title, format_spread(summary, key), "") for key, title in SCORE_TITLES.items()],
        "columns": list(SCORE_TITLES.values()),
        "folds": list(folds),
        "fold_rows": [
            {
                "name": name,
                "link": link,
                "images": scores["num_images"],
                "cells": [format_percent(scores.get(key)) for key in SCORE_TITLES],
            }
            for name, link, scores in (*rows, ("all images", None, pooled))
        ],
        "class_rows": [
            {
                "name": name,
                "color": to_css_color(color),
                "spread": format_spread(summary, "iou", name),
                "cells": [format_percent(scores["per_class"][name]["iou"]) for scores in (*folds.values(), pooled)],
                "pixels": f"{pooled['per_class'][name]['pixels']:,}",
            }
            for name, color in zip(classes.names, classes.colors, strict=True)
        ],
        "confusion": build_confusion_table(classes, np.array(pooled["confusion"])),
    }
    write_atomically(path, render_page("cross_validation_report.html.jinja", values))


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
