"""Types of parameters with their legal values, and the check of arguments against them.

An annotation says what is legal: `Count`, `Fraction`, `Literal["valid", "same"]`, `tuple[Count, Count] | None`. The
functions that users call have `check_arguments`; config sections and options of commands use `convert` directly.
"""

import functools
import inspect
import math
import os
import sys
import types
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Annotated, Any, Literal, ParamSpec, TypeVar

import numpy.typing as npt

from pixelwise.errors import InvalidArgumentError, find_name, simplify_name, unknown_name


@dataclass(frozen=True, slots=True, kw_only=True)
class Range:
    """The legal range of a number; None leaves a side open."""

    ge: float | None = None
    gt: float | None = None
    le: float | None = None
    lt: float | None = None

    def __contains__(self, value: float) -> bool:
        return (
            (self.ge is None or value >= self.ge)
            and (self.gt is None or value > self.gt)
            and (self.le is None or value <= self.le)
            and (self.lt is None or value < self.lt)
        )

    def __str__(self) -> str:
        if self.ge is not None and self.le is not None:
            return f"from {self.ge} to {self.le}"
        sides = ((">=", self.ge), (">", self.gt), ("<=", self.le), ("<", self.lt))
        return " and ".join(f"{sign} {limit}" for sign, limit in sides if limit is not None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Names:
    """The names of a table of a higher layer, or also an import path such as my_module:MyNet."""

    kind: str
    names: tuple[str, ...]
    has_import_paths: bool = False

    def find(self, name: str) -> str:
        """Return the name as it is listed; raise InvalidArgumentError for an unknown one."""
        return name if self.has_import_paths and ":" in name else find_name(self.kind, name, self.names)

    def __str__(self) -> str:
        return f"name of a {self.kind}{', module:name' if self.has_import_paths else ''}"


Count = Annotated[int, Range(ge=1)]
Index = Annotated[int, Range(ge=0)]
NonNegative = Annotated[float, Range(ge=0)]
Positive = Annotated[float, Range(gt=0)]
Fraction = Annotated[float, Range(ge=0, le=1)]
FractionBelowOne = Annotated[float, Range(ge=0, lt=1)]
OpenFraction = Annotated[float, Range(gt=0, lt=1)]
PositiveFraction = Annotated[float, Range(gt=0, le=1)]


P = ParamSpec("P")
R = TypeVar("R")


def check_arguments(function: Callable[P, R]) -> Callable[P, R]:
    """Convert the arguments of each call to the types that the signature annotates.

    A quoted annotation is not evaluated, and its argument is not checked.

    Raises:
        InvalidArgumentError: In a call, where an argument has an unknown name, has another type or is out of range.
    """
    signature = inspect.signature(function)
    hints = {name: p.annotation for name, p in signature.parameters.items() if p.annotation is not p.empty}

    @functools.wraps(function)
    def checked(*args: P.args, **kwargs: P.kwargs) -> R:
        for name in kwargs.keys() - signature.parameters.keys():
            called = function.__qualname__.removesuffix(".__init__")
            raise unknown_name(f"argument of {called}:", name, signature.parameters.keys() - {"self"})
        try:
            bound = signature.bind(*args, **kwargs)
        except TypeError:
            return function(*args, **kwargs)  # Python's own error, which names the function
        for name in bound.arguments.keys() & hints.keys():
            bound.arguments[name] = convert(bound.arguments[name], hints[name], name)
        return function(*bound.args, **bound.kwargs)

    return checked


def convert(value: Any, hint: Any, name: str, *, parse_number: Callable[[str], float] | None = None) -> Any:
    """Return `value` as the type of an annotation.

    Integers are accepted as floats, NumPy's numbers as Python's, and a single name or path as a sequence of one.

    Args:
        value: What the caller gave.
        hint: Annotation of the parameter.
        name: Name of the parameter, for the message.
        parse_number: What reads a number from a string; None: strings are not numbers.

    Raises:
        InvalidArgumentError: `value` has another type, or is out of range.
    """
    if value is None and types.NoneType in typing.get_args(hint):
        return None
    parts = list(get_members(hint))
    fitting = [part for part in parts if len(parts) == 1 or _has_type(value, part)]
    if not fitting:
        raise _describe_mismatch(value, hint, name)
    part = fitting[0]
    origin, arguments = typing.get_origin(part), typing.get_args(part)
    again = functools.partial(convert, name=name, parse_number=parse_number)
    if origin is Annotated:
        converted = again(value, arguments[0])
        legal = get_limit(part)
        if isinstance(legal, Names):
            return legal.find(converted)
        if legal is not None and converted not in legal:
            raise InvalidArgumentError(f"{name} is {value!r}, but must be {legal}.")
        return converted
    if origin is Literal:
        return _choose(value, arguments, name)
    if part is float and parse_number is not None and isinstance(value, str):
        value = parse_number(value)
    if not _has_type(value, part):
        raise _describe_mismatch(value, hint, name)
    if origin is tuple and arguments[-1] is not Ellipsis:
        try:
            return tuple(again(item, inner) for item, inner in zip(value, arguments, strict=True))
        except InvalidArgumentError as error:
            raise _describe_mismatch(value, part, name) from error
    if origin in (tuple, Sequence):
        items = [value] if isinstance(value, str | os.PathLike) else value
        return tuple(again(item, arguments[0]) for item in items)
    if part in (int, float, bool):
        return part(value)
    return value


def get_members(hint: Any) -> Iterator[Any]:
    """Yield the members of a union without None, else the annotation itself; NumPy's ArrayLike is one member."""
    is_union = typing.get_origin(hint) in (types.UnionType, typing.Union) and hint != npt.ArrayLike
    parts = [part for part in (typing.get_args(hint) if is_union else (hint,)) if part is not types.NoneType]
    inner = typing.get_args(npt.ArrayLike)  # a union is flattened into the one that contains it
    if inner and all(part in parts for part in inner):
        parts = [npt.ArrayLike, *(part for part in parts if part not in inner)]
    yield from parts


def get_limit(hint: Any) -> Range | Names | None:
    """Return the range or the names of an annotation, or of a member of a union."""
    marks = (item for part in get_members(hint) for item in getattr(part, "__metadata__", ()))
    return next((item for item in marks if isinstance(item, Range | Names)), None)


def describe_value(value: Any) -> str:
    """Return a value for a message: "'x'", "(1, 2, 8, 8) torch.float32 on cpu", "an instance of Path"."""
    shape, dtype, device = (getattr(value, key, None) for key in ("shape", "dtype", "device"))
    if shape is not None and dtype is not None:
        where = "" if isinstance(device, str | None) else f" on {device}"
        return f"{tuple(shape)} {dtype}{where}"
    text = repr(value)
    is_plain = isinstance(value, str | bytes | int | float | complex | list | tuple | dict | os.PathLike | None)
    return text if is_plain and len(text) <= 100 else f"an instance of {type(value).__name__}"


def _has_type(value: Any, hint: Any) -> bool:
    """Return whether a value has the type of an annotation, without its range."""
    if hint == npt.ArrayLike:  # its values are checked by what uses them
        is_sequence = isinstance(value, Sequence) and not isinstance(value, str | bytes)
        return is_sequence or hasattr(value, "__array__") or hasattr(value, "__array_interface__")
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is Annotated:
        return _has_type(value, arguments[0])
    if origin is Literal:
        return any(
            type(value) is type(choice) and simplify_name(value) == simplify_name(choice) for choice in arguments
        )
    if origin in (tuple, Sequence):
        if isinstance(value, str | os.PathLike):
            # An unknown name fits here, so that `_choose` suggests the nearest one.
            items = get_members(arguments[0])
            return origin is Sequence and any(typing.get_origin(i) is Literal or _has_type(value, i) for i in items)
        is_sequence = isinstance(value, Sequence) or (hasattr(value, "tolist") and getattr(value, "ndim", 0) == 1)
        has_size = origin is Sequence or arguments[-1] is Ellipsis or (is_sequence and len(value) == len(arguments))
        return is_sequence and has_size and not isinstance(value, bytes)
    match hint:
        case type() if hint is int:
            return isinstance(value, Integral) and not isinstance(value, bool)
        case type() if hint is float:
            is_real = not isinstance(value, bool) and isinstance(value, Real)
            is_huge = isinstance(value, int) and abs(value) > sys.float_info.max
            return is_real and not is_huge and math.isfinite(value)
        case type() if hint is bool:
            return isinstance(value, bool) or type(value).__name__ == "bool"  # NumPy's
        case type() if hint is str:
            return isinstance(value, str) and value != ""
    kind = origin or hint
    if kind is Callable:
        return callable(value)
    if kind is os.PathLike:
        return isinstance(value, str | os.PathLike) and value != ""
    return isinstance(value, kind) if isinstance(kind, type) else True


def _choose(value: Any, choices: tuple[Any, ...], name: str) -> Any:
    for choice in choices:
        if type(value) is type(choice) and value == choice:
            return choice
    if isinstance(value, str):
        by_text = {str(choice): choice for choice in choices}
        return by_text[find_name(f"value for {name}:", value, by_text)]
    raise InvalidArgumentError(f"{name} is {describe_value(value)}, but must be {describe_hint(Literal[choices])}.")


def _describe_mismatch(value: Any, hint: Any, name: str) -> InvalidArgumentError:
    legal = "must not be empty" if isinstance(value, str) and not value else f"must be {describe_hint(hint)}"
    return InvalidArgumentError(f"{name} is {describe_value(value)}, but {legal}.")


_TYPE_NAMES = {int: "an integer", float: "a number", bool: "true or false", str: "a string", Callable: "a function"}


def describe_hint(hint: Any) -> str:
    """Return the legal values of an annotation as words: "an integer >= 1 or None"."""
    names = [_describe_member(part) for part in get_members(hint)]
    if types.NoneType in typing.get_args(hint):
        names.append("None")
    return " or ".join(dict.fromkeys(names))


def _describe_member(hint: Any) -> str:
    if hint == npt.ArrayLike:
        return "an array of numbers"
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is Annotated:
        legal = get_limit(hint)
        return f"{describe_hint(arguments[0])} {legal}" if isinstance(legal, Range) else describe_hint(arguments[0])
    if origin is Literal:
        return f"one of {', '.join(map(str, arguments))}"
    if origin is tuple and arguments[-1] is not Ellipsis:
        article, _, kind = _describe_member(arguments[0]).partition(" ")
        noun, _, limit = kind.partition(" ")
        return f"a list of {len(arguments)} {noun}s {limit}".strip() if article in ("a", "an") else "a list"
    if origin in (tuple, Sequence):
        return f"a list, each {describe_hint(arguments[0])}"
    if origin is Mapping:
        return "a dictionary"
    kind = origin or hint
    if kind is os.PathLike:
        return "a path"
    return _TYPE_NAMES.get(kind) or f"a {kind.__module__.split('.')[0]} {kind.__qualname__}"
