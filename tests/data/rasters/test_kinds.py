from pathlib import Path

import pytest

from pixelwise.data.rasters import KINDS, kind_of, only_by_windows
from pixelwise.errors import DataError


@pytest.mark.parametrize(
    ("name", "labels"),
    [("x.TIF", ".tif"), ("x.jp2", ".tif"), ("x.svs", ".tif"), ("x.NDPI", ".tif"), ("x.ome.zarr", ".zarr")],
)
def test_a_path_is_of_one_kind(name: str, labels: str) -> None:
    assert kind_of(Path(name)).labels == labels
    assert sum(kind.holds(Path(name)) for kind in KINDS) == 1
    assert only_by_windows(Path(name)) is not name.endswith("TIF")


def test_a_folder_is_a_zarr_by_what_it_holds(tmp_path: Path) -> None:
    assert not only_by_windows(tmp_path)
    (tmp_path / ".zgroup").touch()
    assert only_by_windows(tmp_path)
    assert kind_of(tmp_path).labels == ".zarr"


def test_what_has_no_windows_is_an_error() -> None:
    with pytest.raises(
        DataError, match=r"x\.png: is nothing that is read by windows; give an image that ends in \.tif"
    ):
        kind_of(Path("x.png"))
