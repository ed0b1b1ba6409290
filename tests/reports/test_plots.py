import re
from importlib import resources

import numpy as np
import pytest

from pixelwise.data.colors import VISIONS, to_oklab
from pixelwise.reports.plots import MAX_POINTS, plot_chart, plot_training, smooth, thin

METRICS = [
    {"step": 1, "loss": 2.0, "lr": 0.1, "seconds": 60.0},
    {"step": 2, "loss": 1.0, "lr": 0.1, "seconds": 120.0},
    {"step": 2, "val": {"mean_iou": None, "global_accuracy": 0.5}, "seconds": 120.0},
]


def test_a_chart_is_one_svg_and_reproducible() -> None:
    first, second = (plot_chart("Loss", [([1, 2], [3.0, 4.0], "#000000", "")], "steps") for _ in range(2))
    assert first == second
    assert first.startswith("<svg")
    assert "steps" in first


def test_training_is_plotted_over_minutes_or_steps() -> None:
    loss, validation = plot_training(METRICS, "minutes")
    assert "Training loss" in loss
    assert "minutes" in loss
    assert "global accuracy" in validation
    _, rate, validation = plot_training(METRICS, "steps")
    assert "Learning rate" in rate
    assert "steps" in validation


def test_curves_of_a_chart_differ_for_color_blind_readers() -> None:
    (validation,) = plot_training(METRICS[2:], "minutes")
    assert {"var(--orange)", "var(--blue)"} <= set(re.findall(r"var\(--\w+\)", validation))
    style = (resources.files("pixelwise.reports") / "page.css").read_text()
    oranges, blues = (re.findall(rf"--{name}: #(\w{{6}})", style) for name in ("orange", "blue"))
    assert len(oranges) == len(blues) == 3  # light, dark and print
    for orange, blue in zip(oranges, blues, strict=True):
        for vision in VISIONS:
            a, b = to_oklab([(color[0], color[1], color[2]) for color in map(bytes.fromhex, (orange, blue))], vision)
            assert np.linalg.norm(a - b) > 0.15


def test_without_metrics_there_are_no_charts() -> None:
    assert plot_training([], "minutes") == plot_training(METRICS[:1], "steps") == []


def test_smooth_keeps_length_and_mean_of_a_line() -> None:
    assert smooth([2.0] * 50) == pytest.approx([2.0] * 50)
    assert len(smooth([1.0, 5.0, 3.0])) == 3


def test_thin_keeps_short_curves_and_averages_long_ones() -> None:
    assert thin([1.0, 2.0]) == [1.0, 2.0]
    assert thin([]) == []
    long = thin([float(i) for i in range(2 * MAX_POINTS)])
    assert len(long) == MAX_POINTS
    assert long[:2] == [0.5, 2.5]
