"""Labels come in strips of any height and are stored in square blocks."""

from collections.abc import Iterable, Iterator

import numpy as np

from pixelwise.data.pixels import Array

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
