import sys

import pytest

from pixelwise.data.rasters.geotiff_writer import CACHE_BYTES, has_rasterio, use_gdal
from pixelwise.errors import InvalidArgumentError

pytest.importorskip("rasterio")


def test_missing_rasterio_is_an_error_with_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "rasterio", None)
    assert not has_rasterio()
    with (
        pytest.raises(
            InvalidArgumentError, match=r'rasterio, which is not installed: pip install "pixelwise\[raster\]"'
        ),
        use_gdal(),
    ):
        pass


def test_the_cache_is_small() -> None:
    from rasterio._env import get_gdal_config

    with use_gdal():
        assert get_gdal_config("GDAL_CACHEMAX") == CACHE_BYTES
