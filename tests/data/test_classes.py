import json
import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pixelwise.data.classes import (
    Classes,
    ValueRange,
    classes_from_dict,
    classes_from_values,
    find_foreground,
    ignore_index_for,
    mask_values,
    pack_color,
)
from pixelwise.data.colors import GRAY, PALETTE, choose_colors
from pixelwise.data.description import describe_classes, parse_description
from pixelwise.errors import DataError

NAMES = ["sky", "road", "car"]
COLORS = [[128, 128, 128], [128, 64, 128], [64, 0, 128]]


def describe(**values: object) -> Classes:
    return describe_classes(parse_description({"names": NAMES, **values}))


def labels_of(classes: Classes, mask: object, dtype: type = np.uint8) -> list[Any]:
    """Labels of a mask without unlisted values."""
    labels, unlisted = classes.to_labels(np.array(mask, dtype))
    assert unlisted == []
    assert labels.dtype == classes.dtype
    listed: list[Any] = labels.tolist()
    return listed


@pytest.mark.parametrize(
    ("count", "ignore_index", "dtype"),
    [(2, 255, np.uint8), (255, 255, np.uint8), (256, 65535, np.uint16), (1000, 65535, np.uint16)],
)
def test_the_ignore_index_is_the_largest_value_of_the_dtype(count: int, ignore_index: int, dtype: type) -> None:
    values = range(1000, 1000 + count)
    classes = classes_from_values(values)
    assert classes.ignore_index == ignore_index_for(count) == ignore_index == np.iinfo(dtype).max
    assert classes.dtype == dtype
    mask = [[values[0], 255, values[-1]]]
    assert labels_of(classes, mask, np.uint16) == [[0, ignore_index, count - 1]]


# Classes found in masks.


def test_zero_and_255_are_background_and_foreground() -> None:
    classes = classes_from_values([255, 0])
    assert classes.names == ("background", "foreground")
    assert labels_of(classes, [[0, 255]]) == [[0, 1]]


def test_other_ids_are_compacted_in_ascending_order() -> None:
    classes = classes_from_values([7, 255, 3, 0, 7])
    assert classes.names == ("0", "3", "7")
    assert labels_of(classes, [[0, 3, 7, 255]]) == [[0, 1, 2, 255]]


def test_the_class_of_0_is_gray_without_names() -> None:
    assert classes_from_values([3, 0, 7]).colors == (GRAY, *PALETTE[:2])
    assert classes_from_values([1, 3, 7]).colors == PALETTE[:3]


@pytest.mark.parametrize("values", [[], [255]])
def test_255_only_is_no_class(values: list[int]) -> None:
    assert classes_from_values(values).names == ()
    assert classes_from_values(values).ignore == (255,)


# Masks to labels and back.


def test_unlisted_values_are_returned_and_ignored() -> None:
    labels, unlisted = describe().to_labels(np.array([[0, 9, 255, 7]], np.uint8))
    assert labels.tolist() == [[0, 255, 255, 255]]
    assert unlisted == [7, 9]


def test_unlisted_colors_are_returned_and_ignored() -> None:
    classes = describe(colors=COLORS, coding="rgb")
    labels, unlisted = classes.to_labels(np.array([[COLORS[2], [1, 2, 3]]], np.uint8))
    assert labels.tolist() == [[2, 255]]
    assert unlisted == [0x010203]


@st.composite
def codings(draw: st.DrawFn) -> Classes:
    """Index masks, masks of any other values, or RGB masks; the values of a Class may be many."""
    rgb = draw(st.booleans())
    keys = st.integers(0, 2**24 - 1 if rgb else 65535)
    mapping = draw(st.dictionaries(keys, st.integers(0, 4), min_size=1, max_size=12))
    found = sorted(set(mapping.values()))
    return Classes(
        names=tuple(f"class {i}" for i in found),
        colors=choose_colors([f"class {i}" for i in found]),
        label_mapping={value: found.index(index) for value, index in mapping.items()},
        ignore=tuple(draw(st.sets(keys, max_size=3)) - mapping.keys()),
        coding="rgb" if rgb else "index",
    )


@given(codings(), st.data())
def test_label_to_mask_to_label(classes: Classes, data: st.DataObject) -> None:
    indices = st.integers(0, len(classes.names) - 1)
    drawn = data.draw(st.lists(indices, min_size=6, max_size=6))
    labels = np.array(drawn, np.uint8).reshape(2, 3)
    mask = classes.to_mask(labels)
    assert mask.shape == ((2, 3, 3) if classes.coding == "rgb" else (2, 3))
    back, unlisted = classes.to_labels(mask)
    assert unlisted == []
    np.testing.assert_array_equal(back, labels)


@given(codings(), st.data())
def test_to_labels_agrees_with_a_dictionary(classes: Classes, data: st.DataObject) -> None:
    listed = [*classes.label_mapping, *classes.ignore]
    others = st.integers(0, 2**24 - 1 if classes.coding == "rgb" else 65535)
    drawn = data.draw(st.lists(st.sampled_from(listed) | others, min_size=4, max_size=4))
    values = np.array(drawn).reshape(2, 2)
    mask: Any = values.astype(np.uint16)
    if classes.coding == "rgb":
        mask = np.stack([values >> 16, values >> 8 & 255, values & 255], -1).astype(np.uint8)
    labels, unlisted = classes.to_labels(mask)
    expected = [classes.label_mapping.get(v, classes.ignore_index) for v in drawn]
    assert labels.ravel().tolist() == expected
    assert unlisted == sorted(set(drawn) - set(listed))


@given(codings())
def test_ranges_to_json_and_back(classes: Classes) -> None:
    ranges = {ValueRange(-math.inf, 0.5): 0, ValueRange(7, 10): 0, ValueRange(1e6, math.inf): 0}
    classes = replace(classes, ranges=ranges)
    assert classes_from_dict(json.loads(json.dumps(classes.to_dict()))) == classes


@given(codings())
def test_classes_to_json_and_back(classes: Classes) -> None:
    assert classes_from_dict(json.loads(json.dumps(classes.to_dict()))) == classes


def test_the_lowest_of_several_values_is_written() -> None:
    classes = describe(label_mapping={9: 0, 4: 0, 300: 1, 5: 2})
    mask = classes.to_mask(np.array([[0, 1, 2]]))
    assert mask.tolist() == [[4, 300, 5]]
    assert mask.dtype == np.uint16


def test_a_class_without_a_value_is_written_as_ignored() -> None:
    assert describe(ignore=[11, 0]).to_mask(np.array([[0, 1, 2]])).tolist() == [[11, 1, 2]]
    assert describe(ignore=[11, 0]).to_mask(np.array([[0]])).dtype == np.uint8


# Negative values, ranges and large numbers.


@pytest.mark.parametrize("dtype", [np.int16, np.int32, np.int64])
def test_minus_1_is_ignored_unless_it_is_mapped(dtype: type) -> None:
    mask = [[-1, 0, 2]]
    assert labels_of(describe(), mask, dtype) == [[255, 0, 2]]
    assert labels_of(describe(label_mapping={-1: 0, 0: 1, 2: 2}), mask, dtype) == [[0, 1, 2]]
    assert labels_of(classes_from_values([-1, 0, 2]), mask, dtype) == [[255, 0, 1]]


def test_other_negative_values_must_be_listed() -> None:
    mask = np.array([[-9999, 0, 1]], np.int32)
    for classes in (describe(), classes_from_values([-9999, 0, 1])):
        assert classes.to_labels(mask)[1] == [-9999]
    assert labels_of(describe(ignore=[-9999]), mask, np.int32) == [[255, 0, 1]]


def test_ranges_and_single_values() -> None:
    classes = describe(label_mapping={"0-9": "sky", 5: "road", ">=100": "car"}, ignore=[5, 7, 50])
    assert labels_of(classes, [[0, 4, 5, 7, 9, 50, 100, 255]]) == [[0, 0, 1, 0, 0, 255, 2, 2]]
    assert classes.to_labels(np.array([[10, 99]]))[1] == [10, 99]
    assert classes.ignore == (50,)


@given(st.lists(st.integers(-(2**40), 2**40), min_size=1, max_size=8), st.integers(-300, 300))
def test_labels_of_numbers_of_any_size(values: list[int], limit: int) -> None:
    classes = describe(label_mapping={f"<{limit}": 0, f">={limit}": 1})
    mask = np.array([values])
    expected = [255 if v == -1 else int(v >= limit) for v in values]
    assert labels_of(classes, mask, np.int64) == [expected]


def test_a_mask_of_fractions_needs_ranges() -> None:
    mask = np.array([[0, 0.25, np.nan, 0.5, 1]])
    classes = describe(label_mapping={"<0.5": 0, ">=0.5": 2})
    assert labels_of(classes, mask, np.float64) == [[0, 0, 255, 2, 2]]
    assert describe(label_mapping={">=0.5": 2}).to_labels(mask)[1] == [0, 0.25]
    with pytest.raises(DataError, match=r"contains fractions from 0 to 1\..* write 'threshold: 0.5' into dataset.yaml"):
        describe().to_labels(mask)


@pytest.mark.parametrize(
    ("ranges", "written"),
    [
        (["<128", ">=128"], [0, 255]),
        (["<0.5", ">=0.5"], [0, 1]),
        (["0-127", "128-255"], [0, 255]),
        (["<32768", ">=32768"], [0, 65535]),
        (["<1", ">=1"], [0, 1]),
        (["0-9", "10-19"], [0, 10]),
        (["<-5", ">=-5"], [-6, 0]),
    ],
)
def test_the_value_that_is_written_for_a_range_is_in_it(ranges: list[str], written: list[int]) -> None:
    mapping = dict(zip(ranges, (0, 1), strict=True))
    classes = describe_classes(parse_description({"names": ["a", "b"], "label_mapping": mapping}))
    labels = np.array([[0, 1]], np.uint8)
    if min(written) < 0:
        with pytest.raises(DataError, match=r"Class 'a' has the mask value -6, but label files contain 0 to 65535"):
            classes.to_mask(labels)
        return
    assert classes.to_mask(labels).tolist() == [written]
    np.testing.assert_array_equal(classes.to_labels(classes.to_mask(labels))[0], labels)


def test_missing_pixels_of_a_mask_of_colors_are_ignored() -> None:
    classes = describe(colors=COLORS, coding="rgb")
    assert labels_of(classes, [[[-1, -1, -1], COLORS[1]]], np.int32) == [[255, 1]]
    assert labels_of(classes, [[-1, 128]], np.int32) == [[255, 0]]


def test_a_gray_rgb_mask_holds_indices() -> None:
    mask = np.repeat(np.array([[[0], [2]]], np.uint8), 3, axis=2)
    assert mask_values(mask, "index").tolist() == [[0, 2]]


def test_a_colored_mask_without_colors_is_an_error() -> None:
    with pytest.raises(DataError, match="The mask is an RGB image, but the classes are not defined"):
        mask_values(np.array([[[1, 2, 3]]], np.uint8), "index")


def test_colors_are_packed() -> None:
    assert pack_color((1, 2, 3)) == 0x010203
    assert mask_values(np.array([[[1, 2, 3]]], np.uint8), "rgb").tolist() == [[0x010203]]
    assert mask_values(np.array([[255]], np.uint8), "rgb").tolist() == [[0xFFFFFF]]


@pytest.mark.parametrize(
    ("names", "foreground"),
    [(("background", "other"), 1), (("defect", "other"), 0), (("road", "sky"), 1), (("a", "b", "background"), None)],
)
def test_the_foreground_is_the_class_that_is_no_background(names: tuple[str, ...], foreground: int | None) -> None:
    assert find_foreground(names) == foreground
