"""Windows of large images: errors that name the window, and label rows regrouped to blocks."""

import contextlib
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from pixelwise.data.io.decoded_image import Array
from pixelwise.errors import DataError

BLOCK = 512
"""Side of the tiles of a GeoTIFF and of the chunks of a Zarr."""


def regroup_blocks(strips: Iterable[Array]) -> Iterator[tuple[int, Array]]:
    """Yield the rows of the strips in whole blocks with their first row, so that each block is compressed once."""
    top, waiting = 0, np.empty((0, 0))
    for strip in strips:
        waiting = np.concatenate([waiting, strip]) if len(waiting) else strip
        num_whole = len(waiting) // BLOCK * BLOCK
        if num_whole:
            yield top, waiting[:num_whole]
            top, waiting = top + num_whole, waiting[num_whole:]
    if len(waiting):
        yield top, waiting


@contextlib.contextmanager
def convert_window_errors(path: Path, rows: slice, columns: slice, *failures: type[Exception]) -> Iterator[None]:
    """Turn the failures of a decoder into DataError with file and window; add the file to a DataError."""
    try:
        yield
    except DataError as error:
        raise DataError(f"{path}: {error}") from error
    except failures as error:
        window = f"rows {rows.start} to {rows.stop}, columns {columns.start} to {columns.stop}"
        raise DataError(f"{path}: cannot be decoded in {window}. Replace or remove it.") from error
