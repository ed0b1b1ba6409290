"""Georeferences of GeoTIFF: the affine transform from pixels to map coordinates, and the EPSG code."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO

import tifffile

from pixelwise.data.io.decoded_image import ORIENTATION
from pixelwise.data.io.tiff import TIFF_MAGIC

_PIXEL_SCALE, _TIE_POINT, _TRANSFORMATION, _KEYS = 33550, 33922, 34264, 34735
_RASTER_TYPE, _GEOGRAPHIC, _PROJECTED = 1025, 2048, 3072
_PIXEL_IS_POINT = 2
_USER_DEFINED = 32767
"""From this code on, codes are not of EPSG."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Georeference:
    """An affine transform from pixel to map coordinates."""

    x: tuple[float, float, float]
    """(a, b, c): the corner of the pixel in column u and row v has the coordinate a u + b v + c."""
    y: tuple[float, float, float]
    epsg: int | None
    """Code of the coordinate reference system; None if the file has none."""

    def to_map(self, column: float, row: float) -> tuple[float, float]:
        """Return the map coordinates of a position in the image; (0, 0) is the outer corner of the first pixel."""
        x, y = (a * column + b * row + c for a, b, c in (self.x, self.y))
        return x, y

    @property
    def pixel_area(self) -> float:
        """Area of a pixel in squared units of the map: square meters or square degrees."""
        return abs(self.x[0] * self.y[1] - self.x[1] * self.y[0])


def read_georeference(file: BinaryIO) -> Georeference | None:
    """Read the georeference of an open TIFF; the file is seekable and at its start.

    Returns:
        None for other files, for images stored rotated, and for tie points without an affine transform.
    """
    if file.read(4) not in TIFF_MAGIC:
        return None
    file.seek(0)
    with tifffile.TiffFile(file) as tiff:
        tags = tiff.pages.first.tags
        if tags.valueof(ORIENTATION, 1) != 1:
            return None
        rows = _read_affine(tags)
        keys = _parse_keys(tags.valueof(_KEYS, ()))
    if rows is None:
        return None
    if keys.get(_RASTER_TYPE) == _PIXEL_IS_POINT:  # coordinates are of pixel centers: shift to the corner
        rows = [(a, b, c - (a + b) / 2) for a, b, c in rows]
    code = keys.get(_PROJECTED, keys.get(_GEOGRAPHIC, 0))
    return Georeference(x=rows[0], y=rows[1], epsg=code if 0 < code < _USER_DEFINED else None)


def _read_affine(tags: Any) -> list[tuple[float, float, float]] | None:
    if len(matrix := tags.valueof(_TRANSFORMATION, ())) == 16:
        return [(matrix[0], matrix[1], matrix[3]), (matrix[4], matrix[5], matrix[7])]
    scale, tie = tags.valueof(_PIXEL_SCALE, ()), tags.valueof(_TIE_POINT, ())
    if len(scale) < 2 or len(tie) != 6 or not all(scale[:2]):
        return None
    column, row, _, x, y, _ = tie
    return [(scale[0], 0.0, x - column * scale[0]), (0.0, -scale[1], y + row * scale[1])]


def _parse_keys(directory: Sequence[int]) -> dict[int, int]:
    """Return the keys whose value is stored in the directory itself; other values are texts and real numbers."""
    entries = [directory[i : i + 4] for i in range(4, len(directory) - 3, 4)]
    return {key: value for key, location, _, value in entries if location == 0}
