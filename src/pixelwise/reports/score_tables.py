"""Scores as the text and tables that several reports show."""

import math
from typing import Any

import numpy as np

from pixelwise.data.classes import Classes
from pixelwise.data.io.images import Array

SCORE_TITLES = {
    "mean_iou": "mean IoU",
    "global_accuracy": "global accuracy",
    "mean_class_accuracy": "mean class accuracy",
    "mean_dice": "mean Dice",
    "boundary_f1": "boundary F1",
}
"""Key of `metrics.compute_scores` → title."""


def format_percent(fraction: float | None) -> str:
    """Return `71.2 %`, two digits below 1 % (`0.034 %`), or a dash if undefined."""
    if fraction is None or math.isnan(fraction):
        return "–"
    return f"{100 * fraction:.2g} %" if 0 < fraction < 0.01 else f"{100 * fraction:.1f} %"


def build_confusion_table(classes: Classes, counts: Array) -> dict[str, Any]:
    """Return the rows of a confusion matrix as shares of the true class, with a color strength for each cell."""
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    rows = [
        {
            "name": name,
            "cells": [
                {
                    "text": f"{100 * share:.0f}" if share >= 0.005 else "",
                    "strength": round(float(share) ** 0.6, 3),
                    "is_correct": i == j,
                }
                for j, share in enumerate(row)
            ],
        }
        for i, (name, row) in enumerate(zip(classes.names, shares, strict=True))
    ]
    return {"names": classes.names, "rows": rows}
