import re
from importlib import resources
from xml.etree import ElementTree

import numpy as np
import pytest

from pixelwise.data.colors import VISIONS, to_oklab
from pixelwise.reports.plots import (
    BOTTOM,
    LEFT,
    MAX_POINTS,
    RIGHT,
    TOP,
    choose_ticks,
    plot_chart,
    plot_training,
    smooth,
    thin,
)

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


def test_curves_fill_the_area_between_the_smallest_and_the_largest_value() -> None:
    curve = ([0, 50, 100], [2e-5, float("nan"), 4e-5], "var(--blue)", "")
    assert f'points="{LEFT}.0,{BOTTOM}.0 {RIGHT}.0,{TOP}.0" fill="none" stroke="var(--blue)"' in plot_chart(
        "Rate", [curve], "steps"
    )


def test_scores_are_drawn_from_0_to_1_with_a_legend() -> None:
    chart = plot_chart("A & B", [([1], [0.5], "red", "mean IoU"), ([1], [1.0], "blue", "F1")], "minutes")
    root = ElementTree.fromstring(chart)
    assert root.attrib["aria-label"] == "A & B"
    markers = [path.attrib["d"] for path in root.iter("path") if path.attrib.get("fill") in ("red", "blue")]
    assert [float(marker.split()[1].partition("m")[0]) for marker in markers] == [(TOP + BOTTOM) / 2, TOP]
    text = " ".join("".join(element.itertext()) for element in root.iter("text"))
    assert "● mean IoU ■ F1" in text
    assert "0 0.2 0.4 0.6 0.8 1" in text


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0, 1, ["0", "0.2", "0.4", "0.6", "0.8", "1"]),
        (0.1, 0.35, ["0.1", "0.15", "0.2", "0.25", "0.3", "0.35"]),
        (0, 3e-5, ["0", "1e-05", "2e-05", "3e-05"]),
        (1, 1234, ["500", "1,000"]),
        (7, 8, ["7", "7.2", "7.4", "7.6", "7.8", "8"]),
    ],
)
def test_ticks_are_round_numbers(low: float, high: float, expected: list[str]) -> None:
    assert [text for text, _ in choose_ticks(low, high)] == expected


@pytest.mark.parametrize("value", [0.0, 0.3, -2.0, float("nan"), 1e9])
def test_a_curve_of_one_value_is_drawn(value: float) -> None:
    assert "nan" not in plot_chart("Loss", [([1, 2], [value, value], "red", "")], "steps")


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
