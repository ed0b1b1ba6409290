"""Tile plans in integers: which pixels each tile reads, and which it writes.

Besides the pixels that it writes, a tile reads everything that the network's output there depends on (its halo). It
starts where a shift of the image is a shift of the output, so its output is that of the whole image. This is the
overlap-tile strategy of Ronneberger et al. (U-Net, MICCAI 2015, figure 2) for any network with a known geometry.
"""

import bisect
import math
from collections.abc import Iterator
from dataclasses import dataclass

from pixelwise.networks.geometry import NetworkGeometry
from pixelwise.shapes import Size, round_up


@dataclass(frozen=True, slots=True, kw_only=True)
class TileSpan:
    """The rows, or the columns, of a tile."""

    write: slice
    """Rows of the image that the tile writes."""
    read: slice
    """Rows of the padded image (as the network gets it) that the tile reads."""

    @property
    def keep(self) -> slice:
        """Rows of the tile's own output that are written."""
        return slice(self.write.start - self.read.start, self.write.stop - self.read.start)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tile:
    """One tile of a plan."""

    index: tuple[int, int]
    """Its position among the plan's rows and columns."""
    rows: TileSpan
    columns: TileSpan

    @property
    def write(self) -> tuple[slice, slice]:
        """Rows and columns of the image that the tile writes."""
        return self.rows.write, self.columns.write

    @property
    def keep(self) -> tuple[slice, slice]:
        """Rows and columns of the tile's own output that are written."""
        return self.rows.keep, self.columns.keep


@dataclass(frozen=True, slots=True, kw_only=True)
class TilePlan:
    """The tiles of an image: every pair of a span of rows and a span of columns."""

    rows: tuple[TileSpan, ...]
    columns: tuple[TileSpan, ...]

    def __len__(self) -> int:
        return len(self.rows) * len(self.columns)

    def __iter__(self) -> Iterator[Tile]:
        for row, row_span in enumerate(self.rows):
            for column, column_span in enumerate(self.columns):
                yield Tile(index=(row, column), rows=row_span, columns=column_span)

    @property
    def max_input_size(self) -> Size:
        """The largest (height, width) that a tile reads."""
        height, width = (max(_length(span.read) for span in spans) for spans in (self.rows, self.columns))
        return height, width

    @property
    def num_input_pixels(self) -> int:
        """The number of pixels that all tiles read; without a halo, the number of the image's pixels."""
        height, width = (sum(_length(span.read) for span in spans) for spans in (self.rows, self.columns))
        return height * width


def plan_tiles(geometry: NetworkGeometry, image_size: Size, padded_size: Size, tile_size: Size) -> TilePlan:
    """Plan tiles that give the result of the whole image.

    Args:
        geometry: Of a network that is local.
        image_size: (height, width) of the image.
        padded_size: (height, width) of the image with its padding, which is a legal size of the network.
        tile_size: (height, width) that a tile writes; the last row and column of tiles may be smaller.

    Returns:
        The tiles, which write each pixel of the image once.
    """
    rows, columns = (
        plan_spans(geometry, axis, image_size[axis], padded_size[axis], tile_size[axis]) for axis in (0, 1)
    )
    return TilePlan(rows=rows, columns=columns)


def plan_spans(
    geometry: NetworkGeometry, axis: int, side: int, padded_side: int, tile_side: int
) -> tuple[TileSpan, ...]:
    """Plan the spans of tiles along one axis (0 rows, 1 columns), in order.

    Example:
        A network with a halo of 8 and a stride of 8, on 24 rows in tiles of 8:

            write   0:8      8:16     16:24
            read    0:16     0:24     8:24
    """
    return tuple(
        _plan_span(geometry, axis, start, min(start + tile_side, side), padded_side)
        for start in range(0, side, tile_side)
    )


def _plan_span(geometry: NetworkGeometry, axis: int, start: int, stop: int, padded_side: int) -> TileSpan:
    # Reading starts where a shift of the image is a shift of the output, and what is left has a legal size.
    step = math.lcm(geometry.stride[axis], geometry.size_multiple)
    first, last = (geometry.rows, geometry.columns)[axis].get_range(start, stop)
    latest = padded_side - geometry.min_size
    begin = min(max(min(first, start), 0), latest) // step * step
    # An unpadded network loses rows even where nothing depends on them.
    needed = max(last, stop + geometry.size_loss[axis]) - begin
    extra = round_up(max(needed - geometry.min_size, 0), geometry.size_multiple)
    return TileSpan(write=slice(start, stop), read=slice(begin, min(begin + geometry.min_size + extra, padded_side)))


def choose_tile_size(geometry: NetworkGeometry, image_size: Size, padded_size: Size, max_pixels: int) -> Size:
    """Choose the (height, width) of tiles for which the network reads the fewest pixels in all.

    Args:
        geometry: Of a network that is local.
        image_size: (height, width) of the image.
        padded_size: (height, width) of the image with its padding.
        max_pixels: The number of pixels that a tile may read. If even the smallest tile reads more, the smallest
            tile is returned.
    """
    best: tuple[int, Size] | None = None
    stride = geometry.stride[1]
    for num_columns in range(1, image_size[1] // stride + 2):
        width = round_up(-(-image_size[1] // num_columns), stride)
        if height := _choose_height(geometry, image_size, padded_size, width, max_pixels):
            pixels = plan_tiles(geometry, image_size, padded_size, (height, width)).num_input_pixels
            best = min(best or (pixels, (height, width)), (pixels, (height, width)))
            if pixels > 1.2 * best[0]:
                break  # narrower tiles read ever more pixels in all
    return best[1] if best else geometry.stride


def _choose_height(geometry: NetworkGeometry, image_size: Size, padded_size: Size, width: int, max_pixels: int) -> int:
    """Return the largest height, in whole strides, of tiles of `width` that read at most `max_pixels`; 0 if none."""
    stride = geometry.stride[0]
    input_width = max(_length(span.read) for span in plan_spans(geometry, 1, image_size[1], padded_size[1], width))

    def compute_input_height(strides: int) -> int:
        spans = plan_spans(geometry, 0, image_size[0], padded_size[0], strides * stride)
        return max(_length(span.read) for span in spans)

    candidates = range(1, -(-image_size[0] // stride) + 1)
    return bisect.bisect_right(candidates, max_pixels // input_width, key=compute_input_height) * stride


def _length(part: slice) -> int:
    return int(part.stop - part.start)
