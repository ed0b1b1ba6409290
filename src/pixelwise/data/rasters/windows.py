"""Windows of large images: errors that name the window, and label rows regrouped into square blocks."""

import contextlib
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from pixelwise.data.io.decoded_image import Array
from pixelwise.errors import DataError

BLOCK = 512
"""Side of the blocks: a GeoTIFF's own tiles, the chunks of a Zarr."""


def in_blocks(strips: Iterable[Array]) -> Iterator[tuple[int, Array]]:
    """The same rows in whole blocks, so that each is compressed once; each piece with its first row."""
    top, waiting = 0, np.empty((0, 0))
    for strip in strips:
        waiting = np.concatenate([waiting, strip]) if len(waiting) else strip
        whole = len(waiting) // BLOCK * BLOCK
        if whole:
            yield top, waiting[:whole]
            top, waiting = top + whole, waiting[whole:]
    if len(waiting):
        yield top, waiting


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
