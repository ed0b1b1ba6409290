from pathlib import Path

import pytest

from pixelwise.data.rasters import RASTER_FORMATS, find_raster_format, is_windowed_only
from pixelwise.errors import DataError


@pytest.mark.parametrize(
    ("name", "extension"),
    [("x.TIF", ".tif"), ("x.jp2", ".tif"), ("x.svs", ".tif"), ("x.NDPI", ".tif"), ("x.ome.zarr", ".zarr")],
)
def test_a_path_has_one_format(name: str, extension: str) -> None:
    assert find_raster_format(Path(name)).label_extension == extension
    assert sum(raster_format.can_read(Path(name)) for raster_format in RASTER_FORMATS) == 1
    assert is_windowed_only(Path(name)) is not name.endswith(("TIF", "jp2"))


def test_a_folder_with_zarr_metadata_is_a_zarr(tmp_path: Path) -> None:
    assert not is_windowed_only(tmp_path)
    (tmp_path / ".zgroup").touch()
    assert is_windowed_only(tmp_path)
    assert find_raster_format(tmp_path).label_extension == ".zarr"


def test_a_format_without_windows_is_an_error() -> None:
    with pytest.raises(
        DataError, match=r"x\.png: The image cannot be read window by window. Use an image that ends in \.tif"
    ):
        find_raster_format(Path("x.png"))
