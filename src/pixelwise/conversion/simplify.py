"""Simplify the borders between regions: fewer corners, within a distance.

Borders are simplified as one planar graph. Its nodes, where three or more borders meet, stay. A border between two
nodes is simplified once, for the regions on both sides, so neighbors have no gap and no overlap. A border may turn at
the corners of pixels and in the middle of its straight edges. A staircase thus becomes the line through the middles of
its steps, which favors neither region. A point is removed only if

- every point that was removed between its two neighbors is within the distance of the new edge, so the Hausdorff
  distance between a border and its simplified form is at most that distance, and
- no other point is inside the triangle with its two neighbors, and the new edge is not one already. The new edge
  therefore crosses no other, holes stay inside, and every region keeps at least three points.

Corners are removed first, then all points, each time the one with the smallest triangle: Visvalingam and Whyatt, "Line
generalisation by repeated elimination of points", 1993.
"""

import heapq
import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np

from pixelwise.data.io.images import Array


def simplify_borders(labels: Array, distance: float) -> Array:
    """Return the points at which simplified borders turn or meet.

    Args:
        labels: (H, W) integers; neighbors with different values have a border.
        distance: Largest distance in pixels between a border and its simplified form, above 0. Below 0.354 nothing
            changes, because that is the distance of a corner of a diagonal staircase.

    Returns:
        (2 H + 1, 2 W + 1) bool; `[2 y, 2 x]` is the upper left corner of pixel (y, x).

    Example:
        >>> staircase = np.triu(np.ones((9, 9), int))
        >>> [int(simplify_borders(staircase, distance).sum()) for distance in (0.3, 0.5)]
        [21, 8]
    """
    graph = _BorderGraph(*_find_edges(labels))
    limit = (2 * distance) ** 2
    _remove_points(graph, limit, lambda point: point < graph.num_corners)
    while _remove_points(graph, limit, lambda point: True):
        pass  # a point that was in the way may be gone
    return graph.remaining


def _find_edges(labels: Array) -> tuple[Array, Array]:
    """Return where the border goes to the right and down from a corner, both (H + 1, W + 1) bool."""
    padded = np.pad(labels.astype(np.int64), 1, constant_values=-1)
    right, down = padded[:-1, 1:] != padded[1:, 1:], padded[1:, :-1] != padded[1:, 1:]
    return right, down


@dataclass(slots=True)
class _BorderGraph:
    """The corners of all borders by number, and the borders between nodes."""

    right: Array
    down: Array
    num_corners: int = field(init=False)
    """Points with lower numbers are corners and nodes, the others middles of edges."""
    points: list[tuple[int, int]] = field(init=False)
    """(x, y) of each point, in half pixels."""
    remaining: Array = field(init=False)
    """(2 H + 1, 2 W + 1) bool, whether there is a point that has not been removed."""
    borders: list[list[int]] = field(init=False)
    """Points of each border, from node to node; a border without nodes begins and ends with the same point."""
    places: dict[int, tuple[int, int]] = field(init=False)
    """Border and position in it of each point that may be removed."""
    neighbors: dict[int, tuple[int, int]] = field(init=False)
    """Positions of the points before and after each remaining one."""
    edges: set[tuple[int, int]] = field(init=False)
    """Points at both ends of each edge, the lower number first."""

    def __post_init__(self) -> None:
        left, up = np.zeros_like(self.right), np.zeros_like(self.down)
        left[:, 1:], up[1:] = self.right[:, :-1], self.down[:-1]
        degrees = self.right.astype(np.int8) + left + self.down + up
        ys, xs = np.nonzero((degrees > 2) | ((degrees == 2) & (self.right != left)))
        self.num_corners = len(ys)
        self.points = list(zip((2 * xs).tolist(), (2 * ys).tolist(), strict=True))
        is_node = (degrees > 2)[ys, xs].tolist()
        traced = _trace_borders(*_link(ys, xs, self.right, self.down), is_node)
        self.borders = [self._add_middles(border, is_closed=not is_node[border[0]]) for border in traced]
        self.remaining = np.zeros([2 * side - 1 for side in self.right.shape], bool)
        self.remaining[[y for _, y in self.points], [x for x, _ in self.points]] = True
        self.places, self.neighbors, self.edges = {}, {}, set()
        for number, border in enumerate(self.borders):
            for position, (before, point) in enumerate(itertools.pairwise(border), start=1):
                self.edges.add(_make_edge(before, point))
                if position < len(border) - 1:
                    self.places[point] = number, position
                    self.neighbors[point] = position - 1, position + 1

    def _add_middles(self, corners: list[int], *, is_closed: bool) -> list[int]:
        """Insert the middle of each edge; a closed border then begins in a middle, because that point stays."""
        border = [corners[0]]
        for before, corner in itertools.pairwise(corners):
            (x0, y0), (x1, y1) = self.points[before], self.points[corner]
            border += [len(self.points), corner]
            self.points.append(((x0 + x1) // 2, (y0 + y1) // 2))
        return [*border[1:], border[1]] if is_closed else border

    def measure(self, point: int) -> tuple[int, float]:
        """Measure what the removal of a point changes, in half pixels.

        Returns:
            Twice the area of the triangle with its neighbors, and the largest squared distance of a removed point,
            also of earlier ones, from the new edge.
        """
        number, position = self.places[point]
        border, (first, last) = self.borders[number], self.neighbors[point]
        (x0, y0), (x1, y1), (x2, y2) = (self.points[border[i]] for i in (first, position, last))
        dx, dy = x2 - x0, y2 - y0
        length = dx * dx + dy * dy
        largest = 0.0
        for other in border[first + 1 : last]:
            x, y = self.points[other]
            x, y = x - x0, y - y0
            along = x * dx + y * dy
            if along <= 0:
                found: float = x * x + y * y
            elif along >= length:
                found = (x - dx) ** 2 + (y - dy) ** 2
            else:
                found = (x * dy - y * dx) ** 2 / length
            largest = max(largest, found)
        return abs((x1 - x0) * dy - (y1 - y0) * dx), largest

    def can_remove(self, point: int) -> bool:
        """Return whether the new edge meets no other point or edge."""
        number, _ = self.places[point]
        border, (first, last) = self.borders[number], self.neighbors[point]
        if border[first] == border[last] or _make_edge(border[first], border[last]) in self.edges:
            return False
        ends = [self.points[i] for i in (border[first], point, border[last])]
        (x0, y0), (x1, y1), (x2, y2) = ends
        left, top = min(x0, x1, x2), min(y0, y1, y2)
        window = self.remaining[top : max(y0, y1, y2) + 1, left : max(x0, x1, x2) + 1]
        ys, xs = np.nonzero(window)
        if len(ys) == 3:  # only those of the triangle
            return True
        xs, ys = xs + left, ys + top
        sides = [
            (x1 - x0) * (ys - y0) - (y1 - y0) * (xs - x0),
            (x2 - x1) * (ys - y1) - (y2 - y1) * (xs - x1),
            (x0 - x2) * (ys - y2) - (y0 - y2) * (xs - x2),
        ]
        inside = (np.minimum.reduce(sides) >= 0) | (np.maximum.reduce(sides) <= 0)
        return int(np.count_nonzero(inside)) == 3

    def remove(self, point: int) -> list[int]:
        """Remove a point; returns its neighbors that may be removed."""
        number, _ = self.places.pop(point)
        border, (first, last) = self.borders[number], self.neighbors.pop(point)
        before, after = border[first], border[last]
        self.edges -= {_make_edge(before, point), _make_edge(point, after)}
        self.edges.add(_make_edge(before, after))
        x, y = self.points[point]
        self.remaining[y, x] = False
        changed = []
        if first > 0:
            self.neighbors[before] = self.neighbors[before][0], last
            changed.append(before)
        if last < len(border) - 1:
            self.neighbors[after] = first, self.neighbors[after][1]
            changed.append(after)
        return changed


def _make_edge(one: int, other: int) -> tuple[int, int]:
    return (one, other) if one < other else (other, one)


def _link(ys: Array, xs: Array, right: Array, down: Array) -> tuple[list[list[int]], list[list[int]]]:
    """Return the neighbors of each corner along its row and along its column."""
    rows: list[list[int]] = [[] for _ in ys]
    columns: list[list[int]] = [[] for _ in ys]
    by_column = np.lexsort((ys, xs))
    for links, order, continues in ((rows, np.arange(len(ys)), right[ys, xs]), (columns, by_column, down[ys, xs])):
        starts = np.flatnonzero(continues[order])  # the border goes straight on to the next corner of the row or column
        for one, other in zip(order[starts].tolist(), order[starts + 1].tolist(), strict=True):
            links[one].append(other)
            links[other].append(one)
    return rows, columns


def _trace_borders(rows: list[list[int]], columns: list[list[int]], is_node: list[bool]) -> Iterator[list[int]]:
    """Yield the corners of each border: first those that end at nodes, then the closed ones."""
    seen = [False] * len(is_node)
    done: set[tuple[int, int]] = set()
    """Node and first corner of borders that were traced from their other end."""
    for start in sorted(range(len(is_node)), key=lambda corner: not is_node[corner]):
        if seen[start]:
            continue
        choices = ((rows, columns), (columns, rows)) if is_node[start] else ((rows, columns),)
        for links, others in choices:
            for following in links[start]:
                if (start, following) in done:
                    continue
                border, corner, turn = [start, following], following, others
                while not is_node[corner] and corner != start:
                    seen[corner] = True
                    corner = turn[corner][0]
                    turn = columns if turn is rows else rows
                    border.append(corner)
                done.add((corner, border[-2]))
                yield border
                if not is_node[start]:
                    break
        seen[start] = True


def _remove_points(graph: _BorderGraph, limit: float, is_wanted: Callable[[int], bool]) -> int:
    """Remove wanted points, the smallest triangle first, up to a squared distance; returns their number."""
    measured = {point: graph.measure(point) for point in graph.places if is_wanted(point)}
    queue = [(area, point) for point, (area, distance) in measured.items() if distance <= limit]
    heapq.heapify(queue)
    count = 0
    while queue:
        area, point = heapq.heappop(queue)
        is_current = point in graph.places and measured[point][0] == area and measured[point][1] <= limit
        if not is_current or not graph.can_remove(point):
            continue
        count += 1
        for changed in graph.remove(point):
            if changed in measured:
                measured[changed] = graph.measure(changed)
                if measured[changed][1] <= limit:
                    heapq.heappush(queue, (measured[changed][0], changed))
    return count
