from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pixelwise.data.io.images import Array
from pixelwise.data.rasterize import Bitmap, DrawnShape, Ellipse, Polygon, decode_run_lengths, make_box, rasterize
from pixelwise.errors import DataError

SIZE = (7, 9)
PARTS = 8
"""Corners of the examples lie on eighths of a pixel, so that many centers lie exactly on an edge."""

corner = st.tuples(st.integers(-2 * PARTS, 11 * PARTS), st.integers(-2 * PARTS, 9 * PARTS))
ring = st.lists(corner, min_size=3, max_size=9)
number = st.floats(-5, 15)
free_ring = st.lists(st.tuples(number, number), min_size=4, max_size=12)


def draw(*shapes: DrawnShape, size: tuple[int, int] = SIZE) -> Array:
    return rasterize(shapes, size)


def fill(corners: list[tuple[float, float]], size: tuple[int, int] = SIZE) -> Array:
    return draw(Polygon(value=1, outline=corners), size=size)


def scale(corners: list[tuple[int, int]]) -> list[tuple[float, float]]:
    return [(x / PARTS, y / PARTS) for x, y in corners]


def is_inside(corners: list[tuple[int, int]], row: int, column: int) -> bool:
    """Apply the rule with integers, for one pixel and one edge at a time."""
    x, y = (2 * column + 1) * PARTS // 2, (2 * row + 1) * PARTS // 2
    crossed = 0
    for one, other in pairwise([*corners, corners[0]]):
        (x1, y1), (x2, y2) = sorted((one, other), key=lambda corner: corner[1])
        crossed += y1 <= y < y2 and (y - y1) * (x2 - x1) <= (x - x1) * (y2 - y1)
    return crossed % 2 == 1


@given(ring)
def test_a_polygon_follows_the_rule_for_each_pixel(corners: list[tuple[int, int]]) -> None:
    expected = [[is_inside(corners, row, column) for column in range(SIZE[1])] for row in range(SIZE[0])]
    np.testing.assert_array_equal(fill(scale(corners)), expected)


@given(ring, st.integers(-3, 3), st.integers(-3, 3))
def test_a_shift_by_whole_pixels_shifts_the_pixels(corners: list[tuple[int, int]], right: int, down: int) -> None:
    margin = 20  # larger than the shapes and the shift
    size = (SIZE[0] + 2 * margin, SIZE[1] + 2 * margin)
    here = fill([(x + margin, y + margin) for x, y in scale(corners)], size)
    there = fill([(x + margin + right, y + margin + down) for x, y in scale(corners)], size)
    np.testing.assert_array_equal(there, np.roll(here, (down, right), (0, 1)))


@given(free_ring, st.data())
def test_of_two_areas_that_share_an_edge_one_gets_each_pixel(
    corners: list[tuple[float, float]], data: st.DataObject
) -> None:
    """Cut from corner to corner: the halves overlap only where the whole polygon overlaps itself."""
    cut = data.draw(st.integers(2, len(corners) - 2))
    halves = fill(corners[: cut + 1]) ^ fill([*corners[cut:], corners[0]])
    np.testing.assert_array_equal(halves, fill(corners))


@given(st.integers(0, 2**32 - 1))
def test_a_mesh_of_triangles_covers_each_pixel_once(seed: int) -> None:
    rng = np.random.default_rng(seed)
    grid = np.stack(np.meshgrid(np.linspace(0, SIZE[1], 5), np.linspace(0, SIZE[0], 4)), -1)
    grid[1:-1, 1:-1] += rng.uniform(-0.5, 0.5, (2, 3, 2))  # below a quarter of a cell: no flipped triangles
    count = np.zeros(SIZE, int)
    for row in range(3):
        for column in range(4):
            a, b, c, d = (grid[row + i, column + j] for i, j in ((0, 0), (0, 1), (1, 1), (1, 0)))
            count += fill([a, b, c]).astype(int) + fill([a, c, d])
    np.testing.assert_array_equal(count, 1)


@given(ring, st.integers(0, 8))
def test_neither_the_first_corner_nor_the_direction_matters(corners: list[tuple[int, int]], start: int) -> None:
    turned = scale(corners)
    turned = turned[start % len(turned) :] + turned[: start % len(turned)]
    np.testing.assert_array_equal(fill(turned), fill(scale(corners)))
    np.testing.assert_array_equal(fill(turned[::-1]), fill(scale(corners)))


def test_an_example() -> None:
    assert fill([(1, 0), (3, 0), (3, 2), (1, 2)], (3, 4)).tolist() == [[0, 1, 1, 0], [0, 1, 1, 0], [0, 0, 0, 0]]


def test_a_center_on_an_edge_belongs_to_the_area_right_and_below() -> None:
    corners = [(0.5, 0.5), (2.5, 0.5), (2.5, 2.5), (0.5, 2.5)]
    assert fill(corners, (3, 3)).tolist() == [[1, 1, 0], [1, 1, 0], [0, 0, 0]]


def test_an_outline_that_crosses_itself_is_even_odd() -> None:
    twice = [(0, 0), (6, 0), (6, 6), (0, 6), (0, 0), (2, 2), (4, 2), (4, 4), (2, 4), (2, 2)]
    mask = fill(twice, (6, 6))
    assert mask.sum() == 36 - 4
    assert not mask[2:4, 2:4].any()


def test_holes_are_outside_even_where_they_overlap() -> None:
    hole, other = [(1, 1), (3, 1), (3, 3), (1, 3)], [(2, 1), (5, 1), (5, 3), (2, 3)]
    mask = draw(Polygon(value=7, outline=[(0, 0), (6, 0), (6, 4), (0, 4)], holes=[hole, other]))
    expected = np.zeros(SIZE, int)
    expected[:4, :6] = 7
    expected[1:3, 1:5] = 0
    np.testing.assert_array_equal(mask, expected)


def test_later_shapes_cover_earlier_ones() -> None:
    mask = draw(make_box(1, 0, 0, 4, 4), make_box(2, 2, 2, 6, 6), make_box(0, 3, 3, 5, 5))
    assert [mask[1, 1], mask[2, 2], mask[3, 3], mask[5, 5]] == [1, 2, 0, 2]


def test_values_may_take_16_bit() -> None:
    mask = rasterize([make_box(40_000, 0, 0, 1, 1)], (1, 2), np.uint16)
    assert (mask.dtype, mask.tolist()) == (np.uint16, [[40_000, 0]])


def test_without_shapes_all_values_are_0() -> None:
    assert (draw() == 0).all()


@pytest.mark.parametrize(
    "shape",
    [
        make_box(1, -9, -9, -1, -1),
        make_box(1, 20, 20, 30, 30),
        Bitmap(value=1, pixels=np.ones((2, 2), bool), top=-2),
        Bitmap(value=1, pixels=np.ones((2, 2), bool), left=9),
        Ellipse(value=1, center=(-3, 3), radii=(2, 2)),
        make_box(1, 2.6, 2.6, 3.4, 3.4),
    ],
)
def test_a_shape_without_a_pixel_center_has_no_pixel(shape: DrawnShape) -> None:
    assert not draw(shape).any()


def test_a_polygon_far_beyond_the_image_covers_it() -> None:
    assert draw(make_box(1, -1e7, -1e7, 1e7, 1e7)).all()


def test_a_box_rotates_clockwise_around_its_center() -> None:
    turned = draw(make_box(1, 1, 2, 7, 4, 90))
    np.testing.assert_array_equal(turned, draw(make_box(1, 3, 0, 5, 6)))


@given(st.tuples(st.floats(1, 6), st.floats(1, 6)), st.tuples(st.floats(0.3, 4), st.floats(0.3, 4)))
def test_an_ellipse_follows_its_formula(center: tuple[float, float], radii: tuple[float, float]) -> None:
    y, x = np.indices(SIZE) + 0.5
    distance = ((x - center[0]) / radii[0]) ** 2 + ((y - center[1]) / radii[1]) ** 2
    mask = draw(Ellipse(value=1, center=center, radii=radii))
    clear = np.abs(distance - 1) > 1e-9
    np.testing.assert_array_equal(mask[clear], (distance < 1)[clear])


def test_the_boundary_of_a_circle_belongs_to_it() -> None:
    mask = draw(Ellipse(value=1, center=(2.5, 2.5), radii=(2, 2)))
    assert [mask[2, 0], mask[2, 4], mask[0, 2], mask[4, 2]] == [1, 1, 1, 1]
    assert mask.sum() == 13


def test_an_ellipse_rotates_clockwise() -> None:
    """It points to the right and down after 45 degrees."""
    mask = draw(Ellipse(value=1, center=(3.5, 3.5), radii=(3.4, 0.5), degrees=45), size=(7, 7))
    np.testing.assert_array_equal(np.flatnonzero(np.diagonal(mask)), [2 - 1, 2, 3, 4, 5])
    assert not mask[1, 5]
    assert not mask[5, 1]


def test_a_bitmap_is_cropped_to_the_image() -> None:
    pixels = np.array([[1, 0, 1], [1, 1, 0]], bool)
    for top, left in ((-1, -1), (6, 8), (2, 3), (6, -2)):
        expected = np.zeros((SIZE[0] + 6, SIZE[1] + 6), int)
        expected[3 + top : 5 + top, 3 + left : 6 + left] = pixels
        mask = draw(Bitmap(value=1, pixels=pixels, top=top, left=left))
        np.testing.assert_array_equal(mask, expected[3:-3, 3:-3])


@given(st.lists(st.booleans(), min_size=12, max_size=12))
def test_run_lengths_are_decoded(pixels: list[bool]) -> None:
    ends = [i for i, (one, other) in enumerate(pairwise([False, *pixels])) if one != other]
    runs = [after - before for before, after in pairwise([0, *ends, len(pixels)])]
    assert decode_run_lengths(runs, (3, 4)).ravel().tolist() == pixels


@pytest.mark.parametrize("runs", [[], [5], [7], [-1, 7], [[6]], [2**40, 6 - 2**40]])
def test_run_lengths_that_do_not_fill_the_image_are_an_error(runs: list[int]) -> None:
    with pytest.raises(DataError, match=r"run lengths do not add up to 6 pixels. Export the mask again"):
        decode_run_lengths(runs, (2, 3))


@pytest.mark.parametrize("outline", [[], [(0, 0), (1, 1)], [0, 0, 1, 1], [(0, 0, 0)] * 3])
def test_invalid_polygons_are_an_error(outline: list[tuple[float, float]]) -> None:
    with pytest.raises(DataError, match=r"The number of points of a polygon is [02]\. Expected 3 or more"):
        Polygon(value=1, outline=outline)
    with pytest.raises(DataError, match=r"The number of points of a polygon is [02]\. Expected 3 or more"):
        Polygon(value=1, outline=[(0, 0), (1, 0), (1, 1)], holes=[outline])


@pytest.mark.parametrize("wrong", [float("nan"), float("inf"), -1.1e7])
def test_invalid_coordinates_are_an_error(wrong: float) -> None:
    with pytest.raises(DataError, match="which is not in any image"):
        Polygon(value=1, outline=[(0, 0), (1, 0), (1, wrong)])
    with pytest.raises(DataError, match="which is not in any image"):
        Ellipse(value=1, center=(wrong, 1), radii=(1, 1))


def test_an_ellipse_without_extent_is_an_error() -> None:
    with pytest.raises(DataError, match=r"has the radii \(1, 0\). Expected two numbers above 0"):
        Ellipse(value=1, center=(1, 1), radii=(1, 0))
