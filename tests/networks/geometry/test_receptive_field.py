import doctest

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pixelwise.errors import InvalidArgumentError
from pixelwise.networks.geometry import receptive_field
from pixelwise.networks.geometry.receptive_field import (
    IDENTITY,
    ReadPattern,
    ReceptiveField,
    compose,
    is_border_outside_image,
    merge_fields,
)


@pytest.mark.parametrize(
    ("reads", "positions"),
    [
        (ReadPattern.for_window(3, padding=1), [[-1, 0, 1], [0, 1, 2]]),
        (ReadPattern.for_window(2, stride=2), [[0, 1], [2, 3]]),
        (ReadPattern.for_window(3, stride=2, padding=2, dilation=2), [[-2, 0, 2], [0, 2, 4]]),
        (ReadPattern.for_transposed_window(2, stride=2), [[0], [0], [1], [1]]),
        (ReadPattern.for_transposed_window(4, stride=2, padding=1), [[-1, 0], [0, 1], [0, 1]]),
        (ReadPattern.for_transposed_window(3, stride=2), [[-1, 0], [0], [0, 1]]),
        (ReadPattern.for_transposed_window(1, stride=2), [[0], [0], [1]]),
        (ReadPattern.for_repetition(3), [[0], [0], [0], [1]]),
        (ReadPattern.for_interpolation(2), [[-1, 0], [0, 1], [0, 1]]),
        (ReadPattern.for_interpolation(3), [[-1, 0], [0], [0, 1]]),
        (ReadPattern.for_interpolation(2, radius=2), [[-2, -1, 0, 1], [-1, 0, 1, 2]]),
    ],
)
def test_read_patterns(reads, positions):
    assert [reads.get_inputs(output) for output in range(len(positions))] == positions


def test_phases_of_an_upsampled_map_differ():
    halved = compose(IDENTITY, ReadPattern.for_window(2, stride=2))
    assert halved == ReceptiveField(2, ((0, 1),))
    grown = compose(halved, ReadPattern.for_repetition(2))
    assert grown == ReceptiveField(2, ((0, 1), (0, 1)))
    # A bound from kernels and strides alone would say 5 pixels for both phases.
    assert compose(grown, ReadPattern.for_window(3, padding=1)) == ReceptiveField(2, ((-2, 1), (0, 3)))


def test_subsampling_an_upsampled_map_restores_the_stride():
    assert compose(compose(IDENTITY, ReadPattern.for_repetition(2)), ReadPattern.for_window(1, stride=2)) == IDENTITY


def test_intervals_repeat():
    axis = ReceptiveField(4, ((0, 3), (1, 5)))
    assert [axis.get_interval(place) for place in (-2, -1, 0, 3)] == [(-4, -1), (-3, 1), (0, 3), (5, 9)]
    assert axis.size == 5


@given(
    st.lists(st.tuples(st.integers(-9, 9), st.integers(0, 9)), min_size=1, max_size=5),
    st.integers(-9, 9),
    st.integers(1, 20),
)
def test_range_is_the_hull_of_all_intervals(spans, start, length):
    axis = ReceptiveField(7, tuple((first, first + span) for first, span in spans))
    intervals = [axis.get_interval(place) for place in range(start, start + length)]
    expected = min(first for first, _ in intervals), max(last for _, last in intervals) + 1
    assert axis.get_range(start, start + length) == expected


def test_merged_fields_contain_both():
    merged = merge_fields([ReceptiveField(2, ((0, 1), (0, 1))), ReceptiveField(1, ((-1, 1),))])
    assert merged == ReceptiveField(2, ((-1, 1), (0, 2)))


def test_merging_different_resolutions_is_an_error():
    with pytest.raises(InvalidArgumentError, match=r"different resolution: 1 positions per 1 pixels and 1 per 2"):
        merge_fields([IDENTITY, ReceptiveField(2, ((0, 1),))])


@given(st.integers(1, 7), st.integers(1, 4), st.integers(0, 9), st.integers(1, 3), st.integers(20, 40))
def test_border_check_against_all_outputs(kernel, stride, padding, dilation, size):
    """Check all outputs, where each position depends on itself or on its right neighbor."""
    reads = ReadPattern.for_window(kernel, stride=stride, padding=padding, dilation=dilation)
    outputs = (size + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1
    read = {position for output in range(outputs) for position in reads.get_inputs(output)}
    sizes = {"image_size": size, "input_size": size, "output_size": outputs}
    assert is_border_outside_image(IDENTITY, reads, **sizes)
    assert is_border_outside_image(ReceptiveField(1, ((1, 1),)), reads, **sizes) == (-1 not in read)


def test_examples():
    result = doctest.testmod(receptive_field)
    assert result.attempted
    assert not result.failed
