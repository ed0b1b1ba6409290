"""Training curves as inline SVG in the colors of the page, light or dark."""

import io
import itertools
import re
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any, Literal

import matplotlib
import numpy as np
from matplotlib.figure import Figure

Curve = tuple[Sequence[float], Sequence[float], str, str]
"""x, y, color, and a label or "". Curves with a label have markers and values between 0 and 1."""

COLORS = {
    "currentColor": "#010200",
    "var(--pale)": "#010201",
    "var(--blue)": "#010202",
    "var(--orange)": "#010203",
    "var(--violet)": "#010205",
}
"""Color of the page → its stand-in for Matplotlib, which knows no CSS variables."""

MAX_POINTS = 600
"""Largest number of points of a curve: about one per pixel."""

# Without metadata the same curves give the same file, and it names no address.
_NO_METADATA = dict.fromkeys(("Date", "Creator", "Format", "Type"))


def plot_training(metrics: Sequence[Mapping[str, Any]], x_axis: Literal["minutes", "steps"]) -> list[str]:
    """Plot the lines of metrics.jsonl: loss, with `x_axis="steps"` the learning rate, and validation scores."""
    scale, key = (60, "seconds") if x_axis == "minutes" else (1, "step")
    steps = [line for line in metrics if "loss" in line]
    evaluations = [line for line in metrics if "val" in line]
    pale, blue, orange, violet = (COLORS[f"var(--{name})"] for name in ("pale", "blue", "orange", "violet"))
    charts = []
    if len(steps) > 1:
        x, losses, rates = (thin([line[name] for line in steps]) for name in (key, "loss", "lr"))
        x = [value / scale for value in x]
        charts.append(plot_chart("Training loss", [(x, losses, pale, ""), (x, smooth(losses), blue, "")], x_axis))
        if x_axis == "steps":
            charts.append(plot_chart("Learning rate", [(x, rates, violet, "")], x_axis))
    if evaluations:
        x = [line[key] / scale for line in evaluations]
        curves: list[Curve] = [
            (x, [line["val"][name] or 0.0 for line in evaluations], color, label)
            for name, color, label in (("mean_iou", orange, "mean IoU"), ("global_accuracy", blue, "global accuracy"))
        ]
        charts.append(plot_chart("Validation", curves, x_axis))
    return charts


def plot_chart(title: str, curves: Sequence[Curve], x_label: str) -> str:
    """Plot curves in one SVG element without a background, in the colors of the page."""
    ink = COLORS["currentColor"]
    style: dict[Any, Any] = {
        "svg.fonttype": "none",
        "svg.hashsalt": "pixelwise",
        "font.family": "sans-serif",
        "font.size": 9,
        **dict.fromkeys(("text.color", "axes.edgecolor", "axes.labelcolor", "axes.titlecolor"), ink),
        **dict.fromkeys(("xtick.color", "ytick.color", "grid.color"), ink),
    }
    with matplotlib.rc_context(style):
        figure = Figure(figsize=(4.2, 2.5))
        axes = figure.add_axes((0.12, 0.18, 0.85, 0.7))  # a computed layout would take as long as the drawing
        for (x, y, color, label), marker in zip(curves, itertools.cycle("os")):
            axes.plot(x, y, color=color, label=label or None, marker=marker if label else None, markersize=3)
        axes.set_title(title, loc="left", fontsize=10)
        axes.set_xlabel(x_label)
        axes.ticklabel_format(axis="y", scilimits=(-2, 4))
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
        if any(label for *_, label in curves):
            axes.set_ylim(0, 1)
            axes.legend(frameon=False, loc="best")
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", transparent=True, metadata=_NO_METADATA)
    text = buffer.getvalue()
    text = text[text.index("<svg") :].replace("<svg ", f'<svg role="img" aria-label="{escape(title)}" ', 1)
    text = re.sub(r' id="(?![mp][0-9a-f]{10}")[^"]*"', "", text)  # of groups: a page would have them several times
    text = re.sub(r" font-family: [^;\"]*;", "", text)  # the font of the page
    for color, stand_in in COLORS.items():
        text = text.replace(stand_in, color)
    return text


def smooth(values: Sequence[float]) -> list[float]:
    """Return the running mean over a tenth of the values, a twentieth on each side."""
    width = max(1, len(values) // 20)
    padded = np.pad(values, width, mode="edge")
    kernel = np.ones(2 * width + 1) / (2 * width + 1)
    return np.convolve(padded, kernel, "valid").tolist()  # type: ignore[no-any-return]


def thin(values: Sequence[float]) -> list[float]:
    """Return means of neighboring values, at most `MAX_POINTS`."""
    count = -(-len(values) // MAX_POINTS)
    return [float(np.mean(values[i : i + count])) for i in range(0, len(values), max(count, 1))]
