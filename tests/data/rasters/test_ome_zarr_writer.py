from pathlib import Path

import numpy as np
import pytest

from pixelwise.data.classes import describe_classes
from pixelwise.data.rasters import ome_zarr_writer as home
from pixelwise.data.rasters import windows as blocks_home
from pixelwise.data.rasters.ome_zarr_metadata import Multiscale, ZarrAxis, is_label_zarr, parse_multiscale
from pixelwise.data.rasters.ome_zarr_writer import write_label_zarr

zarr = pytest.importorskip("zarr")

CLASSES = describe_classes({"names": ["a", "b", "c"]})
AXES = tuple(ZarrAxis(name=name, kind="space", unit="", scale=0.5, translation=3.0) for name in "yx")


@pytest.mark.parametrize(("version", "format"), [("0.4", 2), ("0.5", 3)])
@pytest.mark.parametrize("num_classes", [3, 300])
def test_labels_come_back(version: str, format: int, num_classes: int, tmp_path: Path) -> None:
    classes = describe_classes({"names": [str(index) for index in range(num_classes)]})
    labels = np.random.default_rng(0).integers(0, num_classes, (40, 30)).astype(classes.dtype)
    image = Multiscale(version=version, axes=AXES, levels=("a", "b"))
    write_label_zarr(tmp_path / "x.zarr", np.split(labels, [7, 20]), (40, 30), classes, image)
    group = zarr.open_group(tmp_path / "x.zarr", mode="r")
    assert group.metadata.zarr_format == format
    found = parse_multiscale(group.attrs)
    assert found is not None
    assert (found.version, found.levels, found.axes) == (version, ("0", "1"), AXES)
    assert is_label_zarr(tmp_path / "x.zarr")
    array = group["0"]
    assert array.dtype == classes.dtype
    np.testing.assert_array_equal(array[...], labels)
    assert (tmp_path / "x.zarr" / ("0/0/0" if format == 2 else "0/c/0/0")).exists()
    assert array.metadata.to_dict().get("dimension_names") == (("y", "x") if format == 3 else None)


def test_each_level_holds_every_second_pixel_of_the_one_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (home, blocks_home):
        monkeypatch.setattr(module, "BLOCK", 8)
    labels = np.random.default_rng(0).integers(0, 3, (45, 21), np.uint8)
    image = Multiscale(version="0.5", axes=AXES, levels=("a", "b", "c"))
    write_label_zarr(tmp_path / "x.zarr", np.split(labels, [7, 20]), (45, 21), CLASSES, image)
    group = zarr.open_group(tmp_path / "x.zarr", mode="r")
    assert group["0"].chunks == (8, 8)
    for level in range(3):
        np.testing.assert_array_equal(group[str(level)][...], labels[:: 2**level, :: 2**level])
