from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from pixelwise.data.classes import Classes
from pixelwise.data.description import (
    _PARSERS,
    DatasetDescription,
    combine_classes,
    describe_classes,
    parse_description,
    read_description,
)
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


def test_names_without_a_mapping_are_indices_and_255_is_ignored() -> None:
    assert labels_of(describe(), [[0, 1, 2, 255]]) == [[0, 1, 2, 255]]


def test_names_may_be_a_mapping() -> None:
    assert describe_classes(parse_description({"names": {1: "b", 0: "a"}})).names == ("a", "b")


def test_the_mapping_takes_names_and_indices_and_merges_values() -> None:
    classes = describe(label_mapping={7: "car", 24: 2, 0: "sky", 5: "road"})
    assert labels_of(classes, [[7, 24, 0, 5, 255]]) == [[2, 2, 0, 1, 255]]


def test_a_mapping_that_names_255_makes_it_a_class() -> None:
    classes = describe(label_mapping={0: 0, 128: 1, 255: 2})
    assert classes.ignore == ()
    assert labels_of(classes, [[0, 128, 255]]) == [[0, 1, 2]]


def test_a_mapping_comes_before_ignore() -> None:
    classes = describe(label_mapping={0: 0, 1: 1, 2: 2}, ignore=[2, 3])
    assert labels_of(classes, [[2, 3, 255]]) == [[2, 255, 255]]


def test_without_a_mapping_ignored_values_are_not_classes() -> None:
    classes = describe(ignore=0)
    assert classes.names == tuple(NAMES)
    assert labels_of(classes, [[0, 1, 2]]) == [[255, 1, 2]]


@pytest.mark.parametrize("ignore", [11, [11], [11, 255]])
def test_ignore_is_one_value_or_a_list(ignore: object) -> None:
    assert describe(ignore=ignore).ignore == (11, 255)


@pytest.mark.parametrize("key", ["ignore", "colors", "label_mapping"])
def test_a_key_without_a_value_has_no_effect(key: str) -> None:
    assert describe_classes(parse_description({"names": NAMES, key: None})) == describe()


def test_colors_code_rgb_masks() -> None:
    classes = describe(colors=COLORS, coding="rgb")
    assert labels_of(classes, [COLORS]) == [[0, 1, 2]]
    assert labels_of(classes, [[128, 128]]) == [[0, 0]]  # gray, in one channel


@pytest.mark.parametrize("ignore", [[0, 0, 0], [[0, 0, 0]]])
def test_a_color_may_be_ignored(ignore: object) -> None:
    classes = describe(colors=COLORS, coding="rgb", ignore=ignore)
    assert labels_of(classes, [[[0, 0, 0], COLORS[1]]]) == [[255, 1]]


def test_an_ignored_color_of_a_class_is_ignored() -> None:
    classes = describe(colors=COLORS, coding="rgb", ignore=[COLORS[0]])
    assert labels_of(classes, [COLORS]) == [[255, 1, 2]]


def test_colors_are_merged_by_a_mapping() -> None:
    mapping = {"128,128,128": "sky", "0, 0, 0": 0, "128, 64, 128": "road", "1,2,3": "car"}
    classes = describe(coding="rgb", label_mapping=mapping)
    mask = [[[0, 0, 0], [128, 128, 128], [128, 64, 128], [1, 2, 3]]]
    assert labels_of(classes, mask) == [[0, 0, 1, 2]]


def test_ignoring_a_color_is_optional() -> None:
    assert describe(colors=COLORS, coding="rgb", ignore=[]).ignore == ()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"names": None}, "Expected a list of class names"),
        ({"names": []}, "Expected a list of class names"),
        ({"names": "sky"}, "Expected a list of class names"),
        ({"names": {1: "a", 2: "b"}}, "Expected 0, 1, 2, ... without gaps"),
        ({"names": {0: "a", "x": "b"}}, "Expected 0, 1, 2, ... without gaps"),
        ({"names": [False, "b"]}, "'names' contains False. Put names such as no, off and null in quotes"),
        ({"names": ["a", None]}, "'names' contains None. Put names"),
        ({"names": ["a", ["b"]]}, "'names' contains .'b'.. Put names"),
        ({"names": ["a", "b", "a"]}, "'names' lists 'a' twice"),
        ({"names": list(range(65536))}, "'names' lists 65536 classes. Expected at most 65535"),
        ({"coding": "bgr"}, "'coding' is 'bgr'. Expected index or rgb"),
        ({"colors": COLORS[:2]}, "one .red, green, blue. for each of the 3 names"),
        ({"colors": "red"}, "one .red, green, blue. for each name"),
        ({"colors": [*COLORS[:2], [0, 0, 256]]}, "'colors' contains .0, 0, 256.. Expected .red, green, blue."),
        ({"colors": [*COLORS[:2], [0, 0]]}, "'colors' contains .0, 0.. Expected .red, green, blue."),
        ({"colors": [*COLORS[:2], "red"]}, "'colors' contains 'red'. Expected .red, green, blue."),
        ({"colors": [*COLORS[:2], COLORS[0]], "coding": "rgb"}, "lists .128, 128, 128. twice"),
        ({"coding": "rgb"}, "'coding' is rgb, but 'colors' is missing"),
        ({"ignore": 2**53 + 1}, "'ignore' contains 9007199254740993. Expected mask values"),
        ({"label_mapping": {"0-127": 0, "100-255": 1}}, "lists 0-127 and 100-255, which overlap. Give each value one"),
        ({"label_mapping": {"0-127": 3}}, "maps 0-127 to 3. Expected a class name or an index from 0 to 2"),
        ({"label_mapping": {"0-127": 0}, "coding": "rgb"}, "contains 0-127, but 'coding' is rgb. Expected 'red, green"),
        ({"threshold": 128}, "'threshold' gives two classes, but 'names' lists 3. List two names"),
        ({"mask_type": "instances"}, "'mask_type' gives two classes, but 'names' lists 3. List two names"),
        ({"threshold": True}, "'threshold' is True. Expected the lowest mask value of the second class"),
        ({"threshold": float("inf")}, "'threshold' is inf. Expected the lowest mask value"),
        ({"mask_type": "instance"}, "'mask_type' is 'instance'. Expected semantic or instances"),
        ({"label_mapping": {"9-": 0}}, "'label_mapping' contains '9-'. Expected mask values"),
        ({"ignore": [[0, 0, 0]]}, "'ignore' contains .0, 0, 0.. Expected mask values, or add 'coding: rgb'"),
        ({"ignore": True}, "'ignore' contains True. Expected mask values"),
        (
            {"ignore": 255, "colors": COLORS, "coding": "rgb"},
            "'ignore' contains 255, but 'coding' is rgb. Expected .red",
        ),
        ({"label_mapping": [0, 1]}, "'label_mapping' is .0, 1.. Expected mask values and classes"),
        ({"label_mapping": {0: "boat"}}, "maps 0 to 'boat'. Expected a class name or an index"),
        ({"label_mapping": {0: 3}}, "maps 0 to 3. Expected a class name or an index from 0 to 2"),
        ({"label_mapping": {0: -1}}, "maps 0 to -1"),
        ({"label_mapping": {0: None}}, "maps 0 to None. Expected a class name or an index"),
        ({"channels": 0}, "'channels' is 0. Expected a number such as 4"),
        ({"label_mapping": {"x": 0}}, "'label_mapping' contains 'x'. Expected mask values"),
        ({"label_mapping": {5: 0}, "coding": "rgb"}, "'label_mapping' contains 5, but 'coding' is rgb. Expected .red"),
        (
            {"label_mapping": {"red, 0, 0": 0}, "coding": "rgb"},
            "contains .'red', 0, 0.. Expected mask values such as 255, or .red",
        ),
    ],
)
def test_an_invalid_description_is_an_error(values: dict[str, object], message: str) -> None:
    with pytest.raises(DataError, match=message):
        describe_classes(parse_description({"names": NAMES, **values}))


def test_every_key_has_a_field_and_a_parser() -> None:
    assert {field.name for field in fields(DatasetDescription)} == {"path", "labels", *_PARSERS}


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"threshold": 1, "label_mapping": {0: 0}}, "'threshold' and 'label_mapping' both map mask values to classes"),
        ({"threshold": 1, "mask_type": "instances"}, "'threshold' and 'mask_type' both map mask values to classes"),
        ({"mask_type": "instances", "coding": "rgb"}, "'mask_type' is for gray masks, but 'coding' is rgb"),
    ],
)
def test_contradicting_keys_of_two_classes_are_an_error(values: dict[str, object], message: str) -> None:
    with pytest.raises(DataError, match=message):
        describe_classes(parse_description(values))


@pytest.mark.parametrize("names", [None, ["a", "b"]])
def test_a_threshold_divides_values_of_any_size(names: list[str] | None) -> None:
    classes = describe_classes(parse_description({"threshold": 128, **({"names": names} if names else {})}))
    assert classes.names == tuple(names or ("background", "foreground"))
    assert [classes.get_label(v) for v in (0, 127, 127.9, 128, 255, 65535, -1)] == [0, 0, 0, 1, 1, 1, 255]


def test_object_numbers_are_the_second_class() -> None:
    classes = describe_classes(parse_description({"mask_type": "instances"}))
    assert [classes.get_label(v) for v in (0, 1, 255, 65535, 2**32, -1)] == [0, 1, 1, 1, 1, 255]
    assert classes.get_label(0.5) is None


@pytest.mark.parametrize("key", [{"threshold": 128}, {"mask_type": "instances"}])
def test_ignored_values_are_not_divided(key: dict[str, object]) -> None:
    classes = describe_classes(parse_description({**key, "ignore": [200, 255]}))
    assert [classes.get_label(v) for v in (199, 200, 255)] == [1, 255, 255]


def test_semantic_masks_are_the_default() -> None:
    assert DatasetDescription(mask_type="semantic").class_keys == ()
    named = parse_description({"names": NAMES, "mask_type": "semantic"})
    assert describe_classes(named) == describe_classes(parse_description({"names": NAMES}))


def test_a_threshold_replaces_the_mapping_of_the_format() -> None:
    declared = DatasetDescription(names=("a", "b"), label_mapping={0: 0, 1: 1})
    classes = combine(declared, threshold=128)
    assert classes is not None
    assert (classes.get_label(1), classes.names) == (0, ("a", "b"))


@pytest.mark.parametrize("key", ["colors", "label_mapping", "ignore", "coding", "rename"])
def test_keys_of_classes_need_names(key: str) -> None:
    values = {"rename": {"a": "b"}, "colors": [], "label_mapping": {}, "ignore": 0, "coding": "index"}
    with pytest.raises(DataError, match=f"gives '{key}' without 'names'. Add 'names: "):
        describe_classes(parse_description({key: values[key]}))


# The file.


@pytest.mark.parametrize("name", ["dataset.yaml", "dataset.yml", "Dataset.yaml", "DATASET.YML"])
def test_the_file_is_read_in_any_case_and_with_both_suffixes(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("names: [a, b]\nchannels: 4\n")
    assert read_description(tmp_path) == DatasetDescription(path=tmp_path / name, names=("a", "b"), channels=4)


@pytest.mark.parametrize("names", [("dataset.yaml", "dataset.yml"), ("Dataset.yaml", "dataset.yaml")])
def test_two_files_are_an_error_that_names_both(tmp_path: Path, names: tuple[str, str]) -> None:
    for name in names:
        (tmp_path / name).write_text("names: [a, b]\n")
    with pytest.raises(DataError, match=f"contains {names[0]} and {names[1]}. Keep one of them"):
        read_description(tmp_path)


def test_a_dataset_without_the_file_has_an_empty_description(tmp_path: Path) -> None:
    assert read_description(tmp_path) == DatasetDescription()
    (tmp_path / "dataset.yaml").write_text("")
    assert read_description(tmp_path) == DatasetDescription(path=tmp_path / "dataset.yaml")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[a, b]", "contains a list. Expected keys such as 'names:'"),
        ("name: [a, b]", "has the unknown key 'name'. Did you mean 'names'. Expected: names, colors, "),
        ("names: a", r"dataset.yaml: 'names' is 'a'. Expected a list"),
    ],
)
def test_an_invalid_file_is_an_error(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "dataset.yaml").write_text(text)
    with pytest.raises(DataError, match=message):
        read_description(tmp_path)


# What a format declares and the file.

DECLARED = parse_description({"names": ["a", "b"], "colors": [[1, 2, 3], [4, 5, 6]], "ignore": 9, "coding": "index"})


def combine(declared: DatasetDescription, **given: object) -> Classes | None:
    return combine_classes(declared, parse_description(given), lambda colors: "index")


def test_without_names_there_are_no_classes() -> None:
    assert combine(DatasetDescription()) is None
    assert combine(DatasetDescription(channels=4), channels=5) is None


def test_the_file_overrides_the_format_key_by_key() -> None:
    assert combine(DECLARED) == describe_classes(DECLARED)
    classes = combine(DECLARED, colors=COLORS[:2], ignore=[1, 7])
    assert classes is not None
    assert classes.names == ("a", "b")
    assert classes.colors == ((128, 128, 128), (128, 64, 128))
    assert (classes.label_mapping, classes.ignore) == ({0: 0}, (1, 7, 255))


def test_colors_of_the_format_follow_their_names() -> None:
    for given in ({}, {"label_mapping": {0: "a", 1: "b"}}):
        classes = combine(DECLARED, names=["b", "a"], **given)
        assert classes is not None
        assert classes.colors == ((4, 5, 6), (1, 2, 3))
        assert classes.label_mapping == {0: 1, 1: 0}
        assert classes.ignore == (9, 255)


def test_colors_are_as_many_as_the_names() -> None:
    with pytest.raises(DataError, match=r"'colors' lists 1 colors\. Expected one .* for each of the 2 names"):
        combine(DECLARED, colors=[[1, 2, 3]])


def test_a_mapping_in_the_file_replaces_the_names_of_the_format() -> None:
    classes = combine(DECLARED, names=["x", "a"], label_mapping={5: "x", 6: "a"})
    assert classes is not None
    assert (classes.names, classes.label_mapping) == (("x", "a"), {5: 0, 6: 1})
    assert classes.colors[1] == (1, 2, 3)


def test_colors_of_color_masks_are_mask_values() -> None:
    declared = parse_description({"names": ["a", "b"], "colors": [[1, 2, 3], [4, 5, 6]], "coding": "rgb"})
    classes = combine(declared, names=["x", "y"], colors=[[4, 5, 6], [7, 8, 9]])
    assert classes is not None
    assert (classes.names, classes.label_mapping) == (("x", "y"), {0x040506: 0, 0x070809: 1})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("rename: [a, b]", "'rename' is .*. Expected names of the files and new names: {Disc: disc}"),
        ("rename: {no: b}", "'rename' contains False. Put names such as no, off and null in quotes"),
        ("rename: {a: null}", "'rename' contains None. Put names"),
    ],
)
def test_an_invalid_rename_is_an_error(text: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        parse_description(yaml.safe_load(text))


def test_numbers_are_renamed_as_text() -> None:
    assert parse_description({"rename": {1: "disc", "box": 2}}).rename == {"1": "disc", "box": "2"}
