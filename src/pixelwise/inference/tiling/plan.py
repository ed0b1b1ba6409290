"""How an image is cut into tiles, in integers: which pixels each tile sees, and which it answers for.

A tile sees, beyond what it answers for, all that the network's answer there depends on (its halo),
and starts where shifting the image shifts the output: so its answer is that of the whole image. It
is the overlap-tile strategy of Ronneberger et al. (U-Net, MICCAI 2015, figure 2) for any network
whose geometry is known.
"""

import bisect
import math
from collections.abc import Iterator
from dataclasses import dataclass

from pixelwise.networks.geometry.network_geometry import NetworkGeometry
from pixelwise.shapes import Size, round_up


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """A tile along one axis; each range is half-open."""

    write: slice
    """Rows, or columns, of the image that the tile answers for."""
    read: slice
    """Rows of the framed image (the image with what the network pads it by) that it sees."""

    @property
    def keep(self) -> slice:
        """Rows of the tile's own output that are the answer."""
        return slice(self.write.start - self.read.start, self.write.stop - self.read.start)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tile:
    rows: Span
    columns: Span

    @property
    def write(self) -> tuple[slice, slice]:
        return self.rows.write, self.columns.write

    @property
    def keep(self) -> tuple[slice, slice]:
        return self.rows.keep, self.columns.keep


Part = tuple[int, int]
"""Of a plan: which of its rows, and which of its columns."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """The parts of an image that are computed one by one: every pair of a span of rows and a span of columns."""

    rows: tuple[Span, ...]
    columns: tuple[Span, ...]

    def writes(self, part: Part) -> tuple[slice, slice]:
        """Rows and columns of the image that a part answers for."""
        return self.rows[part[0]].write, self.columns[part[1]].write


@dataclass(frozen=True, slots=True, kw_only=True)
class TilePlan(Parts):
    """Parts that are computed each for itself."""

    def __iter__(self) -> Iterator[Tile]:
        return (Tile(rows=rows, columns=columns) for rows in self.rows for columns in self.columns)

    @property
    def largest(self) -> Size:
        """(height, width) that holds every tile's input."""
        height, width = (max(_length(span.read) for span in spans) for spans in (self.rows, self.columns))
        return height, width

    @property
    def pixels(self) -> int:
        """What the network is given in all, in pixels."""
        height, width = (sum(_length(span.read) for span in spans) for spans in (self.rows, self.columns))
        return height * width


@dataclass(frozen=True, slots=True, kw_only=True)
class StripPlan(Parts):
    """Strips that a network takes one after the other (`streaming.py`), in bands side by side.

    A strip's `read` is what a stream sees that begins with it: all rows to the last. What two bands see in
    common is computed twice, as of tiles.
    """


Plan = TilePlan | StripPlan


def plan_strips(field: NetworkGeometry, size: Size, framed: Size, strip: Size) -> StripPlan:
    """Strips of this height in bands of this width, that give what the whole image gives.

    Args:
        field, size, framed: as for `plan_tiles`.
        strip: a multiple of the stride high.
    """
    to_the_end = [_span(field, 0, start, size[0], framed[0]).read.start for start in range(0, size[0], strip[0])]
    rows = tuple(
        Span(write=slice(start, min(start + strip[0], size[0])), read=slice(begin, framed[0]))
        for start, begin in zip(range(0, size[0], strip[0]), to_the_end, strict=True)
    )
    return StripPlan(rows=rows, columns=plan_spans(field, 1, size[1], framed[1], strip[1]))


def plan_tiles(field: NetworkGeometry, size: Size, framed: Size, tile: Size) -> TilePlan:
    """Tiles that give what the whole image gives.

    Args:
        field: of a network that is local.
        size: of the image.
        framed: of the image with its padding, as the network gets it whole; a legal size.
        tile: height and width of what one tile answers for; the last row and column may be smaller.
    """
    rows, columns = (plan_spans(field, axis, size[axis], framed[axis], tile[axis]) for axis in (0, 1))
    return TilePlan(rows=rows, columns=columns)


def plan_spans(field: NetworkGeometry, axis: int, side: int, framed: int, tile: int) -> tuple[Span, ...]:
    """The spans along one axis (0 rows, 1 columns), in order; together they write each of `side` once.

    A network with a halo of 8 at a stride of 8, on 24 rows in tiles of 8:

        write   0:8      8:16     16:24
        read    0:16     0:24     8:24
    """
    return tuple(_span(field, axis, start, min(start + tile, side), framed) for start in range(0, side, tile))


def _span(field: NetworkGeometry, axis: int, start: int, stop: int, framed: int) -> Span:
    # Reading starts where a shift of the image is a shift of the output, and what is left has a legal size.
    step = math.lcm(field.stride[axis], field.size_multiple)
    first, last = (field.rows, field.columns)[axis].reach(start, stop)
    latest = framed - field.size_minimum
    begin = min(max(min(first, start), 0), latest) // step * step
    # An unpadded network loses rows even where nothing depends on them.
    wanted = max(last, stop + field.lost[axis]) - begin
    more = round_up(max(wanted - field.size_minimum, 0), field.size_multiple)
    return Span(write=slice(start, stop), read=slice(begin, min(begin + field.size_minimum + more, framed)))


def choose_tile(field: NetworkGeometry, size: Size, framed: Size, max_pixels: int) -> Size:
    """The height and width of tiles for which the network is given the fewest pixels in all.

    Args:
        max_pixels: what one tile may see. Where not even the smallest tile sees so few, it is taken.
    """
    best: tuple[int, Size] | None = None
    stride = field.stride[1]
    for columns in range(1, size[1] // stride + 2):
        width = round_up(-(-size[1] // columns), stride)
        if height := _tallest(field, size, framed, width, max_pixels):
            pixels = plan_tiles(field, size, framed, (height, width)).pixels
            best = min(best or (pixels, (height, width)), (pixels, (height, width)))
            if pixels > 1.2 * best[0]:
                break  # ever narrower tiles see ever more in all
    return best[1] if best else field.stride


def _tallest(field: NetworkGeometry, size: Size, framed: Size, width: int, max_pixels: int) -> int:
    """The tallest tile of this width that sees at most `max_pixels`, in whole strides; 0: there is none."""
    stride = field.stride[0]
    seen_width = max(_length(span.read) for span in plan_spans(field, 1, size[1], framed[1], width))

    def seen(strides: int) -> int:
        return max(_length(span.read) for span in plan_spans(field, 0, size[0], framed[0], strides * stride))

    fitting = range(1, -(-size[0] // stride) + 1)
    return bisect.bisect_right(fitting, max_pixels // seen_width, key=seen) * stride


def _length(part: slice) -> int:
    return int(part.stop - part.start)
