"""Compare the offset algebra with the constants of FCN's release and with explicit windows."""

import doctest
from fractions import Fraction

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from torch import nn

from pixelwise.errors import InvalidArgumentError
from pixelwise.networks.geometry import alignment
from pixelwise.networks.geometry.alignment import (
    AlignedUpsampling,
    Alignment,
    SlidingWindow,
    align_upsampling,
    compute_alignment,
    compute_map_size,
    plan_upsampling,
)

POOL = SlidingWindow(2, 2, ceil_mode=True)


def vgg16_pools(first_padding: int) -> list[tuple[SlidingWindow, ...]]:
    """Return the paths of pool3, pool4, pool5."""
    stages = [(SlidingWindow(3, padding=1),) * depth + (POOL,) for depth in (2, 2, 3, 3, 3)]
    path = (SlidingWindow(3, padding=first_padding), *sum(stages, ())[1:])
    return [path[:10], path[:14], path[:18]]


def released(stride: int) -> list[tuple[SlidingWindow, ...]]:
    """Return the paths of FCN's maps, coarse to fine."""
    pool3, pool4, pool5 = vgg16_pools(100)
    return [(*pool5, SlidingWindow(7), SlidingWindow(1)), pool4, pool3][: {32: 1, 16: 2, 8: 3}[stride]]


@pytest.mark.parametrize(
    ("stride", "kernels", "offsets"),
    [(32, [64], [19]), (16, [4, 32], [-5, 27]), (8, [4, 4, 16], [-5, -9, 31])],
)
def test_offsets_equal_those_of_the_released_vgg16(stride, kernels, offsets):
    plan, multiple = plan_upsampling(released(stride))
    assert [up.kernel_size for up in plan] == kernels
    assert [up.offset for up in plan] == offsets
    assert [up.output_padding for up in plan] == [0] * len(plan)
    assert multiple == 1


def test_kernel_and_offset_equal_those_of_the_released_alexnet():
    pool = SlidingWindow(3, 2, ceil_mode=True)
    path = (
        SlidingWindow(11, 4, 100),
        pool,
        SlidingWindow(5, padding=2),
        pool,
        *[SlidingWindow(3, padding=1)] * 3,
        pool,
        SlidingWindow(6),
    )
    (up,), multiple = plan_upsampling([path])
    assert (up.kernel_size, up.offset, multiple) == (63, 18, 1)


@pytest.mark.parametrize(("stride", "raw"), [(32, [16]), (16, [-1, 24]), (8, [-1, -3, 28])])
def test_offsets_with_same_padding_without_intermediate_crops(stride, raw):
    """Published offsets refer to the uncropped upsampled map; ours crop it before each sum."""
    pool3, pool4, pool5 = vgg16_pools(1)
    paths = [(*pool5, SlidingWindow(7, padding=3)), pool4, pool3][: {32: 1, 16: 2, 8: 3}[stride]]
    here, found = compute_alignment(paths[0]), []
    for fine in [*map(compute_alignment, paths[1:]), alignment.IMAGE]:
        up = align_upsampling(here, fine)
        found.append(up.offset if fine == alignment.IMAGE else -up.offset)
        here = Alignment(fine.scale, fine.offset + up.offset)
    assert found == raw
    plan, _ = plan_upsampling(paths)
    assert all((up.kernel_size, up.padding) == (2 * up.factor, up.factor // 2) for up in plan)


@given(st.integers(1, 699), st.sampled_from([32, 16, 8]))
def test_released_fcn_covers_every_size(side, stride):
    paths = released(stride)
    plan, _ = plan_upsampling(paths)
    size = compute_map_size(paths[0], side)
    for up, path in zip(plan, (*paths[1:], ()), strict=True):
        uncut = up.factor * (size - 1) + up.kernel_size  # the input of Caffe's Crop layers
        room, wanted = (compute_map_size(path, side), uncut) if up.offset < 0 else (uncut, compute_map_size(path, side))
        assert wanted >= 1
        assert abs(up.offset) + wanted <= room
        size = wanted


def test_map_sizes_of_the_released_fcn_at_500_pixels():
    sizes = [compute_map_size(path, 500) for path in (*vgg16_pools(100), released(32)[0])]
    assert sizes == [88, 44, 22, 16]


windows = st.builds(
    SlidingWindow,
    kernel_size=st.integers(1, 5),
    stride=st.integers(1, 3),
    padding=st.integers(0, 2),
    dilation=st.integers(1, 2),
    ceil_mode=st.just(False),
    end_padding=st.integers(0, 2),
)


@given(st.lists(windows, max_size=3), st.integers(1, 40))
def test_sizes_and_centers_match_explicit_windows(path, side):
    """Represent each cell by the interval of pixels, including padding, in its windows."""
    cells, step = [(pixel, pixel) for pixel in range(side)], 1
    for window in path:
        cells, step = slide(window, cells, step), step * window.stride
    assert compute_map_size(path, side) == len(cells)
    scale, offset = compute_alignment(path)
    for index, (first, last) in enumerate(cells):
        assert scale * Fraction(first + last, 2) + offset == index


def slide(window, cells, step):
    """Return windows over cells that are `step` pixels apart, also in the padding outside the map."""
    if not cells:
        return []
    first, last = cells[0]
    reach = window.dilation * (window.kernel_size - 1)
    end = len(cells) + window.padding + window.end_padding
    starts = range(-window.padding, end - reach, window.stride)
    return [(first + step * start, last + step * (start + reach)) for start in starts]


@pytest.mark.parametrize("ceil_mode", [False, True])
@given(st.integers(1, 3), st.integers(1, 3), st.integers(0, 1), st.integers(1, 30))
def test_sizes_match_pytorch(ceil_mode, kernel, stride, padding, side):
    assume(padding <= kernel // 2 and side + 2 * padding >= kernel)
    pooled = nn.MaxPool2d(kernel, stride, padding, ceil_mode=ceil_mode)(torch.zeros(1, 1, side, side))
    assert SlidingWindow(kernel, stride, padding, ceil_mode=ceil_mode).compute_output_size(side) == pooled.shape[2]


def test_centers_of_five_poolings():
    assert compute_alignment([SlidingWindow(2, 2)] * 5) == (Fraction(1, 32), Fraction(-31, 64))


@given(st.integers(1, 6), st.integers(0, 3), st.integers(0, 8))
def test_upsampling_aligns_a_map_with_the_image(poolings, odd_windows, padding):
    path = [
        SlidingWindow(3, padding=padding),
        *[SlidingWindow(3, 2, 1)] * odd_windows,
        *[SlidingWindow(2, 2)] * poolings,
    ]
    scale, offset = compute_alignment(path)
    up = align_upsampling(Alignment(scale, offset))
    cell = scale * 7 + offset  # at pixel 7
    assert up.factor * cell + Fraction(up.kernel_size - 1, 2) - up.offset == 7
    assert up.kernel_size in (2 * up.factor, 2 * up.factor - 1)


@given(st.integers(1, 5), st.integers(1, 8), st.integers(1, 4))
def test_upsampling_size_matches_pytorch(factor, side, offset):
    up = AlignedUpsampling(factor, 2 * factor, min(offset, factor), 0)
    layer = nn.ConvTranspose2d(1, 1, up.kernel_size, stride=factor, padding=up.padding)
    assume(up.compute_output_size(side) >= 1)
    assert layer(torch.zeros(1, 1, side, side)).shape[2] == up.compute_output_size(side)


def test_quarter_cells_are_an_error():
    with pytest.raises(InvalidArgumentError, match=r"not a multiple of half a cell.*symmetrically"):
        align_upsampling(Alignment(Fraction(1, 2), Fraction(1, 8)))


def test_scales_must_differ_by_an_integer_factor():
    with pytest.raises(InvalidArgumentError, match=r"cannot be aligned with"):
        align_upsampling(Alignment(Fraction(1, 3)), Alignment(Fraction(1, 2)))


@pytest.mark.parametrize(
    "path",
    [
        (*vgg16_pools(1)[2], SlidingWindow(7)),  # starts after the first pixel
        (SlidingWindow(2, 2), SlidingWindow(5, 2, 2), SlidingWindow(4, 1, 1)),  # too small at the other end
    ],
)
def test_maps_that_do_not_reach_the_borders_are_an_error(path):
    with pytest.raises(InvalidArgumentError, match=r"does not reach the borders.*first_padding=100"):
        plan_upsampling([path])


def test_examples():
    assert doctest.testmod(alignment).failed == 0
