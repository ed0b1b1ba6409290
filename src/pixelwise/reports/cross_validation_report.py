"""Several folds together: mean and spread of their scores, and one confusion matrix over all their images."""

from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import jinja2
import numpy as np

from pixelwise.data.classes import Classes
from pixelwise.files import write_atomically
from pixelwise.metrics import ConfusionMatrix, compute_scores
from pixelwise.reports.training_report import confusion_table, percent

Scores = Mapping[str, Any]

SHOWN = {
    "mean_iou": "mean IoU",
    "global_accuracy": "global accuracy",
    "mean_class_accuracy": "mean class accuracy",
    "mean_dice": "mean Dice",
    "boundary_f1": "boundary F1",
}


def summarize(folds: Mapping[str, Scores]) -> dict[str, Any]:
    """Of the scores of each fold on its validation images, as `metrics.scores` gives them:

    `folds`: those scores. `mean` and `std` (standard deviation over the folds, divided by
    n - 1; None for fewer than two): `mean_iou, global_accuracy, mean_class_accuracy, mean_dice,
    boundary_f1` and `per_class` (name → `iou`), over the folds in which they are defined. `pooled`:
    the scores of the folds' confusion matrices added up; boundaries are not in them.
    """
    each = list(folds.values())
    names = list(each[0]["per_class"])
    matrices = [ConfusionMatrix.from_counts(fold["confusion"]) for fold in each]
    confusion = sum(matrices[1:], start=matrices[0])
    pooled = compute_scores(confusion, None, names, num_images=sum(fold["num_images"] for fold in each))
    del pooled["boundary_f1"]
    return {
        "folds": dict(folds),
        "mean": _over_folds(each, names, lambda values: float(np.mean(values)) if values else None),
        "std": _over_folds(each, names, lambda values: float(np.std(values, ddof=1)) if values[1:] else None),
        "pooled": pooled,
    }


def _over_folds(folds: Sequence[Scores], names: Sequence[str], take: Any) -> dict[str, Any]:
    return {
        **{key: take([fold[key] for fold in folds if fold[key] is not None]) for key in SHOWN},
        "per_class": {name: {"iou": take(_ious(folds, name))} for name in names},
    }


def _ious(folds: Sequence[Scores], name: str) -> list[float]:
    found = (fold["per_class"][name]["iou"] for fold in folds)
    return [iou for iou in found if iou is not None]


def write_fold_report(path: Path, title: str, summary: Scores, classes: Classes) -> None:
    """`folds.html`: one offline page, written whole or not at all."""
    template = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined).from_string(
        files("pixelwise.reports").joinpath("cross_validation_report.html.jinja").read_text(encoding="utf-8")
    )
    page = template.render(
        title=title,
        num_images=summary["pooled"]["num_images"],
        cards=[(SHOWN[key], spread(summary, key)) for key in SHOWN],
        fold_rows=_fold_rows(summary),
        class_rows=_class_rows(summary, classes),
        confusion=confusion_table(classes, np.array(summary["pooled"]["confusion"])),
        columns=list(SHOWN.values()),
        folds=list(summary["folds"]),
    )
    write_atomically(path, page.encode())


def spread(summary: Scores, key: str, name: str | None = None) -> str:
    """`71.2 ± 3.4 %`, of a score or of the IoU of a class."""
    mean, std = summary["mean"], summary["std"]
    if name is not None:
        mean, std = mean["per_class"][name], std["per_class"][name]
    if mean[key] is None or std[key] is None:
        return percent(mean[key])
    return f"{100 * mean[key]:.1f} ± {percent(std[key])}"


def _fold_rows(summary: Scores) -> list[dict[str, Any]]:
    rows = [
        {"name": name, "link": f"{name}/report.html", "images": fold["num_images"], "cells": _cells(fold)}
        for name, fold in summary["folds"].items()
    ]
    pooled = summary["pooled"]
    everything = {"name": "all images together", "link": None, "images": pooled["num_images"], "cells": _cells(pooled)}
    return [*rows, everything]


def _cells(fold: Scores) -> list[str]:
    return [percent(fold.get(key)) for key in SHOWN]


def _class_rows(summary: Scores, classes: Classes) -> list[dict[str, Any]]:
    return [
        {
            "name": name,
            "color": "rgb({}, {}, {})".format(*color),
            "spread": spread(summary, "iou", name),
            "cells": [percent(fold["per_class"][name]["iou"]) for fold in summary["folds"].values()],
            "pooled": percent(summary["pooled"]["per_class"][name]["iou"]),
            "pixels": f"{summary['pooled']['per_class'][name]['pixels']:,}",
        }
        for name, color in zip(classes.names, classes.colors, strict=True)
    ]
