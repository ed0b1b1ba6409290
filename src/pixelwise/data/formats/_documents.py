"""Reading of annotation files that other tools wrote: XML, sizes, colors, and errors that name the place."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element, TreeBuilder
from xml.parsers import expat

from pixelwise.data.classes import Color
from pixelwise.data.io.decoded_image import MAX_PIXELS
from pixelwise.errors import DataError
from pixelwise.files import read_bytes
from pixelwise.shapes import Size


def read_xml(path: Path) -> Element:
    """Read the root element of an XML file; raise DataError with line and column of a fault.

    A document type is refused: its entities could grow without bound, or name files of this machine.
    """

    def refuse_doctype(*_: object) -> None:
        raise DataError(f"{path}: has a DOCTYPE, which no annotation needs and which can be malicious. Remove it.")

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
        raise DataError(f"{path}: is not valid XML ({reason}). Export it again, or remove it.") from error
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
    """Turn errors about the values of a document into DataError with the place in front."""
    try:
        yield
    except DataError as error:
        raise DataError(f"{place}: {error}") from error
    except KeyError as error:
        raise DataError(f"{place}: {error.args[0]!r} is missing. Export the annotations again.") from error
    except (TypeError, ValueError, AttributeError, IndexError, OverflowError) as error:
        raise DataError(f"{place}: a value has an unexpected type or form. Export the annotations again.") from error


def parse_size(height: Any, width: Any) -> Size:
    """Parse the size of an image; a wrong one could ask for any amount of memory."""
    rows, columns = int(height), int(width)
    if rows < 1 or columns < 1 or rows * columns > MAX_PIXELS:
        raise DataError(
            f"the size {height}x{width} (height x width) is not between 1 and {MAX_PIXELS:,} pixels. Correct it."
        )
    return rows, columns


def parse_label(value: Any) -> str:
    """Parse a class name that is stored as text or as a number: 1 → `1`."""
    if isinstance(value, str) and value.strip():
        return value
    if type(value) is int or (isinstance(value, float) and value.is_integer()):
        return str(int(value))
    raise DataError(f"the label {value!r} is not a name. Give it a name, or remove it.")


def parse_color(text: str | None) -> Color | None:
    """Parse a color: `#ff8c00` → (255, 140, 0); None for an empty text."""
    if not text:
        return None
    digits = text.removeprefix("#")
    if len(digits) != 6:
        raise DataError(f"{text!r} is not a color. Write one such as #ff8c00.")
    red, green, blue = bytes.fromhex(digits)
    return red, green, blue
