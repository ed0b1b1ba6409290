"""TIFF of every kind and JPEG 2000, by rasterio.

A window holds what `images.read_image` would give there: the same rules on types, alpha and missing data.
"""

import contextlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tifffile

from pixelwise.data.classes import Classes
from pixelwise.data.io.decoded_image import ORIENTATION, Array, ChannelMeans, convert_dtype, find_missing
from pixelwise.data.rasters._gdal import use_gdal
from pixelwise.data.rasters.geotiff_writer import Geotiff
from pixelwise.data.rasters.windows import decoding
from pixelwise.errors import DataError
from pixelwise.shapes import Size

JPEG_2000 = (".jp2", ".j2k")
TIFF = (".tif", ".tiff")

_SURVEYED = 1024
"""Side of the windows in which a whole image is looked through."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RasterioRaster:
    """An open image file. Errors name it."""

    path: Path
    dataset: Any
    """rasterio's."""
    bands: tuple[int, ...]
    """Those that are channels, counted from 1."""
    nodata: float | None
    """The value that stands for missing data; NaN is one."""
    means: ChannelMeans
    """Of the whole image, once it is surveyed."""

    @property
    def size(self) -> Size:
        """Height and width."""
        return self.dataset.height, self.dataset.width

    @property
    def stamp(self) -> Mapping[str, str | int]:
        """What tells the file from another one."""
        found = self.path.stat()
        return {"bytes": found.st_size, "changed": found.st_mtime_ns}

    def read(self, rows: slice, columns: slice) -> Array:
        """(h, w, C) uint8, uint16 or float32; missing values are the mean of their channel in the image."""
        pixels = self._stored(self.bands, rows, columns)
        missing = find_missing(pixels, self.nodata)
        return pixels if missing is None else self.means.fill(pixels, missing)

    def find_missing(self, rows: slice, columns: slice) -> Array | None:
        """(h, w) bool: the pixels of which no channel is there; None where there are none."""
        if self.nodata is None:
            return None
        values = find_missing(self._stored(self.bands, rows, columns), self.nodata)
        if values is None:
            return None
        missing: Array = np.all(values, axis=2)
        return missing

    def write_labels(self, path: Path, strips: Iterable[Array], classes: Classes) -> None:
        """A GeoTIFF with the image's CRS, transform and, where it declares one, a nodata value."""
        transform = None if self.dataset.transform.is_identity else self.dataset.transform
        geotiff = Geotiff(size=self.size, nodata=self.nodata is not None, crs=self.dataset.crs, transform=transform)
        geotiff.write(path, strips, classes)

    def survey(self) -> None:
        """Reads all for what the whole image alone can tell: the means, and whether a left-out alpha is constant."""
        alpha = self.dataset.count if len(self.bands) < self.dataset.count else None
        if self.nodata is None and alpha is None:
            return
        first = None
        for rows, columns in _windows(self.size):
            if self.nodata is not None:
                pixels = self._stored(self.bands, rows, columns)
                self.means.add(pixels, find_missing(pixels, self.nodata))
            if alpha is not None:
                values = self._stored((alpha,), rows, columns)
                first = values[0, 0, 0] if first is None else first
                if (values != first).any():
                    raise DataError(
                        f"{self.path}: the alpha channel varies, so it may carry data; train on {alpha} channels to "
                        f"use it, or save without alpha (with a nodata value where nothing is there)."
                    )

    def _stored(self, bands: tuple[int, ...], rows: slice, columns: slice) -> Array:
        from rasterio.errors import RasterioError

        window = ((rows.start, rows.stop), (columns.start, columns.stop))
        with decoding(self.path, rows, columns, RasterioError):
            pixels = self.dataset.read(list(bands), window=window)
            return convert_dtype(np.ascontiguousarray(pixels.transpose(1, 2, 0)))


@contextlib.contextmanager
def open_image_file(path: Path, channels: int) -> Iterator[RasterioRaster]:
    """Opens an image file for reading by windows, after one look through it where its rules ask for that.

    Args:
        channels: of the model; decides whether an alpha channel is data.

    Raises:
        InvalidArgumentError: rasterio is not installed.
        DataError: the file cannot be read, or stores pixels in a way that windows do not undo.
    """
    with use_gdal():
        import rasterio
        from rasterio.errors import RasterioError

        _require_plain(path)
        try:
            dataset = rasterio.open(path)
        except RasterioError as error:
            raise DataError(f"{path}: cannot be read by windows ({error}); replace or remove it.") from error
        with dataset:
            alpha = dataset.colorinterp[-1] == rasterio.enums.ColorInterp.alpha and dataset.count != channels
            bands = tuple(range(1, dataset.count + (0 if alpha else 1)))
            means = ChannelMeans(len(bands))
            raster = RasterioRaster(path=path, dataset=dataset, bands=bands, nodata=dataset.nodata, means=means)
            raster.survey()
            yield raster


def count_tiff_pixels(path: Path) -> int:
    """Of a TIFF, by its header; 0 where it has none that can be read: decoding will say why."""
    try:
        with tifffile.TiffFile(path) as file:
            page = file.pages.first
            return int(page.imagelength) * int(page.imagewidth)
    except Exception:  # tifffile raises whatever the broken bytes lead it to
        return 0


def _require_plain(path: Path) -> None:
    """DataError for what GDAL gives as stored, but `tiff.decode_tiff` gives as shown."""
    if path.suffix.lower() not in TIFF:
        return
    try:
        with tifffile.TiffFile(path) as file:
            odd = _oddity(file.pages.first)
    except (OSError, tifffile.TiffFileError) as error:
        raise DataError(f"{path}: cannot be read by windows ({error}); replace or remove it.") from error
    if odd:
        raise DataError(f"{path}: {odd}, which is not undone window by window; save it as plain gray or color.")


def _oddity(page: tifffile.TiffPage) -> str:
    if page.tags.valueof(ORIENTATION, 1) != 1:
        return "it is stored turned or mirrored"
    if page.photometric == tifffile.PHOTOMETRIC.PALETTE:
        return "it is stored with a palette"
    if page.photometric == tifffile.PHOTOMETRIC.MINISWHITE:
        return "it is stored with 0 for white"
    return f"it is stored in {page.bitspersample} bit" if page.bitspersample < 8 else ""


def _windows(size: Size) -> Iterator[tuple[slice, slice]]:
    for top in range(0, size[0], _SURVEYED):
        for left in range(0, size[1], _SURVEYED):
            yield slice(top, min(top + _SURVEYED, size[0])), slice(left, min(left + _SURVEYED, size[1]))
