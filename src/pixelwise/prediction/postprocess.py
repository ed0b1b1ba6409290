"""Label maps without specks and holes: what `--min-area` and `--fill-holes` do.

A region is a set of pixels of one label that touch along edges. Two regions are neighbors where a pixel
of one has an edge in common with a pixel of the other.
"""

import heapq
from dataclasses import dataclass

import cv2
import numpy as np

from pixelwise.data.io.images import Array
from pixelwise.errors import InvalidArgumentError

HOLE = 0
"""The label of holes: what all else stands on is the first class."""


def require_min_area(min_area: int) -> None:
    """InvalidArgumentError for an area that no region can have."""
    if min_area < 0:
        raise InvalidArgumentError(f"min_area is {min_area}, but must be a number of pixels, 0 or more.")


def tidy(labels: Array, *, min_area: int = 0, fill_holes: bool = False) -> Array:
    """(H, W) labels → (H, W) of the same type, first without small regions, then without holes.

    A region of fewer than `min_area` pixels takes the label of the neighbor with which it has the
    longest border in common, the smallest region first; what then touches is one region. Of equal
    regions the one that begins first in reading order comes first; of equal borders the lower label
    counts, then the neighbor that begins first. One region always stays.

    A hole is a region of class 0 whose neighbors are all one region, away from the image's border. It
    takes the label of what surrounds it. Regions of other classes are no holes: a nucleus in a cell
    and a cell on its background stay.

    Raises InvalidArgumentError for a negative `min_area`.
    """
    require_min_area(min_area)
    if min_area > 1:
        labels = _without_small(labels, min_area)
    return _without_holes(labels) if fill_holes else labels


def number_regions(labels: Array) -> Array:
    """(H, W) int64: the number of each pixel's region, in reading order of their first pixels from 0."""
    numbers = np.zeros(labels.shape, np.int64)
    total = 0
    for label in np.unique(labels).tolist():
        here = labels == label
        count, found = cv2.connectedComponents(here.astype(np.uint8), connectivity=4)
        numbers[here] = found[here] + (total - 1)
        total += count - 1
    _, firsts, inverse = np.unique(numbers, return_index=True, return_inverse=True)
    rank = np.empty(len(firsts), np.int64)
    rank[np.argsort(firsts)] = np.arange(len(firsts))
    ordered: Array = rank[inverse].reshape(labels.shape)
    return ordered


@dataclass(frozen=True, slots=True)
class _Graph:
    """The regions of a label map, by number."""

    numbers: Array
    """(H, W) as `number_regions` gives them."""
    labels: list[int]
    areas: list[int]
    borders: list[dict[int, int]]
    """Of each region its neighbors, and the number of pixel edges in common."""


def _graph(labels: Array) -> _Graph:
    numbers = number_regions(labels)
    _, firsts, areas = np.unique(numbers, return_index=True, return_counts=True)
    borders: list[dict[int, int]] = [{} for _ in firsts]
    for one, other, length in _common_edges(numbers):
        borders[one][other] = borders[one].get(other, 0) + length
        borders[other][one] = borders[other].get(one, 0) + length
    return _Graph(numbers, labels.reshape(-1)[firsts].tolist(), areas.tolist(), borders)


def _common_edges(numbers: Array) -> list[tuple[int, int, int]]:
    """Two regions and how many pixel edges lie between them, one pixel on the left or above."""
    count = int(numbers.max()) + 1
    pairs = []
    for one, other in ((numbers[:, :-1], numbers[:, 1:]), (numbers[:-1], numbers[1:])):
        differs = one != other
        pairs.append(one[differs] * count + other[differs])
    codes, lengths = np.unique(np.concatenate(pairs), return_counts=True)
    return list(zip((codes // count).tolist(), (codes % count).tolist(), lengths.tolist(), strict=True))


def _without_small(labels: Array, min_area: int) -> Array:
    graph = _graph(labels)
    small = [(area, number) for number, area in enumerate(graph.areas) if area < min_area]
    if not small:
        return labels
    heapq.heapify(small)
    owner = list(range(len(graph.areas)))
    while small:
        area, number = heapq.heappop(small)
        stale = owner[number] != number or graph.areas[number] != area
        if stale or not graph.borders[number]:
            continue
        kept = _absorb(graph, number, owner)
        if graph.areas[kept] < min_area:
            heapq.heappush(small, (graph.areas[kept], kept))
    table = np.array([graph.labels[_root(owner, number)] for number in range(len(owner))], labels.dtype)
    tidied: Array = table[graph.numbers]
    return tidied


def _absorb(graph: _Graph, number: int, owner: list[int]) -> int:
    """A region takes the label of its closest neighbor; all regions of that label it touches become one.

    Returns the number of that one: the lowest, whose first pixel comes first.
    """
    borders = graph.borders[number]
    closest = min(borders, key=lambda other: (-borders[other], graph.labels[other], other))
    label = graph.labels[closest]
    joined = [number, *(other for other in borders if graph.labels[other] == label)]
    kept = min(joined)
    graph.labels[kept] = label
    for other in joined:
        if other != kept:
            _merge(graph, kept, other)
            owner[other] = kept
    return kept


def _merge(graph: _Graph, kept: int, gone: int) -> None:
    graph.areas[kept] += graph.areas[gone]
    for other, length in graph.borders[gone].items():
        del graph.borders[other][gone]
        if other != kept:
            graph.borders[kept][other] = graph.borders[kept].get(other, 0) + length
            graph.borders[other][kept] = graph.borders[kept][other]
    graph.borders[gone] = {}


def _root(owner: list[int], number: int) -> int:
    while owner[number] != number:
        owner[number] = owner[owner[number]]
        number = owner[number]
    return number


def _without_holes(labels: Array) -> Array:
    graph = _graph(labels)
    rim = np.concatenate([graph.numbers[[0, -1]].ravel(), graph.numbers[:, [0, -1]].ravel()])
    open_regions = set(np.unique(rim).tolist())
    table = np.array(graph.labels, labels.dtype)
    for number, borders in enumerate(graph.borders):
        if graph.labels[number] == HOLE and number not in open_regions and len(borders) == 1:
            table[number] = graph.labels[next(iter(borders))]
    filled: Array = table[graph.numbers]
    return filled
