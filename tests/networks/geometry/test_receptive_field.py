import pytest
from hypothesis import given
from hypothesis import strategies as st

from pixelwise.errors import InvalidArgumentError
from pixelwise.networks.geometry.receptive_field import (
    IMAGE,
    ReceptiveField,
    interpolated,
    is_border_outside_image,
    joined,
    repeated,
    through,
    transposed,
    window,
)


@pytest.mark.parametrize(
    ("reads", "positions"),
    [
        (window(3, padding=1), [[-1, 0, 1], [0, 1, 2]]),
        (window(2, stride=2), [[0, 1], [2, 3]]),
        (window(3, stride=2, padding=2, dilation=2), [[-2, 0, 2], [0, 2, 4]]),
        (transposed(2, stride=2), [[0], [0], [1], [1]]),
        (transposed(4, stride=2, padding=1), [[-1, 0], [0, 1], [0, 1]]),
        (transposed(3, stride=2), [[-1, 0], [0], [0, 1]]),
        (transposed(1, stride=2), [[0], [0], [1]]),
        (repeated(3), [[0], [0], [0], [1]]),
        (interpolated(2), [[-1, 0], [0, 1], [0, 1]]),
        (interpolated(3), [[-1, 0], [0], [0, 1]]),
        (interpolated(2, reach=2), [[-2, -1, 0, 1], [-1, 0, 1, 2]]),
    ],
)
def test_what_operations_read(reads, positions):
    assert [reads.of(output) for output in range(len(positions))] == positions


def test_phases_of_an_upsampled_map_differ():
    halved = through(IMAGE, window(2, stride=2))
    assert halved == ReceptiveField(2, ((0, 1),))
    grown = through(halved, repeated(2))
    assert grown == ReceptiveField(2, ((0, 1), (0, 1)))
    # A bound from kernels and strides alone would say 5 pixels for both phases.
    assert through(grown, window(3, padding=1)) == ReceptiveField(2, ((-2, 1), (0, 3)))


def test_reading_every_second_of_an_upsampled_map_restores_the_stride():
    assert through(through(IMAGE, repeated(2)), window(1, stride=2)) == IMAGE


def test_intervals_continue_beyond_the_first_turn():
    axis = ReceptiveField(4, ((0, 3), (1, 5)))
    assert [axis.at(place) for place in (-2, -1, 0, 3)] == [(-4, -1), (-3, 1), (0, 3), (5, 9)]
    assert axis.receptive_field == 5


@given(
    st.lists(st.tuples(st.integers(-9, 9), st.integers(0, 9)), min_size=1, max_size=5),
    st.integers(-9, 9),
    st.integers(1, 20),
)
def test_reach_is_the_hull_of_all_intervals(spans, start, length):
    axis = ReceptiveField(7, tuple((first, first + span) for first, span in spans))
    intervals = [axis.at(place) for place in range(start, start + length)]
    expected = min(first for first, _ in intervals), max(last for _, last in intervals) + 1
    assert axis.reach(start, start + length) == expected


def test_a_sum_depends_on_both():
    assert joined(ReceptiveField(2, ((0, 1), (0, 1))), ReceptiveField(1, ((-1, 1),))) == ReceptiveField(
        2, ((-1, 1), (0, 2))
    )


def test_a_sum_of_different_resolutions_is_refused():
    with pytest.raises(InvalidArgumentError, match=r"different resolution: 1 values to 1 pixels, and 1 to 2"):
        joined(IMAGE, ReceptiveField(2, ((0, 1),)))


@given(st.integers(1, 7), st.integers(1, 4), st.integers(0, 9), st.integers(1, 3), st.integers(20, 40))
def test_only_what_lies_beyond_the_border_is_examined(kernel, stride, padding, dilation, size):
    """Against all outputs, one by one, where each position depends on itself or on its right neighbor."""
    reads = window(kernel, stride=stride, padding=padding, dilation=dilation)
    outputs = (size + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1
    read = {position for output in range(outputs) for position in reads.of(output)}
    assert is_border_outside_image(IMAGE, reads, (size, size, outputs))
    shifted = ReceptiveField(1, ((1, 1),))
    assert is_border_outside_image(shifted, reads, (size, size, outputs)) == (-1 not in read)
