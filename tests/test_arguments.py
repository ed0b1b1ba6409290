import array
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import numpy.typing as npt
import pytest

from pixelwise.arguments import Count, Fraction, Range, check_arguments, convert
from pixelwise.errors import InvalidArgumentError


@pytest.mark.parametrize(
    ("value", "hint", "converted"),
    [
        (np.int64(3), Count, 3),
        (1, float, 1.0),
        (np.float32(0.5), Fraction, 0.5),
        ("a", Sequence[str], ("a",)),
        (["a", "b"], str | Sequence[str], ("a", "b")),
        ([32, 48], tuple[Count, Count], (32, 48)),
        (np.array([1.0, 2.0]), Sequence[float], (1.0, 2.0)),
        (None, Annotated[Count | None, "help"], None),
        ((1, 2.5), npt.ArrayLike, (1, 2.5)),
        (range(2), npt.ArrayLike | None, range(2)),
        (array.array("i", [1, 2]), npt.ArrayLike, array.array("i", [1, 2])),
        (["a.png", "b.png"], Sequence[os.PathLike[str]], ("a.png", "b.png")),
        ("a.png", npt.ArrayLike | os.PathLike[str], "a.png"),
        (2, Annotated[Annotated[int, Range(ge=2)] | None, "help"], 2),
    ],
)
def test_values_become_the_type_of_the_annotation(value: Any, hint: Any, converted: Any) -> None:
    result = convert(value, hint, "x")
    assert result == converted
    assert type(result) is type(converted)


@pytest.mark.parametrize(
    ("value", "hint", "message"),
    [
        (True, Count, "x is True, but must be an integer"),
        (0, Count, "x is 0, but must be >= 1"),
        (1.5, int | None, "x is 1.5, but must be an integer or None"),
        (float("nan"), float, "x is nan, but must be a number"),
        ("", str, "x is '', but must not be empty"),
        ("vald", Literal["valid", "same"], "Unknown value for x: 'vald'. Did you mean 'valid'"),
        (None, Literal["valid", "same"], "x is None, but must be one of valid, same"),
        ([1], tuple[int, int], "must be a list of 2 integers"),
        ((0, 5), tuple[Count, Count] | None, r"x is \(0, 5\), but must be a list of 2 integers >= 1\."),
        ((1, "a"), tuple[float, float], r"x is \(1, 'a'\), but must be a list of 2 numbers\."),
        (1.5, Fraction, "x is 1.5, but must be from 0 to 1"),
        (1, Annotated[float, Range(gt=0, lt=1)], "x is 1, but must be > 0 and < 1"),
        ([1], Mapping[str, object], "must be a dictionary"),
        (object(), Path, "x is an instance of object, but must be a pathlib Path"),
        ("12", npt.ArrayLike, "x is '12', but must be an array of numbers"),
        (3, npt.ArrayLike | os.PathLike[str], "x is 3, but must be an array of numbers or a path"),
        (3, Sequence[npt.ArrayLike] | None, "x is 3, but must be a list, each an array of numbers or None"),
        (np.zeros((2, 3)), Count, r"x is \(2, 3\) float64, but must be an integer"),
    ],
)
def test_other_values_raise(value: Any, hint: Any, message: str) -> None:
    with pytest.raises(InvalidArgumentError, match=message):
        convert(value, hint, "x")


def test_arguments_of_a_call_are_checked() -> None:
    @check_arguments
    def call(side: Count, *, later: "Unknown" = 1) -> tuple[int, object]:  # type: ignore[name-defined] # noqa: F821
        return side, later

    assert call(np.int64(2), later=object) == (2, object)  # type: ignore[arg-type]
    with pytest.raises(InvalidArgumentError, match="side is 0"):
        call(0)
    message = r"Unknown argument of .*call: 'latr'\. Did you mean 'later'\? Choose one of: later, side\."
    with pytest.raises(InvalidArgumentError, match=message):
        call(1, latr=2)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match=r"call\(\) missing 1 required positional argument: 'side'"):
        call()  # type: ignore[call-arg]
