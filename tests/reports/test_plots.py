import pytest

from pixelwise.reports.plots import MAX_POINTS, chart, smooth, thin


def test_a_chart_is_one_picture_that_is_the_same_whenever_it_is_drawn() -> None:
    first, second = (chart("Loss", [([1, 2], [3.0, 4.0], "#000000", "")], "steps") for _ in range(2))
    assert first == second
    assert first.startswith("<svg")
    assert "steps" in first


def test_smooth_keeps_length_and_mean_of_a_line() -> None:
    assert smooth([2.0] * 50) == pytest.approx([2.0] * 50)
    assert len(smooth([1.0, 5.0, 3.0])) == 3


def test_thin_keeps_short_curves_and_takes_means_of_long_ones() -> None:
    assert thin([1.0, 2.0]) == [1.0, 2.0]
    assert thin([]) == []
    long = thin([float(i) for i in range(2 * MAX_POINTS)])
    assert len(long) == MAX_POINTS
    assert long[:2] == [0.5, 2.5]
