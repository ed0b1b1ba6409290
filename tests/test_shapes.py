import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pixelwise.shapes import center_crop, padding_to_multiple, round_up

SIDES = st.integers(1, 500)


@pytest.mark.parametrize(
    ("value", "multiple", "expected"),
    [(45, 16, 48), (48, 16, 48), (0, 16, 0), (1, 32, 32), (7, 1, 7)],
)
def test_round_up(value: int, multiple: int, expected: int) -> None:
    assert round_up(value, multiple) == expected


@given(SIDES, st.integers(1, 64))
def test_round_up_is_the_smallest_multiple_that_holds_the_value(value: int, multiple: int) -> None:
    rounded = round_up(value, multiple)
    assert rounded % multiple == 0
    assert value <= rounded < value + multiple


@pytest.mark.parametrize(
    ("size", "multiple", "expected"),
    [((360, 480), 16, (8, 0)), ((1, 33), 32, (31, 31)), ((64, 64), 32, (0, 0))],
)
def test_padding_to_multiple(size: tuple[int, int], multiple: int, expected: tuple[int, int]) -> None:
    assert padding_to_multiple(size, multiple) == expected


def test_center_crop_drops_the_same_at_each_side() -> None:
    assert center_crop((64, 64), (56, 60)) == (slice(4, 60), slice(2, 62))


@given(SIDES, SIDES, st.data())
def test_center_crop_has_the_target_size(height: int, width: int, data: st.DataObject) -> None:
    target = data.draw(st.integers(1, height)), data.draw(st.integers(1, width))
    rows, columns = center_crop((height, width), target)
    assert np.zeros((height, width))[rows, columns].shape == target
    assert abs(rows.start - (height - rows.stop)) <= 1
    assert abs(columns.start - (width - columns.stop)) <= 1
