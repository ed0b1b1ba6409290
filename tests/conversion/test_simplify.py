"""Simplified borders: the distance, the topology, and that neighbors share their borders."""

import itertools

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from pixelwise.conversion.polygonize import (
    Position,
    Region,
    compute_doubled_area,
    find_regions,
    trace_polygon,
    trace_rings,
)
from pixelwise.conversion.simplify import simplify_borders
from pixelwise.data.io.images import Array
from pixelwise.data.rasterize import Polygon, rasterize

Labels = arrays(np.uint8, st.tuples(st.integers(1, 12), st.integers(1, 12)), elements=st.integers(0, 2))
Distances = st.sampled_from([0.1, 0.4, 0.5, 0.75, 1, 1.5, 2, 5, 100])
Points = npt.NDArray[np.float64]


def find_pairs(labels: Array, distance: float) -> list[tuple[Region, Region]]:
    """Return each region as it is and simplified."""
    simplified = find_regions(labels, range(3), simplify_borders(labels, distance))
    return list(zip(find_regions(labels, range(3)), simplified, strict=True))


def list_edges(rings: list[list[Position]]) -> Points:
    """Return the edges of closed rings, (N, 2, 2)."""
    return np.array([pair for ring in rings for pair in zip(ring, [*ring[1:], ring[0]], strict=True)], float)


def measure_distance(points: Points, edges: Points) -> float:
    """Return the largest distance of a point from the closest edge."""
    starts, sides = edges[:, 0], edges[:, 1] - edges[:, 0]
    offsets = points[:, None] - starts
    along = ((offsets * sides).sum(2) / (sides**2).sum(1)).clip(0, 1)
    return float(np.linalg.norm(offsets - along[..., None] * sides, axis=2).min(1).max())


def sample(edges: Points) -> Points:
    """Return points on edges, with both ends."""
    shares = np.linspace(0, 1, 9)[:, None, None]
    return (edges[:, 0] + shares * (edges[:, 1] - edges[:, 0])).reshape(-1, 2)


@given(Labels, Distances)
def test_outlines_stay_within_the_distance_in_both_directions(labels: Array, distance: float) -> None:
    for exact, simple in find_pairs(labels, distance):
        before, after = list_edges(trace_rings(exact)), list_edges(trace_rings(simple))
        assert measure_distance(sample(before), after) <= distance + 1e-9
        assert measure_distance(sample(after), before) <= distance + 1e-9


@given(Labels, Distances)
def test_every_region_keeps_its_rings(labels: Array, distance: float) -> None:
    for exact, simple in find_pairs(labels, distance):
        outer, *holes = trace_rings(simple)
        assert len(holes) == len(trace_rings(exact)) - 1
        assert all(len(set(ring)) == len(ring) >= 3 for ring in (outer, *holes))
        assert compute_doubled_area(outer) > 0
        assert all(compute_doubled_area(hole) < 0 for hole in holes)
        assert sum(map(compute_doubled_area, (outer, *holes))) > 0


def cross(a: Points, b: Points, c: Points) -> Points:
    return np.sign(
        (b[..., 0] - a[..., 0]) * (c[..., 1] - a[..., 1]) - (b[..., 1] - a[..., 1]) * (c[..., 0] - a[..., 0])
    )


@given(Labels, Distances)
def test_no_two_edges_cross(labels: Array, distance: float) -> None:
    """Neither of one region nor of two."""
    edges = np.concatenate([list_edges(trace_rings(simple)) for _, simple in find_pairs(labels, distance)])
    a, b, c, d = edges[:, None, 0], edges[:, None, 1], edges[None, :, 0], edges[None, :, 1]
    assert not ((cross(a, b, c) * cross(a, b, d) < 0) & (cross(c, d, a) * cross(c, d, b) < 0)).any()


def count_inside(points: Points, edges: Points) -> npt.NDArray[np.bool_]:
    """Return which points are inside rings, with holes."""
    (x0, y0), (x1, y1) = edges[:, 0].T, edges[:, 1].T
    x, y = points[:, :1], points[:, 1:]
    with np.errstate(divide="ignore", invalid="ignore"):
        crossed = ((y0 > y) != (y1 > y)) & (x < x0 + (y - y0) * (x1 - x0) / (y1 - y0))
    return crossed.sum(1) % 2 == 1


@given(Labels, Distances)
def test_neighbors_have_no_gap_and_no_overlap(labels: Array, distance: float) -> None:
    height, width = labels.shape
    points = np.stack(np.meshgrid(np.arange(0.13, width, 0.37), np.arange(0.17, height, 0.41)), -1).reshape(-1, 2)
    edges = [list_edges(trace_rings(simple)) for _, simple in find_pairs(labels, distance)]
    covered = np.sum([count_inside(points, each) for each in edges], 0)
    assert covered.max() <= 1
    to_border = np.minimum(points, [width, height] - points).min(1)
    assert (to_border[covered == 0] <= distance).all()  # where a corner of the image is cut


@given(Labels)
def test_a_small_distance_changes_nothing(labels: Array) -> None:
    for exact, simple in find_pairs(labels, 0.35):
        assert trace_rings(simple) == trace_rings(exact)
        assert trace_polygon(simple) == trace_polygon(exact)


@given(Labels, Distances)
def test_a_polygon_with_bridges_has_the_area_of_the_rings(labels: Array, distance: float) -> None:
    for _, simple in find_pairs(labels, distance):
        area = sum(map(compute_doubled_area, trace_rings(simple)))
        assert compute_doubled_area(trace_polygon(simple)) == pytest.approx(area)


def test_a_slope_becomes_one_line_through_the_middles_of_its_steps() -> None:
    labels = np.triu(np.ones((40, 40), np.uint8))
    (region,) = find_regions(labels, range(1, 2), simplify_borders(labels, 0.5))
    (ring,) = trace_rings(region)
    assert len(ring) <= 7
    assert ring[ring.index((39, 39.5)) + 1] == (0.5, 1)


def test_a_rectangle_keeps_its_corners() -> None:
    labels = np.zeros((30, 40), np.uint8)
    labels[5:20, 7:33] = 1
    (region,) = find_regions(labels, range(1, 2), simplify_borders(labels, 3))
    assert sorted(trace_rings(region)[0]) == [(7, 5), (7, 20), (33, 5), (33, 20)]


def draw_disc(radius: float, side: int = 64) -> Array:
    ys, xs = np.indices((side, side)) + 0.5
    return ((xs - side / 2) ** 2 + (ys - side / 2) ** 2 <= radius**2).astype(np.uint8)


@pytest.mark.parametrize(("distance", "most_corners", "least_iou"), [(0.5, 42, 0.97), (1, 18, 0.95), (2, 14, 0.93)])
def test_a_disc_has_few_corners(distance: float, most_corners: int, least_iou: float) -> None:
    labels = draw_disc(20)
    (region,) = find_regions(labels, range(1, 2), simplify_borders(labels, distance))
    (ring,) = trace_rings(region)
    assert len(ring) <= most_corners
    painted = rasterize([Polygon(value=1, outline=ring)], labels.shape).astype(bool)
    assert (painted & (labels == 1)).sum() / (painted | (labels == 1)).sum() >= least_iou


def test_an_island_next_to_a_border_stays_on_its_side() -> None:
    """The line alone would be straight, and the island on the other side of it."""
    labels = np.zeros((20, 40), np.uint8)
    labels[10:] = 1
    labels[8:10, 18:22] = 1  # a bump
    labels[9, 20] = 2  # in the bump, above the straight line
    for distance in (1, 3, 10):
        regions = {
            region.label: region for region in find_regions(labels, range(3), simplify_borders(labels, distance))
        }
        (island,) = trace_rings(regions[2])
        outer, hole = trace_rings(regions[1])
        assert set(hole) == set(island)
        assert all(count_inside(np.array([point]), list_edges([outer])).all() for point in island)


def test_more_distance_means_fewer_corners() -> None:
    rng = np.random.default_rng(0)
    labels = (np.add.outer(np.cumsum(rng.normal(size=60)), np.cumsum(rng.normal(size=80))) > 0).astype(np.uint8)
    counts = [int(simplify_borders(labels, distance).sum()) for distance in (0.1, 0.5, 1, 2, 4)]
    assert all(later < earlier for earlier, later in itertools.pairwise(counts))
