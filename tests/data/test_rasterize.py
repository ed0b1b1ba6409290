from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pixelwise.data.io.images import Array
from pixelwise.data.rasterize import Bitmap, Ellipse, Polygon, Shape, box, rasterize, unroll
from pixelwise.errors import DataError

SIZE = (7, 9)
PARTS = 8
"""Corners of the examples lie on eighths of a pixel, so that many centers lie exactly on an edge."""

corner = st.tuples(st.integers(-2 * PARTS, 11 * PARTS), st.integers(-2 * PARTS, 9 * PARTS))
ring = st.lists(corner, min_size=3, max_size=9)
number = st.floats(-5, 15)
free_ring = st.lists(st.tuples(number, number), min_size=4, max_size=12)


def painted(*shapes: Shape, size: tuple[int, int] = SIZE) -> Array:
    return rasterize(shapes, size)


def filled(corners: list[tuple[float, float]], size: tuple[int, int] = SIZE) -> Array:
    return painted(Polygon(value=1, outline=corners), size=size)


def scaled(corners: list[tuple[int, int]]) -> list[tuple[float, float]]:
    return [(x / PARTS, y / PARTS) for x, y in corners]


def is_inside(corners: list[tuple[int, int]], row: int, column: int) -> bool:
    """The rule in whole numbers, one pixel and one edge at a time."""
    x, y = (2 * column + 1) * PARTS // 2, (2 * row + 1) * PARTS // 2
    crossed = 0
    for one, other in pairwise([*corners, corners[0]]):
        (x1, y1), (x2, y2) = sorted((one, other), key=lambda corner: corner[1])
        crossed += y1 <= y < y2 and (y - y1) * (x2 - x1) <= (x - x1) * (y2 - y1)
    return crossed % 2 == 1


@given(ring)
def test_a_polygon_is_what_the_rule_says_for_each_pixel(corners: list[tuple[int, int]]) -> None:
    expected = [[is_inside(corners, row, column) for column in range(SIZE[1])] for row in range(SIZE[0])]
    np.testing.assert_array_equal(filled(scaled(corners)), expected)


@given(ring, st.integers(-3, 3), st.integers(-3, 3))
def test_a_shift_by_whole_pixels_shifts_the_pixels(corners: list[tuple[int, int]], right: int, down: int) -> None:
    margin = 20  # larger than the shapes and the shift: nothing is cut off
    size = (SIZE[0] + 2 * margin, SIZE[1] + 2 * margin)
    here = filled([(x + margin, y + margin) for x, y in scaled(corners)], size)
    there = filled([(x + margin + right, y + margin + down) for x, y in scaled(corners)], size)
    np.testing.assert_array_equal(there, np.roll(here, (down, right), (0, 1)))


@given(free_ring, st.data())
def test_of_two_areas_that_share_an_edge_each_pixel_is_in_one(
    corners: list[tuple[float, float]], data: st.DataObject
) -> None:
    """A cut from corner to corner, wherever the corners are: the halves overlap only where the whole does."""
    cut = data.draw(st.integers(2, len(corners) - 2))
    halves = filled(corners[: cut + 1]) ^ filled([*corners[cut:], corners[0]])
    np.testing.assert_array_equal(halves, filled(corners))


@given(st.integers(0, 2**32 - 1))
def test_a_mesh_of_triangles_covers_each_pixel_once(seed: int) -> None:
    rng = np.random.default_rng(seed)
    grid = np.stack(np.meshgrid(np.linspace(0, SIZE[1], 5), np.linspace(0, SIZE[0], 4)), -1)
    grid[1:-1, 1:-1] += rng.uniform(-0.5, 0.5, (2, 3, 2))  # less than a quarter of a cell: no triangle turns over
    count = np.zeros(SIZE, int)
    for row in range(3):
        for column in range(4):
            a, b, c, d = (grid[row + i, column + j] for i, j in ((0, 0), (0, 1), (1, 1), (1, 0)))
            count += filled([a, b, c]).astype(int) + filled([a, c, d])
    np.testing.assert_array_equal(count, 1)


@given(ring, st.integers(0, 8))
def test_neither_the_first_corner_nor_the_direction_matters(corners: list[tuple[int, int]], start: int) -> None:
    turned = scaled(corners)
    turned = turned[start % len(turned) :] + turned[: start % len(turned)]
    np.testing.assert_array_equal(filled(turned), filled(scaled(corners)))
    np.testing.assert_array_equal(filled(turned[::-1]), filled(scaled(corners)))


def test_the_example_of_the_docstring() -> None:
    assert filled([(1, 0), (3, 0), (3, 2), (1, 2)], (3, 4)).tolist() == [[0, 1, 1, 0], [0, 1, 1, 0], [0, 0, 0, 0]]


def test_a_center_on_an_edge_belongs_to_what_is_right_and_below() -> None:
    corners = [(0.5, 0.5), (2.5, 0.5), (2.5, 2.5), (0.5, 2.5)]
    assert filled(corners, (3, 3)).tolist() == [[1, 1, 0], [1, 1, 0], [0, 0, 0]]


def test_where_an_outline_crosses_itself_even_is_outside() -> None:
    twice = [(0, 0), (6, 0), (6, 6), (0, 6), (0, 0), (2, 2), (4, 2), (4, 4), (2, 4), (2, 2)]
    mask = filled(twice, (6, 6))
    assert mask.sum() == 36 - 4
    assert not mask[2:4, 2:4].any()


def test_holes_are_outside_even_where_they_overlap() -> None:
    hole, other = [(1, 1), (3, 1), (3, 3), (1, 3)], [(2, 1), (5, 1), (5, 3), (2, 3)]
    mask = painted(Polygon(value=7, outline=[(0, 0), (6, 0), (6, 4), (0, 4)], holes=[hole, other]))
    expected = np.zeros(SIZE, int)
    expected[:4, :6] = 7
    expected[1:3, 1:5] = 0
    np.testing.assert_array_equal(mask, expected)


def test_later_shapes_lie_over_earlier_ones() -> None:
    mask = painted(box(1, 0, 0, 4, 4), box(2, 2, 2, 6, 6), box(0, 3, 3, 5, 5))
    assert [mask[1, 1], mask[2, 2], mask[3, 3], mask[5, 5]] == [1, 2, 0, 2]


def test_values_may_take_16_bit() -> None:
    mask = rasterize([box(40_000, 0, 0, 1, 1)], (1, 2), np.uint16)
    assert (mask.dtype, mask.tolist()) == (np.uint16, [[40_000, 0]])


def test_no_shape_is_all_0() -> None:
    assert (painted() == 0).all()


@pytest.mark.parametrize(
    "shape",
    [
        box(1, -9, -9, -1, -1),
        box(1, 20, 20, 30, 30),
        Bitmap(value=1, pixels=np.ones((2, 2), bool), top=-2),
        Bitmap(value=1, pixels=np.ones((2, 2), bool), left=9),
        Ellipse(value=1, center=(-3, 3), radii=(2, 2)),
        box(1, 2.6, 2.6, 3.4, 3.4),
    ],
)
def test_what_holds_no_center_paints_nothing(shape: Shape) -> None:
    assert not painted(shape).any()


def test_a_polygon_far_beyond_the_image_covers_it() -> None:
    assert painted(box(1, -1e7, -1e7, 1e7, 1e7)).all()


def test_a_box_turns_clockwise_about_its_center() -> None:
    turned = painted(box(1, 1, 2, 7, 4, 90))
    np.testing.assert_array_equal(turned, painted(box(1, 3, 0, 5, 6)))


@given(st.tuples(st.floats(1, 6), st.floats(1, 6)), st.tuples(st.floats(0.3, 4), st.floats(0.3, 4)))
def test_an_ellipse_is_what_its_formula_says(center: tuple[float, float], radii: tuple[float, float]) -> None:
    y, x = np.indices(SIZE) + 0.5
    distance = ((x - center[0]) / radii[0]) ** 2 + ((y - center[1]) / radii[1]) ** 2
    mask = painted(Ellipse(value=1, center=center, radii=radii))
    clear = np.abs(distance - 1) > 1e-9
    np.testing.assert_array_equal(mask[clear], (distance < 1)[clear])


def test_the_rim_of_a_circle_belongs_to_it() -> None:
    mask = painted(Ellipse(value=1, center=(2.5, 2.5), radii=(2, 2)))
    assert [mask[2, 0], mask[2, 4], mask[0, 2], mask[4, 2]] == [1, 1, 1, 1]
    assert mask.sum() == 13


def test_an_ellipse_turns_clockwise() -> None:
    """Pointing to the right and downward after 45°."""
    mask = painted(Ellipse(value=1, center=(3.5, 3.5), radii=(3.4, 0.5), degrees=45), size=(7, 7))
    np.testing.assert_array_equal(np.flatnonzero(np.diagonal(mask)), [2 - 1, 2, 3, 4, 5])
    assert not mask[1, 5]
    assert not mask[5, 1]


def test_a_bitmap_is_cut_at_the_image() -> None:
    pixels = np.array([[1, 0, 1], [1, 1, 0]], bool)
    for top, left in ((-1, -1), (6, 8), (2, 3), (6, -2)):
        expected = np.zeros((SIZE[0] + 6, SIZE[1] + 6), int)
        expected[3 + top : 5 + top, 3 + left : 6 + left] = pixels
        mask = painted(Bitmap(value=1, pixels=pixels, top=top, left=left))
        np.testing.assert_array_equal(mask, expected[3:-3, 3:-3])


@given(st.lists(st.booleans(), min_size=12, max_size=12))
def test_runs_are_unrolled(pixels: list[bool]) -> None:
    ends = [i for i, (one, other) in enumerate(pairwise([False, *pixels])) if one != other]
    runs = [after - before for before, after in pairwise([0, *ends, len(pixels)])]
    assert unroll(runs, (3, 4)).ravel().tolist() == pixels


@pytest.mark.parametrize("runs", [[], [5], [7], [-1, 7], [[6]], [2**40, 6 - 2**40]])
def test_runs_that_do_not_fill_the_picture_are_an_error(runs: list[int]) -> None:
    with pytest.raises(DataError, match="run lengths do not add up to 6 pixels; export the mask once more"):
        unroll(runs, (2, 3))


@pytest.mark.parametrize("outline", [[], [(0, 0), (1, 1)], [0, 0, 1, 1], [(0, 0, 0)] * 3])
def test_what_is_no_polygon_is_an_error(outline: list[tuple[float, float]]) -> None:
    with pytest.raises(
        DataError, match="a polygon needs three corners or more, of two numbers each; draw it once more"
    ):
        Polygon(value=1, outline=outline)
    with pytest.raises(DataError, match="a polygon needs three corners"):
        Polygon(value=1, outline=[(0, 0), (1, 0), (1, 1)], holes=[outline])


@pytest.mark.parametrize("wrong", [float("nan"), float("inf"), -1.1e7])
def test_what_is_no_position_is_an_error(wrong: float) -> None:
    with pytest.raises(DataError, match="which is no position in an image"):
        Polygon(value=1, outline=[(0, 0), (1, 0), (1, wrong)])
    with pytest.raises(DataError, match="which is no position in an image"):
        Ellipse(value=1, center=(wrong, 1), radii=(1, 1))


def test_an_ellipse_without_extent_is_an_error() -> None:
    with pytest.raises(DataError, match=r"has the radii \(1, 0\), but both must be above 0; draw"):
        Ellipse(value=1, center=(1, 1), radii=(1, 0))
