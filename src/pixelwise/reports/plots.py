"""Training curves as inline SVG in the colors of the page, light or dark."""

import itertools
import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any, Literal

import numpy as np

Curve = tuple[Sequence[float], Sequence[float], str, str]
"""x, y, CSS color, and a label or "". Curves with a label have markers and values between 0 and 1."""

MAX_POINTS = 600
"""Largest number of points of a curve: about one per pixel."""

WIDTH, HEIGHT = 420, 250
LEFT, RIGHT, TOP, BOTTOM = 58, 394, 40, 206
"""Sides of the area of the curves, in pixels."""
MARKERS = (
    ("●", "M{x:.1f} {y:.1f}m-2.5 0a2.5 2.5 0 1 0 5 0a2.5 2.5 0 1 0-5 0"),
    ("■", "M{x:.1f} {y:.1f}m-2.5-2.5h5v5h-5z"),
)
"""Sign in the legend and path of the markers of the first and of the second curve."""


def plot_training(metrics: Sequence[Mapping[str, Any]], x_axis: Literal["minutes", "steps"]) -> list[str]:
    """Plot the lines of metrics.jsonl: loss, with `x_axis="steps"` the learning rate, and validation scores."""
    scale, key = (60, "seconds") if x_axis == "minutes" else (1, "step")
    steps = [line for line in metrics if "loss" in line]
    evaluations = [line for line in metrics if "val" in line]
    charts = []
    if len(steps) > 1:
        x, losses, rates = (thin([line[name] for line in steps]) for name in (key, "loss", "lr"))
        x = [value / scale for value in x]
        curves: list[Curve] = [(x, losses, "var(--pale)", ""), (x, smooth(losses), "var(--blue)", "")]
        charts.append(plot_chart("Training loss", curves, x_axis))
        if x_axis == "steps":
            charts.append(plot_chart("Learning rate", [(x, rates, "var(--violet)", "")], x_axis))
    if evaluations:
        x = [line[key] / scale for line in evaluations]
        titles = {"mean_iou": ("var(--orange)", "mean IoU"), "global_accuracy": ("var(--blue)", "global accuracy")}
        curves = [
            (x, [line["val"][name] or 0.0 for line in evaluations], color, label)
            for name, (color, label) in titles.items()
        ]
        charts.append(plot_chart("Validation", curves, x_axis))
    return charts


def plot_chart(title: str, curves: Sequence[Curve], x_label: str) -> str:
    """Plot curves in one SVG element without a background, in the font and the colors of the page."""
    x_low, x_high = _find_limits([x for xs, *_ in curves for x in xs])
    y_low, y_high = (
        (0.0, 1.0) if any(label for *_, label in curves) else _find_limits([y for _, ys, *_ in curves for y in ys])
    )

    def to_x(value: float) -> float:
        return LEFT + (value - x_low) / (x_high - x_low) * (RIGHT - LEFT)

    def to_y(value: float) -> float:
        return BOTTOM - (value - y_low) / (y_high - y_low) * (BOTTOM - TOP)

    axes, labels = [f"M{LEFT} {TOP}V{BOTTOM}H{RIGHT}"], []
    for text, value in choose_ticks(y_low, y_high):
        axes.append(f"M{LEFT} {to_y(value):.1f}H{RIGHT}")
        labels.append(f'<text x="{LEFT - 6}" y="{to_y(value) + 4:.1f}" text-anchor="end">{text}</text>')
    for text, value in choose_ticks(x_low, x_high):
        axes.append(f"M{to_x(value):.1f} {TOP}V{BOTTOM}")
        labels.append(f'<text x="{to_x(value):.1f}" y="{BOTTOM + 16}" text-anchor="middle">{text}</text>')
    lines, legend = [], []
    for (xs, ys, color, label), (sign, draw) in zip(curves, itertools.cycle(MARKERS), strict=False):
        points = [(to_x(x), to_y(y)) for x, y in zip(xs, ys, strict=True) if math.isfinite(y)]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        lines.append(f'<polyline points="{path}" fill="none" stroke="{color}" stroke-width="1.5"/>')
        if label:
            lines.append(f'<path d="{"".join(draw.format(x=x, y=y) for x, y in points)}" fill="{color}"/>')
            legend.append(f'<tspan fill="{color}">{sign}</tspan> {escape(label)}')
    return (
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" role="img" aria-label="{escape(title)}" font-size="12" '
        f'fill="currentColor"><text x="{LEFT}" y="18" font-size="14">{escape(title)}</text>'
        f'<text x="{RIGHT}" y="18" text-anchor="end">{" ".join(legend)}</text>'
        f'<path d="{axes[0]}" fill="none" stroke="currentColor"/>'
        f'<path d="{"".join(axes[1:])}" stroke="currentColor" opacity="0.2"/>{"".join(labels + lines)}'
        f'<text x="{(LEFT + RIGHT) / 2:g}" y="{HEIGHT - 8}" text-anchor="middle">{escape(x_label)}</text></svg>'
    )


def _find_limits(values: Sequence[float]) -> tuple[float, float]:
    """Return the smallest and the largest finite value; an interval around a single one."""
    finite = [value for value in values if math.isfinite(value)] or [0.0]
    low, high = min(finite), max(finite)
    return (low, high) if low < high else (low - abs(low) / 2 - 1e-9, high + abs(high) / 2 + 1e-9)


def choose_ticks(low: float, high: float) -> list[tuple[str, float]]:
    """Return text and value of at most six ticks, at multiples of 1, 2 or 5 times a power of ten.

    Example:
        >>> [text for text, _ in choose_ticks(0, 20_000)]
        ['0', '5,000', '10,000', '15,000', '20,000']
    """
    power = 10 ** math.floor(math.log10((high - low) / 5))
    step = next(factor * power for factor in (1, 2, 5, 10) if (high - low) / (factor * power) <= 5)
    ticks = [number * step for number in range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)]
    return [(f"{tick:,.10g}", tick) for tick in ticks]


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
