import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from matplotlib.path import Path as Outline

from pixelwise.conversion.polygonize import (
    Point,
    Region,
    compute_doubled_area,
    find_regions,
    trace_polygon,
    trace_rings,
)
from pixelwise.data.io.images import Array
from pixelwise.data.rasterize import Polygon, rasterize

Labels = arrays(np.uint8, st.tuples(st.integers(1, 9), st.integers(1, 9)), elements=st.integers(0, 2))


def centers_inside(points: list[Point], size: tuple[int, int]) -> Array:
    """(H, W) bool: which centers of pixels a polygon goes around an odd number of times."""
    rows, columns = np.indices(size) + 0.5
    inside = np.zeros(size, bool)
    for (x0, y0), (x1, y1) in zip(points, points[1:] + points[:1], strict=True):
        crossing = (rows > min(y0, y1)) & (rows < max(y0, y1))
        with np.errstate(divide="ignore", invalid="ignore"):
            right_of = columns > x0 + (rows - y0) * (x1 - x0) / (y1 - y0)
        inside ^= crossing & right_of
    return inside


def region_map(region: Region, size: tuple[int, int]) -> Array:
    found = np.zeros(size, bool)
    height, width = region.inside.shape
    found[region.top : region.top + height, region.left : region.left + width] = region.inside
    return found


@given(Labels)
def test_regions_cover_each_pixel_once(labels: Array) -> None:
    covered = np.zeros(labels.shape, int)
    for region in find_regions(labels, range(3)):
        here = region_map(region, labels.shape)
        covered += here
        assert (labels[here] == region.label).all()
    assert (covered == 1).all()


@given(Labels)
def test_a_polygon_contains_exactly_the_centers_of_its_pixels(labels: Array) -> None:
    for region in find_regions(labels, range(3)):
        points = trace_polygon(region)
        expected = region_map(region, labels.shape)
        assert np.array_equal(centers_inside(points, labels.shape), expected)
        assert all(a[0] == b[0] or a[1] == b[1] for a, b in zip(points, points[1:] + points[:1], strict=True))


def test_matplotlib_finds_the_same_pixels() -> None:
    ring = np.ones((5, 6), np.uint8)
    ring[1, 1:3] = ring[3, 4] = 0
    (region,) = find_regions(ring, range(1, 2))
    points = trace_polygon(region)
    rows, columns = np.indices(ring.shape) + 0.5
    centers = np.stack([columns.ravel(), rows.ravel()], 1)
    inside = Outline([*points, points[0]], closed=True).contains_points(centers)
    assert np.array_equal(inside.reshape(ring.shape), ring.astype(bool))


@pytest.mark.parametrize(
    ("rows", "points"),
    [
        (["##"], [(0, 0), (2, 0), (2, 1), (0, 1)]),
        (["..", ".#"], [(1, 1), (2, 1), (2, 2), (1, 2)]),
        (["#.", "##"], [(0, 0), (1, 0), (1, 1), (2, 1), (2, 2), (0, 2)]),
        (
            ["###", "#.#", "###"],
            # The hole is counterclockwise, and a bridge leads to it and back.
            [(0, 0), (1, 0), (1, 1), (1, 2), (2, 2), (2, 1), (1, 1), (1, 0), (0, 0), (3, 0), (3, 3), (0, 3)],
        ),
    ],
)
def test_corners(rows: list[str], points: list[Point]) -> None:
    labels = np.array([[character == "#" for character in row] for row in rows], np.uint8)
    (region,) = find_regions(labels, range(1, 2))
    assert trace_polygon(region) == points


def test_pixels_that_touch_at_a_corner_are_two_regions() -> None:
    assert len(list(find_regions(np.eye(2, dtype=np.uint8), range(1, 2)))) == 2


@given(Labels)
def test_rings_form_a_valid_polygon_of_exactly_the_region(labels: Array) -> None:
    for region in find_regions(labels, range(3)):
        outer, *holes = trace_rings(region)
        assert compute_doubled_area(outer) > 0
        assert all(compute_doubled_area(hole) < 0 for hole in holes)
        assert all(len(set(ring)) == len(ring) for ring in (outer, *holes))
        assert sum(map(compute_doubled_area, (outer, *holes))) == 2 * region.inside.sum()
        painted = rasterize([Polygon(value=1, outline=outer, holes=holes)], labels.shape).astype(bool)
        assert np.array_equal(painted, region_map(region, labels.shape))


def test_a_loop_that_touches_itself_becomes_a_ring_with_a_hole() -> None:
    labels = np.array([[1, 1, 1], [1, 0, 1], [1, 1, 0]], np.uint8)
    (region,) = find_regions(labels, range(1, 2))
    assert [len(ring) for ring in trace_rings(region)] == [6, 4]
