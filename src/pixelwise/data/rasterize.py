"""Shapes drawn on an image → a label map, by one rule for all formats.

The frame is continuous: x to the right, y down, (0, 0) at the outer corner of the first pixel. The pixel
in row r and column c covers [c, c + 1) × [r, r + 1), and its center is (c + 0.5, r + 0.5).

A pixel belongs to a shape when its center lies inside. For polygons inside is even-odd: a ray from the
center to the left crosses the outline an odd number of times. A center exactly on an edge belongs to the
area to the right of the edge, or below a level one; so of two polygons that share an edge exactly one gets
the pixel, and neighbors leave neither a gap nor an overlap. Numbers that make no shape are a DataError when
the shape is made.

    rasterize([Polygon(value=1, outline=[(1, 0), (3, 0), (3, 2), (1, 2)])], (3, 4))
    0 1 1 0
    0 1 1 0
    0 0 0 0
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
"""Beyond this a number is no position in an image, and products of such numbers lose the pixel."""


@dataclass(frozen=True, slots=True)
class Window:
    """Rows top..bottom-1 and columns left..right-1 of an image; empty where it has none in common with a shape."""

    top: int
    bottom: int
    left: int
    right: int

    @property
    def slices(self) -> tuple[slice, slice]:
        return slice(self.top, self.bottom), slice(self.left, self.right)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Polygon:
    """The area within an outline less that within its holes; it closes by itself and may cross itself."""

    value: int
    outline: npt.ArrayLike
    """(N, 2) numbers x, y with N >= 3."""
    holes: Sequence[npt.ArrayLike] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "outline", _ring(self.outline))
        object.__setattr__(self, "holes", tuple(map(_ring, self.holes)))

    def cover(self, size: Size) -> tuple[Window, Array]:
        """The part of the image that the shape may touch, and (H', W') bool: which pixels of it belong."""
        outline = np.asarray(self.outline)
        window = _window(outline.min(0), outline.max(0), size)
        inside = _fill(outline, window)
        for hole in self.holes:
            inside &= ~_fill(np.asarray(hole), window)
        return window, inside


@dataclass(frozen=True, slots=True, kw_only=True)
class Ellipse:
    """The points at most at the rim of an ellipse."""

    value: int
    center: tuple[float, float]
    """x, y."""
    radii: tuple[float, float]
    """Along x and y before the rotation; both above 0."""
    degrees: float = 0.0
    """Clockwise, as y points down."""

    def __post_init__(self) -> None:
        _require_positions(np.array([*self.center, *self.radii, self.degrees], float))
        if min(self.radii) <= 0:
            raise DataError(f"an ellipse has the radii {self.radii}, but both must be above 0; draw it once more.")

    def cover(self, size: Size) -> tuple[Window, Array]:
        """As `Polygon.cover`."""
        center, radii = np.array(self.center, float), np.array(self.radii, float)
        window = _window(center - radii.max(), center + radii.max(), size)
        x = np.arange(window.left, window.right) + 0.5 - center[0]
        y = np.arange(window.top, window.bottom)[:, None] + 0.5 - center[1]
        cosine, sine = np.cos(np.radians(self.degrees)), np.sin(np.radians(self.degrees))
        along, across = (x * cosine + y * sine) / radii[0], (y * cosine - x * sine) / radii[1]
        return window, along**2 + across**2 <= 1


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Bitmap:
    """Pixels given one by one in a box, which may stick out of the image."""

    value: int
    pixels: Array
    """(H', W') bool."""
    top: int = 0
    left: int = 0

    def cover(self, size: Size) -> tuple[Window, Array]:
        """As `Polygon.cover`."""
        height, width = self.pixels.shape
        top, bottom = (min(max(row, 0), size[0]) for row in (self.top, self.top + height))
        left, right = (min(max(column, 0), size[1]) for column in (self.left, self.left + width))
        part = self.pixels[top - self.top : bottom - self.top, left - self.left : right - self.left]
        return Window(top, bottom, left, right), part


Shape = Polygon | Ellipse | Bitmap


def rasterize(shapes: Iterable[Shape], size: Size, dtype: npt.DTypeLike = np.uint8) -> Array:
    """(H, W) values of the shapes, later ones over earlier ones, and 0 where there is none.

    What lies outside of the image is cut off.
    """
    labels = np.zeros(size, dtype)
    for shape in shapes:
        window, inside = shape.cover(size)
        np.copyto(labels[window.slices], shape.value, where=inside)
    return labels


def box(value: int, left: float, top: float, right: float, bottom: float, degrees: float = 0.0) -> Polygon:
    """An upright rectangle, turned clockwise about its center by `degrees`."""
    corners = np.array([(left, top), (right, top), (right, bottom), (left, bottom)], float)
    if degrees:
        cosine, sine = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
        center = corners.mean(0)
        corners = (corners - center) @ np.array([(cosine, sine), (-sine, cosine)]) + center
    return Polygon(value=value, outline=corners)


def unroll(lengths: Iterable[int], size: Size) -> Array:
    """Run lengths along the rows, of pixels that do not belong and that belong in turns → (H, W) bool."""
    runs, pixels = np.asarray(lengths, np.int64), size[0] * size[1]
    if runs.ndim != 1 or (runs < 0).any() or (runs > pixels).any() or runs.sum() != pixels:
        raise DataError(f"the run lengths do not add up to {pixels} pixels; export the mask once more.")
    return np.repeat(np.arange(len(runs)) % 2 == 1, runs).reshape(size)


def _ring(points: npt.ArrayLike) -> Array:
    ring = np.asarray(points, float)
    if ring.ndim != 2 or ring.shape[1] != 2 or len(ring) < 3:
        raise DataError("a polygon needs three corners or more, of two numbers each; draw it once more.")
    _require_positions(ring)
    return ring


def _require_positions(numbers: Array) -> None:
    wrong = numbers[~(np.abs(numbers) <= MAX_COORDINATE)]  # written so that NaN is wrong too
    if wrong.size:
        raise DataError(f"a shape holds the number {wrong[0]:g}, which is no position in an image; draw it once more.")


def _window(low: Array, high: Array, size: Size) -> Window:
    """The pixels whose centers lie between two corners (x, y)."""
    left, right = (int(c) for c in np.clip(_first_center(np.array([low[0], high[0]])), 0, size[1]))
    top, bottom = (int(c) for c in np.clip(_first_center(np.array([low[1], high[1]])), 0, size[0]))
    # A center on the far rim of an ellipse counts, on the far edge of a polygon it does not: one more does no harm.
    return Window(top, min(bottom + 1, size[0]), left, min(right + 1, size[1]))


def _first_center(positions: Array) -> Array:
    """The number of the first row or column whose center is at a position or beyond it."""
    return np.ceil(positions - 0.5)


def _fill(ring: Array, window: Window) -> Array:
    """(H', W') bool: the pixels of the window inside of a ring.

    Every edge flips all pixels to the right of it in the rows that it crosses. An edge is computed from its
    upper end whichever way it is walked, so that two polygons that share it agree to the last bit.
    """
    height, width = window.bottom - window.top, window.right - window.left
    edges = np.stack([ring, np.roll(ring, -1, axis=0)], axis=1)
    upward = edges[:, 0, 1] > edges[:, 1, 1]
    edges[upward] = edges[upward, ::-1]
    (x, y), (dx, dy) = edges[:, 0].T, (edges[:, 1] - edges[:, 0]).T
    first, last = (np.clip(_first_center(edges[:, k, 1]), window.top, window.bottom).astype(int) for k in (0, 1))
    counts = last - first
    edge = np.repeat(np.arange(len(ring)), counts)
    rows = np.arange(len(edge)) + np.repeat(first - np.cumsum(counts) + counts, counts)
    crossings = x[edge] + (rows + 0.5 - y[edge]) * dx[edge] / dy[edge]
    columns = np.clip(_first_center(crossings), window.left, window.right).astype(int)
    flips = np.zeros((height, width + 1), np.uint8)
    np.bitwise_xor.at(flips, (rows - window.top, columns - window.left), 1)
    inside: Array = np.bitwise_xor.accumulate(flips[:, :width], axis=1).view(bool)
    return inside
