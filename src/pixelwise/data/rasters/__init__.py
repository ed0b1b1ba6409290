"""Images larger than memory, read window by window: one short file a kind, one line each in `RASTER_FORMATS`.

A window holds what reading the whole image would give there.
"""

from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from pixelwise.data.classes import Classes
from pixelwise.data.io.decoded_image import Array
from pixelwise.data.rasters.ome_zarr_reader import is_zarr, open_zarr
from pixelwise.data.rasters.openslide_reader import SLIDES, open_slide
from pixelwise.data.rasters.rasterio_reader import JPEG_2000, TIFF, open_image_file
from pixelwise.errors import DataError
from pixelwise.shapes import Size

WINDOWED_EXTENSIONS = (*JPEG_2000, *SLIDES, ".zarr")
"""Of what is read by windows alone."""


class Raster(Protocol):
    """An open image. Errors name it."""

    @property
    def path(self) -> Path: ...

    @property
    def size(self) -> Size:
        """Height and width."""

    @property
    def stamp(self) -> Mapping[str, str | int]:
        """What tells the image from another one, or from itself before it was changed."""

    def read(self, rows: slice, columns: slice) -> Array:
        """(h, w, C) uint8, uint16 or float32, with something in place of what is missing."""

    def find_missing(self, rows: slice, columns: slice) -> Array | None:
        """(h, w) bool: the pixels of which no channel is there; None where there are none."""

    def write_labels(self, path: Path, strips: Iterable[Array], classes: Classes) -> None:
        """Writes the labels of the image where nothing is yet, in the form that suits it, in the same place.

        Args:
            strips: (h, W) labels, from the top; the ignore index where no pixel is.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class RasterFormat:
    """A kind of image that can be read by windows."""

    can_read: Callable[[Path], bool]
    """Whether a path is one."""
    open: Callable[[Path, int], AbstractContextManager[Raster]]
    """Takes the path and the channels of the model, which decide whether an alpha channel is data."""
    label_extension: str
    """How the file of its labels ends."""


def _ends(*endings: str) -> Callable[[Path], bool]:
    return lambda path: path.suffix.lower() in endings


RASTER_FORMATS = (
    RasterFormat(can_read=_ends(*TIFF, *JPEG_2000), open=open_image_file, label_extension=".tif"),
    RasterFormat(can_read=_ends(*SLIDES), open=open_slide, label_extension=".tif"),
    RasterFormat(can_read=is_zarr, open=open_zarr, label_extension=".zarr"),
)


def find_raster_format(path: Path) -> RasterFormat:
    """DataError for what cannot be read by windows."""
    for kind in RASTER_FORMATS:
        if kind.can_read(path):
            return kind
    known = ", ".join((*TIFF, *WINDOWED_EXTENSIONS))
    raise DataError(f"{path}: is nothing that is read by windows; give an image that ends in {known}.")


def is_windowed_only(path: Path) -> bool:
    """Whether an image is never decoded as a whole."""
    return path.suffix.lower() in WINDOWED_EXTENSIONS or is_zarr(path)
