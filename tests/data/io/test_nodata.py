"""Values of missing data: their forms in dataset.yaml, and where they are found."""

from typing import Any

import numpy as np
import pytest
import yaml

from pixelwise.data.io.nodata import ALL_DATA, Nodata, format_values, parse_nodata
from pixelwise.errors import DataError

NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("-9999", Nodata(values=(-9999,))),
        ("1e20", Nodata(values=(1e20,))),  # a text in YAML 1.1
        ("-3.4028235e+38", Nodata(values=(-3.4028235e38,))),
        ("inf", Nodata(values=(INF,))),
        ("-.inf", Nodata(values=(-INF,))),
        ("alpha", Nodata(alpha=True)),
        ("[-9999, alpha, 0]", Nodata(values=(-9999, 0), alpha=True)),
        ("{1: 0, 3: [-9999, -32768]}", Nodata(channels={1: (0,), 3: (-9999, -32768)})),
        ("[]", ALL_DATA),
    ],
)
def test_the_forms_of_dataset_yaml(text: str, expected: Nodata) -> None:
    assert parse_nodata(yaml.safe_load(text)) == expected
    assert parse_nodata(expected.to_plain()) == expected


@pytest.mark.parametrize("text", ["nan", "NaN", ".nan"])
def test_nan_in_dataset_yaml(text: str) -> None:
    (value,) = parse_nodata(yaml.safe_load(text)).values
    assert np.isnan(value)
    assert parse_nodata([value]).to_plain() == ["nan"]


@pytest.mark.parametrize("given", ["none", True, {"a": 1}, {0: 1}, {1: "alpha"}, {True: 1}, [[1]]])
def test_other_forms_are_an_error(given: Any) -> None:
    with pytest.raises(DataError, match=r"^'nodata' (contains|has the key) .* Expected"):
        parse_nodata(given)


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ([-9999.0], "-9999"),
        ([1e20], "1e+20"),
        ([-3.4028234663852886e38], "-3.4028235e+38"),
        ([-(2.0**31)], "-2147483648"),
        ([0.1], "0.1"),
        ([-9999.0, NAN], "[-9999, nan]"),
    ],
)
def test_values_are_shown_as_dataset_yaml_takes_them(values: list[float], text: str) -> None:
    assert format_values(values) == text
    stored = np.array([[values]], np.float32)
    found = parse_nodata(yaml.safe_load(text)).find(stored)
    assert found is not None
    assert found.all()


def test_further_values_join_those_that_are_declared() -> None:
    assert parse_nodata([-9999, "alpha"]).format([NAN], 3) == "[-9999, nan, alpha]"
    assert parse_nodata({2: 0}).format([-1, NAN], 2) == "{1: [-1, nan], 2: [0, -1, nan]}"
    assert ALL_DATA.format([5], 1) == "5"


def find(pixels: Any, dtype: Any, given: object) -> Any:
    found = parse_nodata(given).find(np.array([pixels], dtype))
    return None if found is None else found[0].tolist()


def test_each_of_several_float_values_is_missing() -> None:
    assert find([[-9999, 1], [NAN, 2], [3, 4]], np.float32, [-9999, "nan"]) == [
        [True, False],
        [True, False],
        [False, False],
    ]


def test_integer_pixels_have_one_value_in_all_channels() -> None:
    """0 and 255 are both declared, and (0, 255) is a color."""
    assert find([[0, 0], [255, 255], [0, 255]], np.uint8, [0, 255]) == [[True, True], [True, True], [False, False]]


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_a_channel_has_its_own_values(dtype: type) -> None:
    assert find([[0, 0], [9, 0], [9, 7]], dtype, {1: 0, 2: [7, 8]}) == [[True, False], [False, False], [False, True]]
    assert find([[0, 0]], dtype, {3: 0}) is None


def test_values_are_joined_channel_by_channel() -> None:
    joined = parse_nodata({1: 0, 2: 5}) | parse_nodata({2: 6}) | parse_nodata(["alpha", 7])
    assert joined == Nodata(values=(7,), channels={1: (0,), 2: (5, 6)}, alpha=True)
    assert not ALL_DATA
    assert joined
