"""Regions of a label map, and their outlines along the edges of pixels.

A region is a set of pixels of one class that touch along edges. Its polygon has integer corners, so a
pixel's center is inside it exactly if the pixel is in the region: nothing is lost or moved.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from pixelwise.data.io.images import Array

Point = tuple[int, int]
"""(x, y): column and row of a corner, from the upper left one of the image."""

_STEPS = ((1, 0), (0, 1), (-1, 0), (0, -1))
"""Right, down, left, up: each the right turn of the one before."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Region:
    """Connected pixels of one class."""

    label: int
    top: int
    left: int
    inside: Array
    """(h, w) bool within the bounding box that begins at (top, left)."""


def regions(labels: Array, wanted: range) -> Iterator[Region]:
    """The regions of the labels in `wanted`, class by class."""
    for label in np.unique(labels).tolist():
        if label not in wanted:
            continue
        here = (labels == label).astype(np.uint8)
        count, numbers, boxes, _ = cv2.connectedComponentsWithStats(here, connectivity=4)
        for number in range(1, count):
            left, top, width, height = boxes[number, :4].tolist()
            inside = numbers[top : top + height, left : left + width] == number
            yield Region(label=label, top=top, left=left, inside=inside)


def polygon(region: Region) -> list[Point]:
    """One closed polygon around a region, its holes cut out by bridges of no width.

    Two pixels side by side at the image's corner: `[(0, 0), (2, 0), (2, 1), (0, 1)]`.
    """
    outer, *holes = _loops(region.inside)
    corners = np.array(outer)
    bridged: dict[int, list[list[Point]]] = {}
    for hole in holes:
        nearest = int(np.abs(corners - hole[0]).sum(1).argmin())
        bridged.setdefault(nearest, []).append(hole)
    points: list[Point] = []
    for index, (x, y) in enumerate(outer):
        points.append((x, y))
        for hole in bridged.get(index, []):
            corner = (hole[0][0], y)  # along the grid, so that no bridge crosses the center of a pixel
            points += [corner, *hole, hole[0], corner, (x, y)]
    return [(x + region.left, y + region.top) for x, y in points]


def rings(region: Region) -> list[list[Point]]:
    """The outer ring, clockwise as one sees it, then the holes, the other way round.

    No ring touches itself, as `_loops` may at a corner: that part is a ring of its own. So the rings
    are those of one valid polygon. A pixel at the image's corner: `[[(0, 0), (1, 0), (1, 1), (0, 1)]]`.
    """
    parts = [part for loop in _loops(region.inside) for part in _parts(loop)]
    outer_first = sorted(parts, key=lambda part: twice_area(part) < 0)
    return [[(x + region.left, y + region.top) for x, y in part] for part in outer_first]


def twice_area(ring: Sequence[tuple[float, float]]) -> float:
    """Twice the area within a ring: positive where it goes from x to y, on a screen clockwise."""
    return sum(x0 * y1 - x1 * y0 for (x0, y0), (x1, y1) in zip(ring, [*ring[1:], ring[0]], strict=True))


def _parts(loop: list[Point]) -> Iterator[list[Point]]:
    """A loop cut at corners that it passes twice."""
    way: dict[Point, None] = {}  # in order, and fast to look into
    for point in loop:
        if point in way:
            part = [way.popitem()[0]]
            while part[-1] != point:
                part.append(way.popitem()[0])
            yield part[::-1]
        way[point] = None
    yield list(way)


def _loops(inside: Array) -> list[list[Point]]:
    """The corners of each outline, the outer one first; the region lies to the right of the way."""
    edges = _edges(inside)
    loops = []
    while edges:
        start, open_ways = next(iter(edges.items()))  # the uppermost, leftmost: on the outer one at first
        way = min(open_ways)
        loops.append(_walk(edges, start, way))
    return loops


def _edges(inside: Array) -> dict[Point, set[int]]:
    """Corner → the ways that edges of the region leave it, in reading order."""
    padded = np.pad(inside, 1)
    starts = []
    # Above, right of, below and left of a pixel: where its edge starts, going clockwise.
    for way, (row, column, x, y) in enumerate(((0, 1, 0, 0), (1, 2, 1, 0), (2, 1, 1, 1), (1, 0, 0, 1))):
        height, width = inside.shape
        rows, columns = np.nonzero(inside & ~padded[row : row + height, column : column + width])
        starts += [(y0, x0, way) for y0, x0 in zip((rows + y).tolist(), (columns + x).tolist(), strict=True)]
    edges: dict[Point, set[int]] = {}
    for y0, x0, way in sorted(starts):
        edges.setdefault((x0, y0), set()).add(way)
    return edges


def _walk(edges: dict[Point, set[int]], start: Point, way: int) -> list[Point]:
    """One outline from a corner back to it; its edges are taken out. Where two ways part, it turns right:
    pixels that touch at a corner alone are not connected."""
    corners, point, before = [start], start, way
    while True:
        edges[point].remove(way)
        if not edges[point]:
            del edges[point]
        before, point = way, (point[0] + _STEPS[way][0], point[1] + _STEPS[way][1])
        if point == start:
            return corners
        way = next(w for turn in (1, 0, 3) if (w := (before + turn) % 4) in edges[point])
        if way != before:
            corners.append(point)
