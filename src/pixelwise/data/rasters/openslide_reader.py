"""Reading of whole-slide images window by window with openslide, at level 0, the finest."""

import contextlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pixelwise.data.classes import Classes
from pixelwise.data.io.decoded_image import Array
from pixelwise.data.io.nodata import ALL_DATA, Nodata
from pixelwise.data.rasters.rasterio_reader import CACHE_BYTES, use_gdal, write_geotiff
from pixelwise.data.rasters.windows import convert_window_errors
from pixelwise.errors import DataError, missing_extra
from pixelwise.files import wrap_access_errors
from pixelwise.shapes import Size

SLIDE_EXTENSIONS = (".svs", ".ndpi", ".scn", ".mrxs", ".vms", ".vmu", ".bif", ".svslide")
"""Extensions of files that only openslide reads; plain pyramids in a TIFF are read with GDAL."""

_WHITE = "FFFFFF"


@dataclass(frozen=True, slots=True, kw_only=True)
class SlideRaster:
    """An open slide. Areas that were not scanned show its background, as in viewers and exported patches."""

    path: Path
    slide: Any
    """openslide's slide."""

    @property
    def size(self) -> Size:
        width, height = self.slide.dimensions
        return height, width

    @property
    def stamp(self) -> Mapping[str, str | int]:
        status = self.path.stat()  # for some formats a small file next to a folder of pixels; the hash covers those
        quick_hash = self.slide.properties.get("openslide.quickhash-1", "")
        return {"bytes": status.st_size, "changed": status.st_mtime_ns, "hash": quick_hash}

    def read(self, rows: slice, columns: slice) -> Array:
        """Read a window as (h, w, 3) uint8 over the background color."""
        stored = self._read_rgba(rows, columns)
        colors, alpha = stored[..., :3], stored[..., 3:]
        if alpha.min() == 255:
            return np.ascontiguousarray(colors)
        color = self.slide.properties.get("openslide.background-color", _WHITE)
        background = np.frombuffer(bytes.fromhex(color), np.uint8).astype(np.uint16)
        weights = alpha.astype(np.uint16)
        return ((colors * weights + background * (255 - weights) + 127) // 255).astype(np.uint8)

    def find_missing(self, rows: slice, columns: slice) -> Array | None:
        """Return (h, w) bool of the pixels that were not scanned; None if there are none."""
        missing: Array = self._read_rgba(rows, columns)[..., 3] == 0  # mostly cached, since `read` was called before
        return missing if missing.any() else None

    def write_labels(self, path: Path, strips: Iterable[Array], classes: Classes) -> None:
        """Write a GeoTIFF without a georeference, with the pixel size if the slide has it."""
        tags = _make_resolution_tags(self.slide.properties)
        write_geotiff(path, strips, classes, size=self.size, has_nodata=True, tags=tags)

    def _read_rgba(self, rows: slice, columns: slice) -> Array:
        from openslide import OpenSlideError

        size = (columns.stop - columns.start, rows.stop - rows.start)
        with convert_window_errors(self.path, rows, columns, OpenSlideError):
            return np.asarray(self.slide.read_region((columns.start, rows.start), 0, size))


@contextlib.contextmanager
def open_slide(path: Path, channels: int, nodata: Nodata = ALL_DATA) -> Iterator[SlideRaster]:
    """Open a slide. It knows which pixels were not scanned, and needs neither channels nor nodata values.

    Raises:
        InvalidArgumentError: openslide is not installed, or rasterio, which writes the labels.
        PathNotFoundError, PathAccessError: The file does not exist or is not readable.
        DataError: The file is not a slide.
    """
    try:
        import openslide
    except (ImportError, OSError) as error:  # OSError: its library is installed but cannot be loaded
        raise missing_extra("a whole slide", "openslide", "slides") from error
    with use_gdal():  # checked now: without it, the labels could not be written at the end
        try:
            with wrap_access_errors(path), path.open("rb"):
                slide = openslide.OpenSlide(path)
        except openslide.OpenSlideError as error:
            raise DataError(f"{path}: The file cannot be read as a whole slide. Replace or remove it.") from error
        with slide:
            slide.set_cache(openslide.OpenSlideCache(CACHE_BYTES))
            yield SlideRaster(path=path, slide=slide)


def _make_resolution_tags(properties: Mapping[str, str]) -> dict[str, str]:
    """Convert micrometers per pixel to the TIFF tags of pixels per centimeter."""
    steps = {name: float(properties.get(f"openslide.mpp-{name.lower()}", 0)) for name in "XY"}
    if not all(steps.values()):
        return {}
    return {"TIFFTAG_RESOLUTIONUNIT": "3"} | {f"TIFFTAG_{n}RESOLUTION": f"{1e4 / step}" for n, step in steps.items()}
