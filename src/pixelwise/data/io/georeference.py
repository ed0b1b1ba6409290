"""Where the pixels of a GeoTIFF lie on the map: the tags of scale, tie point and transformation, and the EPSG code."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO

import tifffile

from pixelwise.data.io.decoded import ORIENTATION
from pixelwise.data.io.tiff import MAGIC

_PIXEL_SCALE, _TIE_POINT, _TRANSFORMATION, _KEYS = 33550, 33922, 34264, 34735
_RASTER_TYPE, _GEOGRAPHIC, _PROJECTED = 1025, 2048, 3072
_PIXEL_IS_POINT = 2
_USER_DEFINED = 32767
"""Codes from here on are none of EPSG's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Georeference:
    """An affine map from the image to the map."""

    x: tuple[float, float, float]
    """a, b, c: a corner of a pixel at column u and row v lies at a u + b v + c."""
    y: tuple[float, float, float]
    epsg: int | None
    """Code of the coordinate reference system; None where the file names none."""

    def place(self, column: float, row: float) -> tuple[float, float]:
        """Map coordinates of a place in the image, (0, 0) being the outer corner of its first pixel."""
        x, y = (a * column + b * row + c for a, b, c in (self.x, self.y))
        return x, y

    @property
    def pixel_area(self) -> float:
        """In squares of the map's unit: square meters, or square degrees."""
        return abs(self.x[0] * self.y[1] - self.x[1] * self.y[0])


def read_georeference(file: BinaryIO) -> Georeference | None:
    """Of an image file that can be decoded, open at its start; None of all but an upright GeoTIFF.

    Ground control points, several tie points without a scale, are no affine map: None as well.
    """
    if file.read(4) not in MAGIC:
        return None
    file.seek(0)
    with tifffile.TiffFile(file) as tiff:
        tags = tiff.pages.first.tags
        if tags.valueof(ORIENTATION, 1) != 1:
            return None
        rows = _affine(tags)
        keys = _keys(tags.valueof(_KEYS, ()))
    if rows is None:
        return None
    if keys.get(_RASTER_TYPE) == _PIXEL_IS_POINT:  # numbers are of centers; a corner is half a pixel before
        rows = [(a, b, c - (a + b) / 2) for a, b, c in rows]
    code = keys.get(_PROJECTED, keys.get(_GEOGRAPHIC, 0))
    return Georeference(x=rows[0], y=rows[1], epsg=code if 0 < code < _USER_DEFINED else None)


def _affine(tags: Any) -> list[tuple[float, float, float]] | None:
    if len(matrix := tags.valueof(_TRANSFORMATION, ())) == 16:
        return [(matrix[0], matrix[1], matrix[3]), (matrix[4], matrix[5], matrix[7])]
    scale, tie = tags.valueof(_PIXEL_SCALE, ()), tags.valueof(_TIE_POINT, ())
    if len(scale) < 2 or len(tie) != 6 or not all(scale[:2]):
        return None
    column, row, _, x, y, _ = tie
    return [(scale[0], 0.0, x - column * scale[0]), (0.0, -scale[1], y + row * scale[1])]


def _keys(directory: Sequence[int]) -> dict[int, int]:
    """Keys whose value lies in the directory itself; others are texts and real numbers."""
    entries = [directory[i : i + 4] for i in range(4, len(directory) - 3, 4)]
    return {key: value for key, place, _, value in entries if place == 0}
