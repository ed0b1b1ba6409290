from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pixelwise.data.formats._documents import (
    get_bytes,
    get_flag,
    get_id,
    get_integer,
    get_integers,
    get_list,
    get_number,
    get_points,
    get_records,
    get_size,
    get_text,
    locate_errors,
    parse_color,
    parse_size,
    read_ends,
    read_xml,
)
from pixelwise.errors import DataError, PathNotFoundError


def write(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def test_a_missing_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(PathNotFoundError, match=r"a\.xml: The file does not exist"):
        read_xml(tmp_path / "a.xml")


def test_xml_is_read(tmp_path: Path) -> None:
    top = read_xml(write(tmp_path / "a.xml", '<?xml version="1.0"?><a><b c="1">ä &amp; ö</b></a>'.encode()))
    assert (top.tag, top[0].attrib, top[0].text) == ("a", {"c": "1"}, "ä & ö")


@pytest.mark.parametrize("content", [b"", b"<a>\n<b></a>", b"<a/><a/>", b"<a>&b;</a>"])
def test_broken_xml_is_an_error_with_the_place(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(
        DataError, match=r"a\.xml: The file is not valid XML \(line \d, column \d+: .*\). Export it again"
    ):
        read_xml(write(tmp_path / "a.xml", content))


@pytest.mark.parametrize(
    "declaration",
    [
        '<!DOCTYPE a [<!ENTITY b "bb">]>',
        '<!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/hostname">]>',
        '<!DOCTYPE a SYSTEM "x.dtd">',
    ],
)
def test_entities_are_refused_before_they_are_read(tmp_path: Path, declaration: str) -> None:
    with pytest.raises(DataError, match=r"a\.xml: The file has a DOCTYPE, which no annotation needs"):
        read_xml(write(tmp_path / "a.xml", f"{declaration}<a>&b;</a>".encode()))


def test_read_ends_shows_both_ends(tmp_path: Path) -> None:
    path = write(tmp_path / "a", b"0123456789")
    assert [read_ends(path, length) for length in (3, 7, 20)] == ["012789", "0123456789", "0123456789"]
    assert read_ends(tmp_path / "none", 3) == ""


def test_error_places_are_named_from_the_outside_to_the_inside() -> None:
    fault = r"^file: shape 1: 'points' is missing. Expected a list. Export the annotations again"
    with pytest.raises(DataError, match=fault), locate_errors("file"), locate_errors("shape 1"):
        get_points({}, "points")


@pytest.mark.parametrize(
    ("get", "value", "expected"),
    [
        (get_text, "cat", "cat"),
        (get_text, 1, "1"),
        (get_text, " ", "'k' is ' '. Expected a text"),
        (get_text, True, "'k' is true. Expected a text"),
        (get_text, None, "'k' is null. Expected a text"),
        (get_number, "1.5", 1.5),
        (get_number, float("nan"), "'k' is nan. Expected a number"),
        (get_number, 10**400, "'k' is 1000.*0. Expected a number"),
        (get_number, True, "'k' is true. Expected a number"),
        (get_integer, "7", 7),
        (get_integer, 7.0, 7),
        (get_integer, 7.5, "'k' is 7.5. Expected a whole number"),
        (get_integer, "9" * 50, 10**50 - 1),
        (get_integer, "9" * 5000, "'k' is '999.*'. Expected a whole number"),
        (get_id, "007", "7"),
        (get_id, 2**60 + 1, str(2**60 + 1)),
        (get_flag, False, False),
        (get_flag, "1", True),
        (get_flag, 2, "'k' is 2. Expected 0 or 1"),
        (get_list, {"a": 1}, "'k' is an object. Expected a list"),
        (get_records, [{}, [1, "x", None]], r"Entry 2 of 'k' is \[1, 'x', null\]. Expected an object"),
        (get_records, [[[1]]], "Entry 1 of 'k' is a nested list"),
        (get_integers, ["1", 2.0], [1, 2]),
        (get_integers, [*range(9), "x"], "'k' is a list of 10 values. Expected whole numbers"),
        (get_bytes, "YQ==", b"a"),
        (get_bytes, "?", "'k' is not a text in base64"),
        (get_points, [[1, 2], [3.5, "4"]], [[1, 2], [3.5, 4]]),
        (get_points, [[1, 2], [3, True, 4]], r"Point 2 of 'k' is \[3, true, 4\]. Expected two numbers, x and y"),
    ],
)
def test_typed_values(get: Callable[[Any, str], Any], value: Any, expected: Any) -> None:
    if isinstance(expected, str) and "'k'" in expected:
        with pytest.raises(DataError, match=expected):
            get({"k": value}, "k")
    else:
        found = get({"k": value}, "k")
        assert (found.tolist() if get is get_points else found) == expected


@pytest.mark.parametrize("document", [None, [], "x", 7])
def test_a_document_that_is_not_an_object_is_named(document: Any) -> None:
    with pytest.raises(DataError, match=r"is not an object with 'k'. Export the annotations again"):
        get_text(document, "k")


def test_internal_errors_keep_their_type() -> None:
    with pytest.raises(AssertionError), locate_errors("file"):
        raise AssertionError


@pytest.mark.parametrize(("height", "width"), [(0, 1), (1, -1), (100_000, 100_000)])
def test_sizes_of_no_image_are_refused(height: int, width: int) -> None:
    with pytest.raises(
        DataError, match=rf"The size {height}x{width} \(height x width\) is not between 1 and .* pixels. Correct it"
    ):
        parse_size(height, width)


def test_sizes_may_be_texts_and_may_be_missing() -> None:
    assert get_size({"height": "6", "width": 8.0}) == (6, 8)
    assert [get_size({"height": 6}), get_size({"height": 6, "width": None}), get_size({})] == [None] * 3


def test_colors() -> None:
    assert [parse_color(text) for text in ("#ff8c00", "FF8C00", "", None)] == [(255, 140, 0), (255, 140, 0), None, None]
    with pytest.raises(DataError, match=r"'#fff' is not a color\. Write one such as #ff8c00"):
        parse_color("#fff")
