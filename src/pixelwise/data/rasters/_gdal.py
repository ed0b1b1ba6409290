"""GDAL, as rasterio brings it."""

import contextlib
import warnings
from collections.abc import Iterator

from pixelwise.errors import missing_extra

CACHE_BYTES = 64 << 20
"""Of decoded blocks that are kept; GDAL's own choice, a share of the machine's memory, can be gigabytes."""


@contextlib.contextmanager
def use_gdal() -> Iterator[None]:
    """GDAL with a small cache, and silent about images that lie on no map.

    InvalidArgumentError where rasterio, which brings it, is not installed.
    """
    try:
        import rasterio
    except ImportError as error:
        raise missing_extra("reading an image by windows", "rasterio", "raster") from error
    with rasterio.Env(GDAL_CACHEMAX=CACHE_BYTES), warnings.catch_warnings():
        warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
        yield


def has_rasterio() -> bool:
    try:
        import rasterio  # noqa: F401
    except ImportError:
        return False
    return True
