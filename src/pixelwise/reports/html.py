"""Render HTML pages from the templates of this package, with scores as text and tables."""

import math
from collections.abc import Mapping
from importlib.resources import files
from typing import Any

import jinja2
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


def render_page(template: str, values: Mapping[str, Any]) -> bytes:
    """Render a template; values are escaped, and a missing value is an error."""
    folder = files("pixelwise.reports")
    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(lambda name: folder.joinpath(name).read_text(encoding="utf-8")),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    # File names may not be UTF-8; their other bytes become question marks.
    return environment.get_template(template).render(values).encode("utf-8", "replace")


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
