"""JSON and XML files of annotation tools, read as files of a stranger."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element, TreeBuilder
from xml.parsers import expat

from pixelwise.data.io.decoded_image import MAX_PIXELS
from pixelwise.errors import DataError
from pixelwise.files import read_bytes
from pixelwise.shapes import Size


def read_lines(path: Path) -> list[str]:
    """The lines of a text file in UTF-8, without spaces around them. DataError where it is none."""
    try:
        return [line.strip() for line in read_bytes(path).decode("utf-8-sig").split("\n")]
    except UnicodeDecodeError as error:
        raise _broken(path, str(error)) from error


def read_xml(path: Path) -> Element:
    """The root element of an XML file. DataError gives the file and the place of a fault.

    A document type is refused: its entities could grow without bound, or name files of this machine.
    """
    builder = TreeBuilder()
    parser = expat.ParserCreate()
    parser.buffer_text = True
    parser.StartElementHandler = builder.start
    parser.EndElementHandler = builder.end
    parser.CharacterDataHandler = builder.data
    parser.StartDoctypeDeclHandler = lambda *_: _refuse_doctype(path)
    try:
        parser.Parse(read_bytes(path), True)
    except expat.ExpatError as error:
        fault = expat.errors.messages[error.code]
        raise _broken(path, f"line {error.lineno}, column {error.offset + 1}: {fault}") from error
    return builder.close()


def peek(path: Path, length: int) -> str:
    """The first and the last `length` bytes of a file as text; nothing of one that cannot be read."""
    try:
        with path.open("rb") as file:
            head = file.read(length)
            file.seek(max(length, path.stat().st_size - length))
            return (head + file.read(length)).decode(errors="replace")
    except OSError:
        return ""


@contextmanager
def well_formed(where: str) -> Iterator[None]:
    """Faults of a document, its values as its tool should have written them, become errors that name the place."""
    try:
        yield
    except DataError as error:
        raise DataError(f"{where}: {error}") from error
    except KeyError as error:
        raise DataError(f"{where}: {error.args[0]!r} is missing; export the annotations once more.") from error
    except (TypeError, ValueError, AttributeError, IndexError, OverflowError) as error:
        raise DataError(f"{where}: malformed ({error}); export the annotations once more.") from error


def size_of(height: Any, width: Any) -> Size:
    """The size that an annotation gives. A lie could ask for any amount of memory."""
    rows, columns = int(height), int(width)
    if rows < 1 or columns < 1 or rows * columns > MAX_PIXELS:
        raise DataError(f"the size {height}x{width} (height x width) is none of an image; correct it.")
    return rows, columns


def parse_color(text: str | None) -> tuple[int, int, int] | None:
    """`#ff8c00` → (255, 140, 0); None of an empty text."""
    if not text:
        return None
    digits = text.removeprefix("#")
    if len(digits) != 6:
        raise DataError(f"{text!r} is no color; write one such as #ff8c00.")
    red, green, blue = bytes.fromhex(digits)
    return red, green, blue


def _broken(path: Path, fault: str) -> DataError:
    return DataError(f"{path}: cannot be read ({fault}); export it once more, or remove it.")


def _refuse_doctype(path: Path) -> None:
    raise DataError(f"{path}: has a DOCTYPE, which no annotation needs and which can do harm; remove it.")
