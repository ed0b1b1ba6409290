"""Render HTML pages from the templates of this package: scores as cards and tables, confusion matrices."""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

import jinja2
import numpy as np

from pixelwise.data.classes import Classes
from pixelwise.data.io.images import Array
from pixelwise.evaluation.result import BINARY_SCORES
from pixelwise.progress import format_percent
from pixelwise.reports.thumbnails import Panel

SCORE_TITLES = {
    "mean_iou": "mean IoU",
    "global_accuracy": "global accuracy",
    "mean_class_accuracy": "mean class accuracy",
    "mean_dice": "mean Dice",
    "boundary_f1": "boundary F1",
}
"""Key of `metrics.compute_scores` → title."""

SCORE_EXPLANATIONS = {
    "mean_iou": "overlap of prediction and truth, averaged over the classes",
    "global_accuracy": "share of pixels with the right class",
    "mean_class_accuracy": "share of each class that was found, averaged",
    "mean_dice": "twice the overlap over the sum of both areas, averaged",
    "boundary_f1": "boundary pixels within 0.75 % of the image diagonal",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """A cell of a table: a number with its text, or only text."""

    text: str
    value: float | None = None
    """The number to sort by; None: undefined, which is always last."""
    is_text: bool = False
    """Sort by the text."""
    color: str = ""
    """CSS color of a swatch before the text."""
    bar: float | None = None
    """Length of a bar below the text, from 0 to 1."""
    link: str = ""
    pictures: tuple[Panel, ...] = ()
    """Pictures above the text."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """A table of a page; on a phone, each row becomes a block."""

    titles: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]

    @property
    def text_columns(self) -> list[bool]:
        """For each column, whether it holds text."""
        return [any(row[i].is_text for row in self.rows) for i in range(len(self.titles))]


def build_table(columns: Mapping[str, Callable[..., Cell | None]], items: Iterable[object], *context: object) -> Table:
    """Build a table with a row for each item.

    Args:
        columns: title → function of an item (and of `context`) that returns its cell. A column without any cell is
            left out.
    """
    rows = [[build(item, *context) for build in columns.values()] for item in items]
    used = [i for i in range(len(columns)) if any(row[i] for row in rows)]
    titles = list(columns)
    return Table(
        titles=tuple(titles[i] for i in used),
        rows=tuple(tuple(row[i] or Cell(text="–") for i in used) for row in rows),
    )


def make_score_cell(fraction: float | None, *, has_bar: bool = False) -> Cell:
    """Return the cell of a score."""
    value = None if fraction is None or math.isnan(fraction) else float(fraction)
    return Cell(text=format_percent(value), value=value, bar=(value or 0.0) if has_bar else None)


def make_count_cell(number: int) -> Cell:
    """Return the cell of a number of images or pixels."""
    return Cell(text=f"{number:,}", value=number)


def make_score_cards(scores: Mapping[str, Any], threshold: float | None = None) -> list[tuple[str, str, str]]:
    """Return title, value and explanation of the scores of a dataset, and of the foreground of two classes.

    Args:
        scores: The result of `metrics.compute_scores`.
        threshold: Probability from which on pixels were labeled foreground.
    """
    cards = [
        (title, format_percent(scores[key]), SCORE_EXPLANATIONS[key])
        for key, title in SCORE_TITLES.items()
        if key in scores
    ]
    if binary := scores.get("binary"):
        cards += [
            (f"{title} of {binary['name']}", format_percent(binary[key]), explanation)
            for key, (title, explanation) in BINARY_SCORES.items()
        ]
        if threshold is not None:
            cards.append(
                ("threshold", f"{threshold:g}", f"probability from which on a pixel is labeled {binary['name']}")
            )
    return cards


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
