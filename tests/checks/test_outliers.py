import numpy as np
import pytest

from pixelwise.checks.outliers import MIN_VALUES, find_reversed, is_consistent

RNG = np.random.default_rng(0)
USUAL = 40 + RNG.normal(0, 8, 50)


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("count", [1, 4])
def test_the_negative_of_the_usual_is_found(sign: int, count: int) -> None:
    values = sign * USUAL
    values[:count] *= -1
    assert np.flatnonzero(find_reversed(values, 1.0)).tolist() == list(range(count))


def test_what_is_usual_or_merely_far_is_not() -> None:
    assert not find_reversed(USUAL, 1.0).any()
    assert not find_reversed(np.append(USUAL, [200, 0, -5]), 1.0).any()


def test_nothing_is_judged_by_few_or_by_a_crowd_around_zero() -> None:
    few = np.array([40.0] * (MIN_VALUES - 2) + [-40.0])
    assert not is_consistent(few, 1.0)
    assert not find_reversed(few, 1.0).any()
    assert find_reversed(np.append(few, 40.0), 1.0).sum() == 1
    assert not is_consistent(RNG.normal(10, 8, 100), 1.0)
    assert not find_reversed(np.append(RNG.normal(10, 8, 100), -60), 1.0).any()


def test_small_differences_mean_nothing() -> None:
    """Without a floor, a set of equal values would be consistent about rounding."""
    values = np.append(np.full(20, 0.1), -0.1)
    assert find_reversed(values, 0.0).sum() == 1
    assert not find_reversed(values, 1.0).any()


def test_among_many_the_farthest_sound_one_lies_farther_off() -> None:
    """Of 100 values one so far off is told; of 10,000 a few are as far by nature."""
    wide = np.random.default_rng(1).normal(0.55, 0.18, 10_000)
    borderline, plain = -0.36, -0.9
    for count, found in ((100, [True, True]), (10_000, [False, True])):
        values = np.append(wide[:count], [borderline, plain])
        assert find_reversed(values, 0.02)[-2:].tolist() == found
        assert not find_reversed(values, 0.02)[:-2].any()
