from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from pixelwise.data.io.images import Array
from pixelwise.errors import InvalidArgumentError
from pixelwise.prediction.postprocess import label_components, postprocess_labels

Labels = arrays(np.uint8, st.tuples(st.integers(1, 6), st.integers(1, 6)), elements=st.integers(0, 2))
Pixel = tuple[int, int]


def around(pixel: Pixel, size: tuple[int, ...]) -> list[Pixel]:
    row, column = pixel
    near = [(row - 1, column), (row + 1, column), (row, column - 1), (row, column + 1)]
    return [(r, c) for r, c in near if 0 <= r < size[0] and 0 <= c < size[1]]


def flood(labels: Array) -> list[set[Pixel]]:
    """The regions, pixel by pixel, in reading order of their first pixels."""
    seen: set[Pixel] = set()
    found = []
    for start in np.ndindex(labels.shape):
        if start in seen:
            continue
        region, new = {start}, [start]
        while new:
            pixel = new.pop()
            more = {p for p in around(pixel, labels.shape) if labels[p] == labels[pixel]} - region
            region |= more
            new += more
        seen |= region
        found.append(region)
    return found


def neighbors(region: set[Pixel], regions: list[set[Pixel]], size: tuple[int, ...]) -> Counter[int]:
    """Number of a neighbor → pixel edges in common."""
    outside = [p for pixel in region for p in around(pixel, size) if p not in region]
    return Counter(next(n for n, other in enumerate(regions) if p in other) for p in outside)


def slowly(labels: Array, min_area: int) -> Array:
    """What `tidy` says of small regions, word by word: everything is looked for anew after each."""
    labels = labels.copy()
    while True:
        regions = flood(labels)
        small = [(len(region), n) for n, region in enumerate(regions) if len(region) < min_area]
        if len(regions) == 1 or not small:
            return labels
        _, number = min(small)
        borders = neighbors(regions[number], regions, labels.shape)
        label = {n: int(labels[min(regions[n])]) for n in borders}
        closest = min(borders, key=lambda n: (-borders[n], label[n], n))
        for pixel in regions[number]:
            labels[pixel] = label[closest]


def filled_slowly(labels: Array) -> Array:
    filled, regions = labels.copy(), flood(labels)
    for region in regions:
        borders = neighbors(region, regions, labels.shape)
        inner = all(len(around(pixel, labels.shape)) == 4 for pixel in region)
        if labels[min(region)] == 0 and inner and len(borders) == 1:
            for pixel in region:
                filled[pixel] = labels[min(regions[next(iter(borders))])]
    return filled


@given(Labels)
def test_regions_are_numbered_in_reading_order(labels: Array) -> None:
    numbers = label_components(labels)
    for number, region in enumerate(flood(labels)):
        assert {tuple(p) for p in np.argwhere(numbers == number).tolist()} == region


@settings(max_examples=80)
@given(Labels, st.integers(0, 12))
def test_small_regions_agree_with_a_simple_implementation(labels: Array, min_area: int) -> None:
    before = labels.copy()
    tidied = postprocess_labels(labels, min_area=min_area)
    np.testing.assert_array_equal(tidied, slowly(labels, min_area))
    np.testing.assert_array_equal(labels, before)
    assert tidied.dtype == labels.dtype
    regions = flood(tidied)
    assert len(regions) == 1 or min(map(len, regions)) >= min_area


@settings(max_examples=80)
@given(Labels)
def test_holes_agree_with_a_simple_implementation(labels: Array) -> None:
    np.testing.assert_array_equal(postprocess_labels(labels, fill_holes=True), filled_slowly(labels))


def test_a_small_region_takes_the_label_of_its_longest_border() -> None:
    labels = np.array([[1, 1, 2], [1, 0, 2], [1, 1, 2]], np.uint8)
    assert postprocess_labels(labels, min_area=2).tolist() == [[1, 1, 2], [1, 1, 2], [1, 1, 2]]


def test_holes_are_filled_and_nuclei_and_cells_remain() -> None:
    labels = np.zeros((9, 9), np.uint8)
    labels[1:8, 1:8] = 1  # a cell on its background
    labels[2:4, 2:4] = 2  # a nucleus
    labels[5:7, 5:7] = 0  # a hole
    expected = labels.copy()
    expected[5:7, 5:7] = 1
    np.testing.assert_array_equal(postprocess_labels(labels, fill_holes=True), expected)


def test_a_bay_at_the_border_is_not_a_hole() -> None:
    labels = np.array([[1, 1, 1], [1, 0, 0], [1, 1, 1]], np.uint8)
    np.testing.assert_array_equal(postprocess_labels(labels, fill_holes=True), labels)


def test_small_regions_in_a_hole_are_removed_before_it_is_filled() -> None:
    labels = np.ones((7, 7), np.uint16)
    labels[2:5, 2:5], labels[3, 3] = 0, 2
    np.testing.assert_array_equal(postprocess_labels(labels, fill_holes=True), labels)
    assert (postprocess_labels(labels, min_area=2, fill_holes=True) == 1).all()


def test_labels_are_unchanged_by_default() -> None:
    labels = np.array([[0, 1], [2, 0]], np.uint8)
    assert postprocess_labels(labels) is labels
    assert postprocess_labels(labels, min_area=1) is labels


def test_a_negative_area_is_an_error() -> None:
    with pytest.raises(InvalidArgumentError, match=r"min_area is -1, but must be a number of pixels"):
        postprocess_labels(np.zeros((1, 1), np.uint8), min_area=-1)
