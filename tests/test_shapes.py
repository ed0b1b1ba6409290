import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pixelwise.shapes import (
    center_crop,
    compute_conv_side,
    compute_output_padding,
    compute_pooled_size,
    compute_transposed_conv_side,
    compute_unpooled_sides,
    round_up,
    to_pair,
)

SIDES = st.integers(1, 500)


@pytest.mark.parametrize(
    ("value", "multiple", "expected"),
    [(45, 16, 48), (48, 16, 48), (0, 16, 0), (1, 32, 32), (7, 1, 7)],
)
def test_round_up(value: int, multiple: int, expected: int) -> None:
    assert round_up(value, multiple) == expected


@given(SIDES, st.integers(1, 64))
def test_round_up_returns_smallest_multiple_not_below_value(value: int, multiple: int) -> None:
    rounded = round_up(value, multiple)
    assert rounded % multiple == 0
    assert value <= rounded < value + multiple


def test_center_crop_is_centered() -> None:
    assert center_crop((64, 64), (56, 60)) == (slice(4, 60), slice(2, 62))


@given(SIDES, SIDES, st.data())
def test_center_crop_has_the_target_size(height: int, width: int, data: st.DataObject) -> None:
    target = data.draw(st.integers(1, height)), data.draw(st.integers(1, width))
    rows, columns = center_crop((height, width), target)
    assert np.zeros((height, width))[rows, columns].shape == target
    assert abs(rows.start - (height - rows.stop)) <= 1
    assert abs(columns.start - (width - columns.stop)) <= 1


def test_to_pair() -> None:
    assert to_pair(2) == (2, 2)
    assert to_pair((2, 3)) == (2, 3)


@given(SIDES, st.integers(1, 9), st.integers(1, 5), st.integers(0, 4), st.integers(1, 3))
def test_conv_side_counts_kernel_positions(side: int, kernel: int, stride: int, padding: int, dilation: int) -> None:
    last = side + 2 * padding - dilation * (kernel - 1) - 1
    assert max(compute_conv_side(side, kernel, stride=stride, padding=padding, dilation=dilation), 0) == len(
        range(0, last + 1, stride)
    )


@pytest.mark.parametrize(
    ("side", "kernel", "arguments", "expected"),
    [
        (16, 64, {"stride": 32}, 544),  # FCN-32s at 500x500
        (22, 4, {"stride": 2}, 46),
        (15, 2, {"stride": 2}, 30),
        (4, 3, {}, 6),  # Dumoulin & Visin: i + (k - 1)
        (5, 4, {"padding": 2}, 4),
        (3, 3, {"stride": 2, "padding": 1, "output_padding": 1}, 6),
        (3, 3, {"dilation": 2}, 7),
    ],
)
def test_transposed_conv_side(side: int, kernel: int, arguments: dict[str, int], expected: int) -> None:
    assert compute_transposed_conv_side(side, kernel, **arguments) == expected


@given(SIDES, st.integers(1, 9), st.integers(1, 5), st.integers(0, 4), st.integers(1, 3))
def test_transposed_conv_side_inverts_conv_side(
    side: int, kernel: int, stride: int, padding: int, dilation: int
) -> None:
    small = compute_conv_side(side, kernel, stride=stride, padding=padding, dilation=dilation)
    added = compute_output_padding(side, kernel, stride=stride, padding=padding, dilation=dilation)
    back = compute_transposed_conv_side(
        small, kernel, stride=stride, padding=padding, dilation=dilation, output_padding=added
    )
    assert back == side
    assert 0 <= added < stride


def test_pooled_size_of_segnet() -> None:
    sizes = [compute_pooled_size((side, 60), 2, ceil_mode=True)[0] for side in (360, 180, 90, 45, 23)]
    assert sizes == [180, 90, 45, 23, 12]
    assert compute_pooled_size((45, 60), 2) == (22, 30)
    assert compute_pooled_size((1, 5), 3) == (0, 1)


def test_unpooled_sides() -> None:
    assert list(compute_unpooled_sides(23, 2)) == [45, 46, 47]
    assert list(compute_unpooled_sides(1, 3)) == [1, 2, 3, 4, 5]


@given(st.integers(0, 60), st.integers(2, 15))
def test_unpooled_sides_are_those_that_pooling_takes_there(pooled: int, kernel: int) -> None:
    legal = compute_unpooled_sides(pooled, kernel)
    for side in range((pooled + 2) * kernel):
        assert (side in legal) == (pooled in (side // kernel, -(-side // kernel)))
