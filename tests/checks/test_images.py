import numpy as np
import pytest

from pixelwise.checks.images import MIN_VALUES, find_reversed, is_consistent

RNG = np.random.default_rng(0)
USUAL = 40 + RNG.normal(0, 8, 50)


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("count", [1, 4])
def test_negatives_of_the_median_are_found(sign: int, count: int) -> None:
    values = sign * USUAL
    values[:count] *= -1
    assert np.flatnonzero(find_reversed(values, 1.0)).tolist() == list(range(count))


def test_usual_and_distant_values_are_not_reversed() -> None:
    assert not find_reversed(USUAL, 1.0).any()
    assert not find_reversed(np.append(USUAL, [200, 0, -5]), 1.0).any()


def test_few_values_and_values_around_zero_are_not_tested() -> None:
    few = np.array([40.0] * (MIN_VALUES - 2) + [-40.0])
    assert not is_consistent(few, 1.0)
    assert not find_reversed(few, 1.0).any()
    assert find_reversed(np.append(few, 40.0), 1.0).sum() == 1
    assert not is_consistent(RNG.normal(10, 8, 100), 1.0)
    assert not find_reversed(np.append(RNG.normal(10, 8, 100), -60), 1.0).any()


def test_small_differences_are_ignored() -> None:
    """Without a minimum std, equal values would be consistent except for rounding."""
    values = np.append(np.full(20, 0.1), -0.1)
    assert find_reversed(values, 0.0).sum() == 1
    assert not find_reversed(values, 1.0).any()


def test_the_farthest_of_many_valid_values_is_farther_away() -> None:
    """At this distance, one of 100 values is an outlier, but a few of 10,000 valid ones are as far."""
    wide = np.random.default_rng(1).normal(0.55, 0.18, 10_000)
    borderline, plain = -0.36, -0.9
    for count, found in ((100, [True, True]), (10_000, [False, True])):
        values = np.append(wide[:count], [borderline, plain])
        assert find_reversed(values, 0.02)[-2:].tolist() == found
        assert not find_reversed(values, 0.02)[:-2].any()
