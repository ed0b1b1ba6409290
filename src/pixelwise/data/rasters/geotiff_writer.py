"""Writing of labels as GeoTIFF, tiled, compressed and in the class colors; GDAL as rasterio includes it."""

import contextlib
import warnings
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from pixelwise.data.classes import Classes
from pixelwise.data.io.decoded_image import Array
from pixelwise.data.rasters.windows import BLOCK, regroup_blocks
from pixelwise.errors import missing_extra
from pixelwise.shapes import Size

CACHE_BYTES = 64 << 20
"""Limit of the cache of decoded blocks; GDAL's default, a share of the memory, can be gigabytes."""


@contextlib.contextmanager
def use_gdal() -> Iterator[None]:
    """Use GDAL with a small cache and without warnings about images that are not georeferenced.

    Raises:
        InvalidArgumentError: rasterio, which includes GDAL, is not installed.
    """
    try:
        import rasterio
    except ImportError as error:
        raise missing_extra("reading an image window by window", "rasterio", "raster") from error
    with rasterio.Env(GDAL_CACHEMAX=CACHE_BYTES), warnings.catch_warnings():
        warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
        yield


def has_rasterio() -> bool:
    """Return whether rasterio is installed."""
    try:
        import rasterio  # noqa: F401
    except ImportError:
        return False
    return True


@dataclass(frozen=True, slots=True, kw_only=True)
class GeotiffWriter:
    """Writes the labels of an image with the metadata of the image."""

    size: Size
    nodata: bool
    """True to declare the ignore index as the value of missing pixels."""
    crs: Any = None
    """rasterio's coordinate reference system."""
    transform: Any = None
    """rasterio's transform; None if the image is not georeferenced."""
    tags: Mapping[str, str] = field(default_factory=dict)
    """Further tags by GDAL's names."""

    def write(self, path: Path, strips: Iterable[Array], classes: Classes) -> None:
        """Write (h, W) labels from top to bottom."""
        import rasterio

        with (
            use_gdal(),
            rasterio.open(
                path,
                "w",
                driver="GTiff",
                height=self.size[0],
                width=self.size[1],
                count=1,
                dtype=np.dtype(classes.dtype).name,
                crs=self.crs,
                nodata=classes.ignore_index if self.nodata else None,
                tiled=True,
                blockxsize=BLOCK,
                blockysize=BLOCK,
                compress="deflate",
                bigtiff="if_safer",
                **({} if self.transform is None else {"transform": self.transform}),
            ) as file,
        ):
            file.update_tags(**self.tags)
            if classes.dtype is np.uint8:
                file.write_colormap(1, {index: (*color, 255) for index, color in enumerate(classes.colors)})
            for top, rows in regroup_blocks(strips):
                file.write(rows, 1, window=((top, top + len(rows)), (0, self.size[1])))
