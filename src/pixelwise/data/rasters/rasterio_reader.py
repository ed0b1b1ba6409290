"""TIFF and JPEG 2000 read window by window, and labels written as GeoTIFF, with rasterio and the GDAL that it includes.

Reading follows the rules of `io.images.read_image`.
"""

import contextlib
import warnings
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import tifffile

from pixelwise.data.classes import Classes
from pixelwise.data.io.decoded_image import (
    MAX_PIXELS,
    ORIENTATION,
    Array,
    ChannelMeans,
    DecodedImage,
    convert_dtype,
)
from pixelwise.data.io.nodata import ALL_DATA, Nodata
from pixelwise.data.rasters.windows import BLOCK, FilledWindows, convert_window_errors, regroup_blocks
from pixelwise.errors import DataError, explain_missing_extra
from pixelwise.files import wrap_access_errors
from pixelwise.shapes import Size

JPEG_2000_EXTENSIONS = (".jp2", ".j2k")
TIFF_EXTENSIONS = (".tif", ".tiff")

WINDOWED_PIXELS = 64 << 20
"""Larger TIFFs are read window by window, if that can give the requested outputs."""
CACHE_BYTES = 64 << 20
"""Limit of the cache of decoded blocks; GDAL's default, a share of the memory, can be gigabytes."""


@contextlib.contextmanager
def use_gdal() -> Iterator[None]:
    """Use GDAL with a small cache and without warnings about images that are not georeferenced.

    Raises:
        InvalidArgumentError: rasterio, which includes GDAL, is not installed.
    """
    with explain_missing_extra("reading an image window by window", "rasterio", "raster"):
        import rasterio
    with rasterio.Env(GDAL_CACHEMAX=CACHE_BYTES), warnings.catch_warnings():
        warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
        yield


def has_rasterio() -> bool:
    """Return whether rasterio is installed."""
    return find_spec("rasterio") is not None


def write_geotiff(
    path: Path,
    strips: Iterable[Array],
    classes: Classes,
    *,
    size: Size,
    has_nodata: bool,
    tags: Mapping[str, str] | None = None,
    **georeference: Any,
) -> None:
    """Write (h, W) labels from top to bottom, tiled, compressed and in the class colors.

    Args:
        path: The new file.
        strips: The labels.
        classes: Classes with names and colors.
        size: Height and width of all labels together.
        has_nodata: True to declare the ignore index as the value of missing pixels.
        tags: Further tags by GDAL's names.
        georeference: rasterio's `crs` and `transform` or `gcps`, where the image has them.
    """
    import rasterio

    with (
        use_gdal(),
        rasterio.open(
            path,
            "w",
            driver="GTiff",
            height=size[0],
            width=size[1],
            count=1,
            dtype=np.dtype(classes.dtype).name,
            nodata=classes.ignore_index if has_nodata else None,
            tiled=True,
            blockxsize=BLOCK,
            blockysize=BLOCK,
            compress="deflate",
            bigtiff="if_safer",
            **georeference,
        ) as file,
    ):
        file.update_tags(**(tags or {}))
        if classes.dtype is np.uint8:
            file.write_colormap(1, {index: (*color, 255) for index, color in enumerate(classes.colors)})
        for top, rows in regroup_blocks(strips):
            file.write(rows, 1, window=((top, top + len(rows)), (0, size[1])))


@dataclass(frozen=True, slots=True, kw_only=True)
class RasterioRaster(FilledWindows):
    """An open image file."""

    dataset: Any
    """rasterio's dataset."""
    alpha: bool
    """True if the file declares the last band as alpha."""
    has_mask: bool
    """True if the file has a mask of the pixels with data."""

    @property
    def size(self) -> Size:
        return self.dataset.height, self.dataset.width

    @property
    def stamp(self) -> Mapping[str, str | int]:
        status = self.path.stat()
        return {"bytes": status.st_size, "changed": status.st_mtime_ns}

    @property
    def may_miss_pixels(self) -> bool:
        """Return whether pixels without data can occur."""
        return bool(self.has_mask or self.dataset.nodata is not None or self.nodata)

    def decode(self, rows: slice, columns: slice) -> DecodedImage:
        from rasterio.errors import RasterioError

        window = ((rows.start, rows.stop), (columns.start, columns.stop))
        with convert_window_errors(self.path, rows, columns, RasterioError):
            pixels = self.dataset.read(window=window).transpose(1, 2, 0)
            return DecodedImage(
                pixels=convert_dtype(np.ascontiguousarray(pixels)),
                alpha=self.alpha,
                nodata=ALL_DATA if self.dataset.nodata is None else Nodata(values=(self.dataset.nodata,)),
                masked=self.dataset.read_masks(1, window=window)[..., None] == 0 if self.has_mask else None,
            )

    def write_labels(self, path: Path, strips: Iterable[Array], classes: Classes) -> None:
        """Write a GeoTIFF with the image's CRS, its place and, if pixels may be missing, a nodata value."""
        dataset = self.dataset
        georeference = {"crs": dataset.crs}
        points, points_crs = dataset.gcps
        if points:
            georeference = {"crs": points_crs, "gcps": points}
        elif not dataset.transform.is_identity:
            georeference["transform"] = dataset.transform
        write_geotiff(path, strips, classes, size=self.size, has_nodata=self.may_miss_pixels, **georeference)


@contextlib.contextmanager
def open_image_file(path: Path, channels: int, nodata: Nodata = ALL_DATA) -> Iterator[RasterioRaster]:
    """Open an image file, and scan it once if pixels may be missing or alpha is dropped.

    Args:
        path: The image file.
        channels: Channels of the model; decides whether an alpha channel is data.
        nodata: Values of missing data, in addition to those that the file declares.

    Raises:
        InvalidArgumentError: rasterio is not installed.
        PathNotFoundError, PathAccessError: The file does not exist or is not readable.
        DataError: The file is damaged, or stores pixels in a form that windows cannot convert.
    """
    with use_gdal():
        import rasterio

        _require_plain(path)
        try:
            dataset = rasterio.open(path)
        except rasterio.errors.RasterioError as error:
            raise DataError(f"{path}: The image cannot be read window by window. Replace or remove it.") from error
        with dataset:
            flags = rasterio.enums.MaskFlags
            raster = RasterioRaster(
                path=path,
                channels=channels,
                nodata=nodata,
                means=ChannelMeans(),
                dataset=dataset,
                alpha=dataset.colorinterp[-1] == rasterio.enums.ColorInterp.alpha,
                has_mask=flags.per_dataset in dataset.mask_flag_enums[0]
                and flags.alpha not in dataset.mask_flag_enums[0],
            )
            if raster.may_miss_pixels or (raster.alpha and dataset.count != channels):
                raster.scan()
            yield raster


def count_tiff_pixels(path: Path) -> int:
    """Count the pixels of a TIFF by its header; 0 for a damaged one, which decoding reports."""
    try:
        with tifffile.TiffFile(path) as file:
            page = file.pages.first
            return int(page.imagelength) * int(page.imagewidth)
    except Exception:  # tifffile raises errors of any type on damaged files
        return 0


def needs_windows(path: Path, can_use_windows: bool) -> bool:
    """Return whether a file that can also be decoded as a whole is predicted window by window.

    Windows keep the position on the map of a JPEG 2000.

    Args:
        can_use_windows: whether windows can give the requested outputs. If not, a TIFF is read window by window only if
            it could not be decoded as a whole, and then it fails.
    """
    suffix, can_use_windows = path.suffix.lower(), can_use_windows and has_rasterio()
    pixels = count_tiff_pixels(path) if suffix in TIFF_EXTENSIONS else 0
    is_preferred = suffix in JPEG_2000_EXTENSIONS or pixels > WINDOWED_PIXELS
    return pixels > MAX_PIXELS or (is_preferred and can_use_windows)


def _require_plain(path: Path) -> None:
    """Raise DataError for a TIFF that GDAL reads as stored, but `decode_tiff` converts for display."""
    if path.suffix.lower() not in TIFF_EXTENSIONS:
        return
    try:
        with wrap_access_errors(path), tifffile.TiffFile(path) as file:
            reason = _find_conversion(file.pages.first)
    except tifffile.TiffFileError as error:
        raise DataError(f"{path}: The image cannot be read window by window. Replace or remove it.") from error
    if reason:
        raise DataError(f"{path}: {reason}, which windows do not support. Save it as plain gray or color.")


def _find_conversion(page: tifffile.TiffPage) -> str:
    """Return why a page needs a conversion for display; an empty string if it does not."""
    if page.tags.valueof(ORIENTATION, 1) != 1:
        return "it is stored rotated or mirrored"
    if page.photometric == tifffile.PHOTOMETRIC.PALETTE:
        return "it is stored with a palette"
    if page.photometric == tifffile.PHOTOMETRIC.MINISWHITE:
        return "it is stored with 0 for white"
    return f"it is stored in {page.bitspersample} bit" if page.bitspersample < 8 else ""
