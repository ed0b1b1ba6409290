"""A window that cannot be decoded, in words."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from pixelwise.errors import DataError


@contextlib.contextmanager
def decoding(path: Path, rows: slice, columns: slice, *failures: type[Exception]) -> Iterator[None]:
    """Turns failures of a decoder into a DataError with file and place; a DataError gets the name of the file."""
    try:
        yield
    except DataError as error:
        raise DataError(f"{path}: {error}") from error
    except failures as error:
        place = f"rows {rows.start} to {rows.stop}, columns {columns.start} to {columns.stop}"
        raise DataError(f"{path}: cannot be decoded in {place}; replace or remove it.") from error
