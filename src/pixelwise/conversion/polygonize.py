"""Regions of a label map, and their outlines along the edges of pixels.

A region is a 4-connected component of one class. Its polygon has integer corners, so the center of a pixel is
inside if and only if the pixel belongs to the region: rasterizing the polygon gives the same pixels. With the corners
of `simplify.py`, which may be in the middle of an edge, it has fewer corners, and nearly the same pixels.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from pixelwise.data.io.images import Array

Point = tuple[int, int]
"""(x, y): column and row of a corner of a pixel; (0, 0) is the upper left corner of the image."""
Position = tuple[float, float]
"""(x, y) in the same units, whole or half."""

_STEPS = ((1, 0), (0, 1), (-1, 0), (0, -1))
"""Directions right, down, left, up: each is a right turn from the previous one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Region:
    """A connected component of one class."""

    label: int
    top: int
    left: int
    inside: Array
    """(h, w) bool in the bounding box that starts at (top, left)."""
    corners: Array | None = None
    """(2 h + 1, 2 w + 1) bool, the points at which its outlines turn, in half pixels; None: they follow the pixels."""


def find_regions(labels: Array, wanted: range, corners: Array | None = None) -> Iterator[Region]:
    """Yield the regions of the labels in `wanted`, class by class.

    Args:
        labels: (H, W).
        wanted: Labels of the regions.
        corners: The result of `simplify_borders`; None: outlines follow the edges of pixels.
    """
    for label in np.unique(labels).tolist():
        if label not in wanted:
            continue
        mask = (labels == label).astype(np.uint8)
        count, numbers, boxes, _ = cv2.connectedComponentsWithStats(mask, connectivity=4)
        for number in range(1, count):
            left, top, width, height = boxes[number, :4].tolist()
            inside = numbers[top : top + height, left : left + width] == number
            bottom, right = top + height, left + width
            own = None if corners is None else corners[2 * top : 2 * bottom + 1, 2 * left : 2 * right + 1]
            yield Region(label=label, top=top, left=left, inside=inside, corners=own)


def trace_polygon(region: Region) -> list[Position]:
    """Trace one closed polygon around a region; bridges of zero width connect it to its holes.

    Example:
        >>> trace_polygon(Region(label=1, top=0, left=0, inside=np.ones((1, 2), bool)))
        [(0, 0), (2, 0), (2, 1), (0, 1)]
    """
    outer, *holes = _trace_loops(region)
    corners = np.array(outer)
    bridged: dict[int, list[list[Position]]] = {}
    for hole in holes:
        nearest = int(np.abs(corners - hole[0]).sum(1).argmin())
        bridged.setdefault(nearest, []).append(hole)
    points: list[Position] = []
    for index, (x, y) in enumerate(outer):
        points.append((x, y))
        for hole in bridged.get(index, []):
            corner = (hole[0][0], y)  # along the grid, so no bridge crosses the center of a pixel
            points += [corner, *hole, hole[0], corner, (x, y)]
    return [(x + region.left, y + region.top) for x, y in points]


def trace_rings(region: Region) -> list[list[Position]]:
    """Trace the outer ring, clockwise on the screen, then the holes, counterclockwise.

    Loops that touch themselves at a corner are divided there, so the rings form one valid polygon.

    Example:
        >>> trace_rings(Region(label=1, top=0, left=0, inside=np.ones((1, 1), bool)))
        [[(0, 0), (1, 0), (1, 1), (0, 1)]]
    """
    parts = [part for loop in _trace_loops(region) for part in _split_loop(loop)]
    outer_first = sorted(parts, key=lambda part: compute_doubled_area(part) < 0)
    return [[(x + region.left, y + region.top) for x, y in part] for part in outer_first]


def compute_doubled_area(ring: Sequence[Position]) -> float:
    """Compute twice the signed area of a ring: positive if it is clockwise on the screen."""
    return sum(x0 * y1 - x1 * y0 for (x0, y0), (x1, y1) in zip(ring, [*ring[1:], ring[0]], strict=True))


def _split_loop(loop: list[Position]) -> Iterator[list[Position]]:
    """Split a loop at corners that it passes twice."""
    path: dict[Position, None] = {}  # ordered, with fast lookup
    for point in loop:
        if point in path:
            part = [path.popitem()[0]]
            while part[-1] != point:
                part.append(path.popitem()[0])
            yield part[::-1]
        path[point] = None
    yield list(path)


def _trace_loops(region: Region) -> list[list[Position]]:
    """Return the corners of each outline, the outer one first; the region is on the right of the path."""
    edges = _find_edges(region.inside)
    corners = None if region.corners is None else {(x, y) for y, x in np.argwhere(region.corners).tolist()}
    loops: list[list[Position]] = []
    while edges:
        start, directions = next(iter(edges.items()))  # the uppermost, leftmost corner: first on the outer outline
        passed = _trace_loop(edges, start, min(directions))
        if corners is None:
            loops.append([(x // 2, y // 2) for (x, y), is_turn in passed if is_turn])
        else:
            loops.append(_drop_straight([(point, is_turn) for point, is_turn in passed if point in corners]))
    return loops


def _drop_straight(passed: Sequence[tuple[Point, bool]]) -> list[Position]:
    """Return the points of a loop, given in half pixels, without those where it was straight and still is.

    Such a point is a node of other borders, or in the middle of an edge.
    """
    loop: list[Position] = []
    x0, y0 = passed[-1][0]
    for ((x1, y1), is_turn), ((x2, y2), _) in zip(passed, [*passed[1:], passed[0]], strict=True):
        if is_turn or (x1 - x0) * (y2 - y1) != (y1 - y0) * (x2 - x1):
            loop.append((x1 / 2, y1 / 2))
            x0, y0 = x1, y1
    return loop


def _find_edges(inside: Array) -> dict[Point, set[int]]:
    """Map each corner to the directions of the region's edges that start there, in reading order."""
    padded = np.pad(inside, 1)
    height, width = inside.shape
    starts = []
    # Neighbor above, right, below and left of a pixel, and the corner where the edge to it starts, clockwise.
    for direction, (row, column, x, y) in enumerate(((0, 1, 0, 0), (1, 2, 1, 0), (2, 1, 1, 1), (1, 0, 0, 1))):
        rows, columns = np.nonzero(inside & ~padded[row : row + height, column : column + width])
        starts += [(y0, x0, direction) for y0, x0 in zip((rows + y).tolist(), (columns + x).tolist(), strict=True)]
    edges: dict[Point, set[int]] = {}
    for y0, x0, direction in sorted(starts):
        edges.setdefault((x0, y0), set()).add(direction)
    return edges


def _trace_loop(edges: dict[Point, set[int]], start: Point, direction: int) -> list[tuple[Point, bool]]:
    """Follow one outline from a corner back to it, and remove its edges.

    At corners with two outgoing edges it turns right, because pixels that touch only at a corner are not connected.

    Returns:
        Every half pixel of the outline, in half pixels, and whether the outline turns there.
    """
    (x, y), point = start, start
    passed = [((2 * x, 2 * y), True)]
    while True:
        edges[point].remove(direction)
        if not edges[point]:
            del edges[point]
        (dx, dy), previous = _STEPS[direction], direction
        passed.append(((2 * x + dx, 2 * y + dy), False))
        x, y = point = (x + dx, y + dy)
        if point == start:
            return passed
        direction = next(d for turn in (1, 0, 3) if (d := (previous + turn) % 4) in edges[point])
        passed.append(((2 * x, 2 * y), direction != previous))
