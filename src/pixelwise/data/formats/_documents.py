"""Reading of annotation files that other tools wrote: XML, typed values, and errors that name the place.

The functions `get_...` read a value from a JSON object or the attributes of an XML element. If it has another form
than the format defines, they raise DataError with its key, what was found and what is expected.
"""

import base64
import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar
from xml.etree.ElementTree import Element, TreeBuilder
from xml.parsers import expat

import numpy as np

from pixelwise.data.colors import Color
from pixelwise.data.io.decoded_image import MAX_PIXELS, Array
from pixelwise.errors import DataError
from pixelwise.files import read_bytes
from pixelwise.shapes import Size

T = TypeVar("T")

Record = Mapping[str, Any]
"""An object of a JSON document, or the attributes of an XML element."""


def read_xml(path: Path) -> Element:
    """Read the root element of an XML file; raise DataError with line and column of a fault.

    A document type is refused: its entities could grow without bound, or name files of this machine.
    """

    def refuse_doctype(*_: object) -> None:
        raise DataError(
            f"{path}: The file has a DOCTYPE, which no annotation needs and which can be malicious. Remove it."
        )

    builder = TreeBuilder()
    parser = expat.ParserCreate()
    parser.buffer_text = True
    parser.StartElementHandler = builder.start
    parser.EndElementHandler = builder.end
    parser.CharacterDataHandler = builder.data
    parser.StartDoctypeDeclHandler = refuse_doctype
    try:
        parser.Parse(read_bytes(path), True)
    except expat.ExpatError as error:
        reason = f"line {error.lineno}, column {error.offset + 1}: {expat.errors.messages[error.code]}"
        raise DataError(f"{path}: The file is not valid XML ({reason}). Export it again, or remove it.") from error
    return builder.close()


def read_ends(path: Path, length: int) -> str:
    """Read the first and the last `length` bytes of a file as text; an empty string if it cannot be read."""
    try:
        with path.open("rb") as file:
            head = file.read(length)
            file.seek(max(length, path.stat().st_size - length))
            return (head + file.read(length)).decode(errors="replace")
    except OSError:
        return ""


@contextmanager
def locate_errors(place: object) -> Iterator[None]:
    """Put the place in front of the message of each DataError."""
    try:
        yield
    except DataError as error:
        raise DataError(f"{place}: {error}") from error


def format_value(value: object) -> str:
    """Describe a value of a document in a few words: `null`, `'x'`, `[1, 'x']`, `a list of 30 values`."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, Mapping):
        return "an object"
    if isinstance(value, list | tuple):
        if len(value) > 4:
            return f"a list of {len(value)} values"
        if any(isinstance(item, list | tuple | Mapping) for item in value):
            return "a nested list"
        return f"[{', '.join(map(format_value, value))}]"
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:36]}...{text[-1]}"


def get_text(record: Any, key: str) -> str:
    """Return a text that is not empty; a whole number becomes text, for some tools write names so."""
    return _get(record, key, "a text", parse_text)


def get_number(record: Any, key: str, default: float | None = None) -> float:
    """Return a finite number, which may be written as text."""
    return _get(record, key, "a number", parse_number, default)


def get_integer(record: Any, key: str, default: int | None = None) -> int:
    """Return a whole number, which may be written as text or with a fraction of zero."""
    return _get(record, key, "a whole number", parse_integer, default)


def get_flag(record: Any, key: str) -> bool:
    """Return whether a value is 1 or true; a missing one is false."""
    return _get(record, key, "0 or 1", _parse_flag, False)


def get_id(record: Any, key: str) -> str:
    """Return an id as text: the text `"1"` is the same id as the number 1."""
    return _get(record, key, "a whole number or a text", parse_id)


def get_record(record: Any, key: str) -> Record:
    return _get(record, key, "an object", _parse_record)


def get_list(record: Any, key: str, default: list[Any] | None = None) -> list[Any]:
    return _get(record, key, "a list", lambda value: value if isinstance(value, list) else None, default)


def get_integers(record: Any, key: str, count: int | None = None) -> list[int]:
    """Return a list of whole numbers, of `count` where it is given."""
    numbers = [parse_integer(value) for value in get_list(record, key)]
    if None in numbers or count not in (None, len(numbers)):
        expected = "whole numbers" if count is None else f"{count} whole numbers"
        raise DataError(f"{key!r} is {format_value(record[key])}. Expected {expected}. Export the annotations again.")
    return [number for number in numbers if number is not None]


def get_records(record: Any, key: str) -> list[Record]:
    """Return a list of objects."""
    records = get_list(record, key)
    for number, value in enumerate(records, 1):
        if not isinstance(value, Mapping):
            raise DataError(f"Entry {number} of {key!r} is {format_value(value)}. Expected an object. Correct it.")
    return records


def get_points(record: Any, key: str, counts: Collection[int] = ()) -> Array:
    """Return points as (N, 2) x and y.

    Args:
        record: The object that has the points.
        key: Its key.
        counts: The numbers of points that the shape may have; any by default.
    """
    points = parse_points(get_list(record, key), repr(key))
    if counts and len(points) not in counts:
        expected = " or ".join(map(str, counts))
        raise DataError(
            f"The number of {key!r} is {len(points)}. Expected {expected}. Draw the shape again, or remove it."
        )
    return points


def get_size(record: Any, height: str = "height", width: str = "width") -> Size | None:
    """Return height and width of an image by their keys; None if the document does not have both."""
    given = [key for key in (height, width) if not isinstance(record, Mapping) or record.get(key) is not None]
    return parse_size(*(get_integer(record, key) for key in given)) if len(given) == 2 else None


def get_bytes(record: Any, key: str) -> bytes:
    """Return the content of a text in base64."""
    text = get_text(record, key)
    try:
        return base64.b64decode(text, validate=True)
    except ValueError as error:
        raise DataError(f"{key!r} is not a text in base64. Export the annotations again.") from error


def parse_text(value: Any) -> str | None:
    """Return a text that is not empty; a whole number becomes text."""
    value = int(value) if isinstance(value, float) and value.is_integer() else value
    return str(value) if (isinstance(value, str) and value.strip()) or type(value) is int else None


def parse_number(value: Any) -> float | None:
    """Return a finite number that is a number or its text; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def parse_integer(value: Any) -> int | None:
    """Return a whole number, exactly: ids may have more digits than a float."""
    if type(value) is int or (isinstance(value, str) and value.strip().isdecimal() and len(value) < 4000):
        return int(value)
    number = parse_number(value)
    return int(number) if number is not None and number.is_integer() else None


def parse_id(value: Any) -> str | None:
    number = parse_integer(value)
    return parse_text(value if number is None else number)


def parse_points(points: Sequence[Any], name: str) -> Array:
    """Parse pairs of numbers to (N, 2) x and y; errors call them `name`."""
    parsed = _parse_numbers(points)
    if parsed is not None and parsed.shape == (len(points), 2):
        return parsed
    pairs = []
    for number, point in enumerate(points, 1):
        pair = [parse_number(part) for part in point] if isinstance(point, list | tuple) else []
        if len(pair) != 2 or None in pair:
            raise DataError(
                f"Point {number} of {name} is {format_value(point)}. Expected two numbers, x and y. Draw it again."
            )
        pairs.append(pair)
    return np.array(pairs, float).reshape(-1, 2)


def pair_coordinates(numbers: Sequence[Any], name: str) -> Array:
    """Parse a list x1, y1, x2, y2, ... to (N, 2) x and y; errors call it `name`."""
    if len(numbers) % 2:
        raise DataError(f"{name} has an odd number of values, but x and y come in pairs. Draw the shape again.")
    parsed = _parse_numbers(numbers)
    if parsed is not None and parsed.ndim == 1:
        return parsed.reshape(-1, 2)
    return parse_points(list(zip(numbers[::2], numbers[1::2], strict=True)), name)


def _parse_numbers(values: Sequence[Any]) -> Array | None:
    """Return lists of finite numbers as an array, without a loop in Python; None for any others."""
    try:
        parsed = np.array(values, float)
    except (TypeError, ValueError, OverflowError):
        return None
    return parsed if np.isfinite(parsed).all() else None


def parse_size(height: int, width: int) -> Size:
    """Check the size of an image; a wrong one could ask for any amount of memory."""
    if height < 1 or width < 1 or height * width > MAX_PIXELS:
        raise DataError(
            f"The size {height}x{width} (height x width) is not between 1 and {MAX_PIXELS:,} pixels. Correct it."
        )
    return height, width


def parse_color(text: Any) -> Color | None:
    """Parse a color: `#ff8c00` → (255, 140, 0); None for no text."""
    if not text:
        return None
    try:
        red, green, blue = bytes.fromhex(text.removeprefix("#"))
    except (ValueError, AttributeError) as error:
        raise DataError(f"{format_value(text)} is not a color. Write one such as #ff8c00.") from error
    return red, green, blue


def _get(record: Any, key: str, expected: str, parse: Callable[[Any], T | None], default: T | None = None) -> T:
    if not isinstance(record, Mapping):
        raise DataError(f"{format_value(record)} is not an object with {key!r}. Export the annotations again.")
    if record.get(key) is None and default is not None:
        return default
    if key not in record:
        raise DataError(f"{key!r} is missing. Expected {expected}. Export the annotations again.")
    value = parse(record[key])
    if value is None:
        raise DataError(f"{key!r} is {format_value(record[key])}. Expected {expected}. Correct it, or export it again.")
    return value


def _parse_flag(value: Any) -> bool | None:
    number = int(value) if isinstance(value, bool) else parse_integer(value)
    return bool(number) if number in (0, 1) else None


def _parse_record(value: Any) -> Record | None:
    return value if isinstance(value, Mapping) else None
