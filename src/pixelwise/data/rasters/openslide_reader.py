"""Whole slides, as microscopes' scanners write them: level 0, the finest, by openslide."""

import contextlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pixelwise.data.classes import Classes
from pixelwise.data.io.decoded_image import Array
from pixelwise.data.rasters._gdal import CACHE_BYTES, use_gdal
from pixelwise.data.rasters.geotiff_writer import Geotiff
from pixelwise.data.rasters.windows import decoding
from pixelwise.errors import DataError, missing_extra
from pixelwise.shapes import Size

SLIDES = (".svs", ".ndpi", ".scn", ".mrxs", ".vms", ".vmu", ".bif", ".svslide")
"""Files of which openslide alone knows the inside; plain pyramids in a TIFF are GDAL's."""

_WHITE = "FFFFFF"


@dataclass(frozen=True, slots=True, kw_only=True)
class SlideRaster:
    """An open slide. Where nothing was scanned it shows its background, as viewers and exports of patches do."""

    path: Path
    slide: Any
    """openslide's."""

    @property
    def size(self) -> Size:
        width, height = self.slide.dimensions
        return height, width

    @property
    def stamp(self) -> Mapping[str, str | int]:
        found = self.path.stat()  # of some kinds a small file beside a folder of pixels, told apart by the hash
        hashed = self.slide.properties.get("openslide.quickhash-1", "")
        return {"bytes": found.st_size, "changed": found.st_mtime_ns, "hash": hashed}

    def read(self, rows: slice, columns: slice) -> Array:
        """(h, w, 3) uint8 over the background color."""
        stored = self._stored(rows, columns)
        colors, alpha = stored[..., :3], stored[..., 3:]
        if alpha.min() == 255:
            return np.ascontiguousarray(colors)
        weights = alpha.astype(np.uint16)
        blended = colors * weights + self._background * (255 - weights)
        return ((blended + 127) // 255).astype(np.uint8)

    def find_missing(self, rows: slice, columns: slice) -> Array | None:
        """(h, w) bool: where nothing was scanned; None where all was."""
        absent: Array = self._stored(rows, columns)[..., 3] == 0  # mostly from the cache: `read` was here before
        return absent if absent.any() else None

    def write_labels(self, path: Path, strips: Iterable[Array], classes: Classes) -> None:
        """A GeoTIFF that lies on no map, with the size of the pixels where the slide tells it."""
        Geotiff(size=self.size, nodata=True, tags=_resolution(self.slide.properties)).write(path, strips, classes)

    @property
    def _background(self) -> Array:
        color = self.slide.properties.get("openslide.background-color", _WHITE)
        return np.frombuffer(bytes.fromhex(color), np.uint8).astype(np.uint16)

    def _stored(self, rows: slice, columns: slice) -> Array:
        """(h, w, 4) uint8."""
        from openslide import OpenSlideError

        size = (columns.stop - columns.start, rows.stop - rows.start)
        with decoding(self.path, rows, columns, OpenSlideError):
            return np.asarray(self.slide.read_region((columns.start, rows.start), 0, size))


@contextlib.contextmanager
def open_slide(path: Path, channels: int) -> Iterator[SlideRaster]:
    """Opens a slide for reading by windows.

    Raises:
        InvalidArgumentError: openslide is not installed, or rasterio, which writes the labels.
        DataError: the file cannot be read.
    """
    try:
        import openslide
    except (ImportError, OSError) as error:  # OSError: its library is there and cannot be loaded
        raise missing_extra("a whole slide", "openslide", "slides") from error
    with use_gdal():  # or the labels could not be written when all is done
        try:
            slide = openslide.OpenSlide(path)
        except (openslide.OpenSlideError, OSError) as error:
            reason = str(error) or "openslide does not know the format"
            raise DataError(f"{path}: cannot be read as a whole slide ({reason}); replace or remove it.") from error
        with slide:
            slide.set_cache(openslide.OpenSlideCache(CACHE_BYTES))
            yield SlideRaster(path=path, slide=slide)


def _resolution(properties: Mapping[str, str]) -> dict[str, str]:
    """Tags of a TIFF: pixels a centimeter, from micrometers a pixel."""
    steps = {name: float(properties.get(f"openslide.mpp-{name.lower()}", 0)) for name in "XY"}
    if not all(steps.values()):
        return {}
    return {"TIFFTAG_RESOLUTIONUNIT": "3"} | {f"TIFFTAG_{n}RESOLUTION": f"{1e4 / step}" for n, step in steps.items()}
