"""Remove small regions and holes from label maps: `--min-area` and `--fill-holes`.

A region is a connected component: pixels of one label that touch along edges. Two regions are neighbors if a pixel of
one shares an edge with a pixel of the other.
"""

import heapq
from dataclasses import dataclass

import cv2
import numpy as np

from pixelwise.data.io.images import Array
from pixelwise.errors import InvalidArgumentError

HOLE = 0
"""Label of holes: the first class is the background."""


def require_min_area(min_area: int) -> None:
    """Raise InvalidArgumentError for a negative area."""
    if min_area < 0:
        raise InvalidArgumentError(f"min_area is {min_area}, but must be a number of pixels, 0 or more.")


def postprocess_labels(labels: Array, min_area: int = 0, fill_holes: bool = False) -> Array:
    """Remove small regions from (H, W) labels, then holes.

    A region of fewer than `min_area` pixels takes the label of the neighbor with which it shares the longest border,
    the smallest region first. The regions that touch then are one region. Of equally large regions, the one that
    begins first in reading order comes first. Of equally long borders, the one with the lower label counts, then the
    neighbor that begins first. One region always remains.

    A hole is a region of class 0 that does not touch the border of the image and has a single neighbor. It takes the
    label of the neighbor. Regions of other classes are not holes: a nucleus in a cell and a cell on its background
    remain.

    Raises:
        InvalidArgumentError: `min_area` is negative.
    """
    require_min_area(min_area)
    if min_area > 1:
        labels = _remove_small_regions(labels, min_area)
    return _fill_holes(labels) if fill_holes else labels


def label_components(labels: Array) -> Array:
    """Number the regions of (H, W) labels from 0, in reading order of their first pixels; returns (H, W) int64."""
    numbers = np.zeros(labels.shape, np.int64)
    total = 0
    for label in np.unique(labels).tolist():
        mask = labels == label
        count, components = cv2.connectedComponents(mask.astype(np.uint8), connectivity=4)
        numbers[mask] = components[mask] + (total - 1)
        total += count - 1
    _, firsts, inverse = np.unique(numbers, return_index=True, return_inverse=True)
    rank = np.empty(len(firsts), np.int64)
    rank[np.argsort(firsts)] = np.arange(len(firsts))
    ordered: Array = rank[inverse].reshape(labels.shape)
    return ordered


@dataclass(frozen=True, slots=True)
class _RegionGraph:
    """The regions of a label map, by number."""

    numbers: Array
    """(H, W), from `label_components`."""
    labels: list[int]
    areas: list[int]
    borders: list[dict[int, int]]
    """For each region its neighbors, with the number of shared pixel edges."""


def _build_graph(labels: Array) -> _RegionGraph:
    numbers = label_components(labels)
    _, firsts, areas = np.unique(numbers, return_index=True, return_counts=True)
    borders: list[dict[int, int]] = [{} for _ in firsts]
    for one, other, length in _count_shared_edges(numbers):
        borders[one][other] = borders[one].get(other, 0) + length
        borders[other][one] = borders[other].get(one, 0) + length
    return _RegionGraph(numbers, labels.reshape(-1)[firsts].tolist(), areas.tolist(), borders)


def _count_shared_edges(numbers: Array) -> list[tuple[int, int, int]]:
    """Return pairs of neighboring regions with the number of pixel edges between them."""
    count = int(numbers.max()) + 1
    pairs = []
    for one, other in ((numbers[:, :-1], numbers[:, 1:]), (numbers[:-1], numbers[1:])):
        differs = one != other
        pairs.append(one[differs] * count + other[differs])
    codes, lengths = np.unique(np.concatenate(pairs), return_counts=True)
    return list(zip((codes // count).tolist(), (codes % count).tolist(), lengths.tolist(), strict=True))


def _remove_small_regions(labels: Array, min_area: int) -> Array:
    graph = _build_graph(labels)
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
    table = np.array([graph.labels[_find_root(owner, number)] for number in range(len(owner))], labels.dtype)
    cleaned: Array = table[graph.numbers]
    return cleaned


def _absorb(graph: _RegionGraph, number: int, owner: list[int]) -> int:
    """Give a region the label of its closest neighbor, and merge it with all neighbors of that label.

    Returns the number of the merged region: the lowest one, whose first pixel comes first.
    """
    borders = graph.borders[number]
    closest = min(borders, key=lambda other: (-borders[other], graph.labels[other], other))
    label = graph.labels[closest]
    merged = [number, *(other for other in borders if graph.labels[other] == label)]
    kept = min(merged)
    graph.labels[kept] = label
    for other in merged:
        if other != kept:
            _merge(graph, kept, other)
            owner[other] = kept
    return kept


def _merge(graph: _RegionGraph, kept: int, removed: int) -> None:
    graph.areas[kept] += graph.areas[removed]
    for other, length in graph.borders[removed].items():
        del graph.borders[other][removed]
        if other != kept:
            graph.borders[kept][other] = graph.borders[kept].get(other, 0) + length
            graph.borders[other][kept] = graph.borders[kept][other]
    graph.borders[removed] = {}


def _find_root(owner: list[int], number: int) -> int:
    while owner[number] != number:
        owner[number] = owner[owner[number]]
        number = owner[number]
    return number


def _fill_holes(labels: Array) -> Array:
    graph = _build_graph(labels)
    border = np.concatenate([graph.numbers[[0, -1]].ravel(), graph.numbers[:, [0, -1]].ravel()])
    open_regions = set(np.unique(border).tolist())
    table = np.array(graph.labels, labels.dtype)
    for number, borders in enumerate(graph.borders):
        if graph.labels[number] == HOLE and number not in open_regions and len(borders) == 1:
            table[number] = graph.labels[next(iter(borders))]
    filled: Array = table[graph.numbers]
    return filled
