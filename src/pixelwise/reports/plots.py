"""Curves as inline SVG: of a whole run in the report, of one under way on its live page."""

import io
from collections.abc import Iterable, Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure

Line = tuple[Sequence[float], Sequence[float], str, str]
"""x, y, color, and a label or ""; lines with a label have points, and lie between 0 and 1."""

MAX_POINTS = 600
"""Of a curve on a live page: as many as it has pixels."""

# Without it the picture is the same whenever it is drawn, and refers to no address.
_NO_METADATA = dict.fromkeys(("Date", "Creator", "Format", "Type"))


def chart(title: str, lines: Iterable[Line], x_label: str = "minutes") -> str:
    """One picture, without a background."""
    style: dict[Any, Any] = {
        "svg.fonttype": "none",
        "svg.hashsalt": "pixelwise",
        "font.family": "sans-serif",
        "font.size": 10,
    }
    with matplotlib.rc_context(style):
        figure = Figure(figsize=(5.6, 2.9), layout="constrained")
        axes = figure.add_subplot()
        labeled = False
        for x, y, color, label in lines:
            axes.plot(x, y, color=color, label=label or None, marker="o" if label else None, markersize=4)
            labeled = labeled or bool(label)
        axes.set_title(title, loc="left", fontsize=11)
        axes.set_xlabel(x_label)
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
        if labeled:
            axes.set_ylim(0, 1)
            axes.legend(frameon=False, loc="best")
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", transparent=True, metadata=_NO_METADATA)
    text = buffer.getvalue()
    return text[text.index("<svg") :]


def smooth(values: Sequence[float]) -> list[float]:
    """A running mean over a twentieth of the run."""
    width = max(1, len(values) // 20)
    padded = np.pad(values, width, mode="edge")
    kernel = np.ones(2 * width + 1) / (2 * width + 1)
    return np.convolve(padded, kernel, "valid").tolist()  # type: ignore[no-any-return]


def thin(values: Sequence[float]) -> list[float]:
    """Means of neighbors, so that at most MAX_POINTS are left."""
    count = -(-len(values) // MAX_POINTS)
    return [float(np.mean(values[i : i + count])) for i in range(0, len(values), max(count, 1))]
