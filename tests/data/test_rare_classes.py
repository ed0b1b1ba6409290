import numpy as np
import pytest

from pixelwise.data.rare_classes import RareClassSampler, find_crop_center, make_rare_class_sampler

COUNTS = np.array([[9600, 0, 0, 0], [6300, 100, 0, 0], [0, 0, 0, 1]])
"""Pixels of four classes in three samples; the third class occurs nowhere."""


def count_draws(draw: RareClassSampler, number: int) -> dict[tuple[int, int] | None, int]:
    drawn = [draw.draw(np.random.default_rng([0, i])) for i in range(number)]
    return {each: drawn.count(each) for each in set(drawn)}


def test_classes_are_drawn_by_the_square_root_of_their_inverse_frequency() -> None:
    draw = make_rare_class_sampler(COUNTS, 1.0)
    # 15,900, 100 and 1 pixels.
    np.testing.assert_allclose(draw.probabilities, np.array([0.00793, 0.1, 0, 1]) / 1.10793, rtol=1e-3)


def test_a_sample_with_the_class_is_drawn() -> None:
    counts = count_draws(make_rare_class_sampler(COUNTS, 1.0), 2000)
    assert counts.keys() == {(0, 0), (1, 0), (1, 1), (2, 3)}
    assert 0.87 < counts[2, 3] / 2000 < 0.94
    assert 0.06 < counts[1, 1] / 2000 < 0.12


@pytest.mark.parametrize("fraction", [0.0, 0.25, 1.0])
def test_a_fraction_of_the_samples_is_drawn_for_a_class(fraction: float) -> None:
    without = count_draws(make_rare_class_sampler(COUNTS, fraction), 1000).get(None, 0)
    assert abs(without / 1000 - (1 - fraction)) < 0.05
    assert fraction not in (0, 1) or without == 1000 * (1 - fraction)


def test_a_crop_center_is_the_middle_of_a_pixel_of_the_class() -> None:
    labels = np.zeros((3, 5), np.uint8)
    labels[0, 4] = labels[2, 1] = 7
    found = {find_crop_center(labels, 7, np.random.default_rng(seed)) for seed in range(20)}
    assert found == {(0.5, 4.5), (2.5, 1.5)}
    assert find_crop_center(labels, 6, np.random.default_rng(0)) is None
