"""Rasters: images larger than memory, read window by window. `RASTER_FORMATS` lists the formats.

A window has the same pixels as the part of the whole image would have.
"""

from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from pixelwise.data.classes import Classes
from pixelwise.data.io.decoded_image import Array
from pixelwise.data.io.nodata import Nodata
from pixelwise.data.rasters.ome_zarr import is_zarr, open_zarr
from pixelwise.data.rasters.openslide_reader import SLIDE_EXTENSIONS, open_slide
from pixelwise.data.rasters.rasterio_reader import JPEG_2000_EXTENSIONS, TIFF_EXTENSIONS, open_image_file
from pixelwise.errors import DataError
from pixelwise.shapes import Size

WINDOWED_EXTENSIONS = (*SLIDE_EXTENSIONS, ".zarr")
"""Extensions of images that are only read window by window."""


class Raster(Protocol):
    """An open image that is read window by window. Errors name it."""

    @property
    def path(self) -> Path: ...

    @property
    def size(self) -> Size:
        """Height and width."""

    @property
    def stamp(self) -> Mapping[str, str | int]:
        """Values that differ between images, and between versions of one image."""

    def read(self, rows: slice, columns: slice) -> Array:
        """Read a window as (h, w, C) uint8, uint16 or float32; missing values are filled."""

    def find_missing(self, rows: slice, columns: slice) -> Array | None:
        """Return (h, w) bool of the pixels without data in any channel; None if there are none."""

    def write_labels(self, path: Path, strips: Iterable[Array], classes: Classes) -> None:
        """Write the labels of the image to a new file, in its format and georeferenced as the image is.

        Args:
            path: The new file.
            strips: (h, W) labels from top to bottom; the ignore index for missing pixels.
            classes: Classes with names and colors.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class RasterFormat:
    """A format of images that can be read window by window."""

    can_read: Callable[[Path], bool]
    """Return whether a path has this format."""
    open: Callable[[Path, int, Nodata], AbstractContextManager[Raster]]
    """Open a path for a model with this number of channels, which decides whether an alpha channel is data, and these
    nodata values."""
    label_extension: str
    """Extension of the file of labels."""


def _has_extension(*extensions: str) -> Callable[[Path], bool]:
    return lambda path: path.suffix.lower() in extensions


RASTER_FORMATS = (
    RasterFormat(
        can_read=_has_extension(*TIFF_EXTENSIONS, *JPEG_2000_EXTENSIONS), open=open_image_file, label_extension=".tif"
    ),
    RasterFormat(can_read=_has_extension(*SLIDE_EXTENSIONS), open=open_slide, label_extension=".tif"),
    RasterFormat(can_read=is_zarr, open=open_zarr, label_extension=".zarr"),
)


def find_raster_format(path: Path) -> RasterFormat:
    """Return the format of a path; raise DataError if it cannot be read window by window."""
    for raster_format in RASTER_FORMATS:
        if raster_format.can_read(path):
            return raster_format
    known = ", ".join((*TIFF_EXTENSIONS, *JPEG_2000_EXTENSIONS, *WINDOWED_EXTENSIONS))
    raise DataError(f"{path}: The image cannot be read window by window. Use an image that ends in {known}.")


def is_windowed_only(path: Path) -> bool:
    """Return whether an image is never decoded as a whole."""
    return path.suffix.lower() in WINDOWED_EXTENSIONS or is_zarr(path)
