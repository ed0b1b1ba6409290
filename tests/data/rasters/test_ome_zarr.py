import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from pixelwise.data.description import describe_classes, parse_description
from pixelwise.data.rasters import ome_zarr, windows
from pixelwise.data.rasters.ome_zarr import (
    Multiscale,
    ZarrAxis,
    is_zarr,
    open_zarr,
    parse_multiscale,
    write_label_zarr,
)
from pixelwise.errors import DataError, InvalidArgumentError
from support.rasters import TILE, write_zarr

zarr = pytest.importorskip("zarr")

Array = npt.NDArray[Any]
ALL = (slice(0, 70), slice(0, 50))
WINDOW = (slice(20, 66), slice(5, 40))


def pixels(channels: int = 3, dtype: str = "uint8") -> Array:
    return np.random.default_rng(0).integers(1, 200, (70, 50, channels)).astype(dtype)


def read(path: Path, window: tuple[slice, slice] = ALL) -> Array:
    with open_zarr(path, 3) as image:
        assert image.size == (70, 50)
        assert image.find_missing(*window) is None
        return image.read(*window)


@pytest.mark.parametrize("version", ["0.4", "0.5"])
@pytest.mark.parametrize("axes", ["cyx", "tczyx", "yx", "yxc", "zcxy"])
def test_a_window_is_part_of_the_image(axes: str, version: str, tmp_path: Path) -> None:
    image = pixels(3 if "c" in axes else 1)
    path = write_zarr(tmp_path / "x.zarr", image, axes, version=version, levels=2)
    np.testing.assert_array_equal(read(path), image)
    found = read(path, WINDOW)
    np.testing.assert_array_equal(found, image[WINDOW])
    assert found.flags.c_contiguous


@pytest.mark.parametrize(
    ("dtype", "given"),
    [("uint8", "uint8"), ("uint16", "uint16"), (">u2", "uint16"), ("float32", "float32"), ("int32", "float32")],
)
def test_pixel_types_are_as_for_whole_images(dtype: str, given: str, tmp_path: Path) -> None:
    image = pixels(dtype=dtype) * np.ones((), dtype)
    found = read(write_zarr(tmp_path / "x.zarr", image, version="0.4", dtype=dtype))
    assert found.dtype == np.dtype(given)
    assert found.dtype.isnative
    np.testing.assert_array_equal(found, image)


def test_an_unsupported_pixel_type_is_an_error(tmp_path: Path) -> None:
    path = write_zarr(tmp_path / "x.zarr", pixels() > 99)
    with pytest.raises(DataError, match=r"x\.zarr: Pixels are bool. Save the image with 8 or 16 bits"):
        read(path)


def test_only_chunks_of_the_window_are_read(tmp_path: Path) -> None:
    path = write_zarr(tmp_path / "x.zarr", pixels(1), "yx")
    for chunk in (path / "s0" / "c").rglob("*"):
        if chunk.is_file() and chunk.relative_to(path / "s0" / "c").parts != ("0", "0"):
            chunk.write_bytes(b"broken")
    corner = (slice(0, TILE), slice(0, TILE))
    np.testing.assert_array_equal(read(path, corner), pixels(1)[corner])
    with pytest.raises(
        DataError, match=r"x\.zarr: The image cannot be decoded in rows 0 to 33, columns 0 to 32. Replace"
    ):
        read(path, (slice(0, TILE + 1), slice(0, TILE)))


def test_a_changed_chunk_changes_the_stamp(tmp_path: Path) -> None:
    path = write_zarr(tmp_path / "x.zarr", pixels())
    with open_zarr(path, 3) as image:
        before = image.stamp
        assert image.stamp == before
        image_of_another_time = zarr.open_group(path)["s0"]
        image_of_another_time[0, :8, :8] = 0
        assert image.stamp != before


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_a_stack_is_refused_with_its_lengths(version: str, tmp_path: Path) -> None:
    path = write_zarr(tmp_path / "x.zarr", pixels(), "tczyx", version=version)
    group = zarr.open_group(path)
    group.create_array("s0", shape=(5, 3, 2, 70, 50), dtype="uint8", overwrite=True)
    with pytest.raises(
        DataError, match=r"x\.zarr: The image is a stack of planes \(5 along t, 2 along z\). Save each plane"
    ):
        read(path)


@pytest.mark.parametrize("axes", [["c", "y", "q"], ["y", "x"], ["x", "y", "x"]])
def test_axes_without_a_plane_are_an_error(axes: list[str], tmp_path: Path) -> None:
    path = write_zarr(tmp_path / "x.zarr", pixels(), "cyx", version="0.4")
    attributes = json.loads((path / ".zattrs").read_text())
    attributes["multiscales"][0]["axes"] = [{"name": name} for name in axes]
    attributes["multiscales"][0]["datasets"][0]["coordinateTransformations"] = []
    (path / ".zattrs").write_text(json.dumps(attributes))
    expected = rf"x\.zarr: The image has axes {', '.join(axes)} and an array of \(3, 70, 50\). An image needs y, x and"
    with pytest.raises(DataError, match=expected):
        read(path)


def test_an_array_without_pixels_is_refused(tmp_path: Path) -> None:
    path = write_zarr(tmp_path / "x.zarr", pixels())
    zarr.open_group(path).create_array("s0", shape=(3, 0, 50), dtype="uint8", overwrite=True)
    with pytest.raises(DataError, match=r"an array of \(3, 0, 50\). .* each of at least 1"):
        read(path)


def test_a_plain_array_is_refused(tmp_path: Path) -> None:
    zarr.create_array(tmp_path / "x.zarr", shape=(70, 50), dtype="uint8")
    with pytest.raises(
        DataError,
        match=r"x\.zarr: The folder is not an OME-Zarr image, .* has no multiscales. Write it with OME",
    ):
        read(tmp_path / "x.zarr")


def test_a_group_of_images_names_one(tmp_path: Path) -> None:
    zarr.open_group(tmp_path / "x.zarr", mode="w")
    write_zarr(tmp_path / "x.zarr" / "first", pixels())
    with pytest.raises(DataError, match=r"x\.zarr: The folder is not an OME-Zarr image, .* such as its group 'first'"):
        read(tmp_path / "x.zarr")
    np.testing.assert_array_equal(read(tmp_path / "x.zarr" / "first"), pixels())


def test_metadata_of_another_version_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"x\.zarr: Its metadata is NGFF 0\.3. Save it as 0\.4 or 0\.5"):
        read(write_zarr(tmp_path / "x.zarr", pixels(), version="0.3"))


@pytest.mark.parametrize("broken", ["a file", "an empty folder", "no JSON", "no array"])
def test_a_folder_that_is_not_a_zarr_is_an_error(broken: str, tmp_path: Path) -> None:
    path = tmp_path / "x.zarr"
    if broken == "a file":
        path.touch()
    elif broken == "an empty folder":
        path.mkdir()
    else:
        write_zarr(path, pixels())
        (path / ("zarr.json" if broken == "no JSON" else "s0/zarr.json")).write_text("{")
    with pytest.raises(DataError, match=r"x\.zarr: The image cannot be read as Zarr. Replace or remove it"):
        read(path)


def test_a_zarr_is_recognized_by_its_extension_or_metadata(tmp_path: Path) -> None:
    assert is_zarr(tmp_path / "nothing.ZARR")
    assert not is_zarr(tmp_path)
    write_zarr(tmp_path / "inner", pixels(), version="0.4")
    assert is_zarr(tmp_path / "inner")
    assert is_zarr(tmp_path / "inner" / "s0")


def test_missing_zarr_is_an_error_with_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_zarr(tmp_path / "x.zarr", pixels())
    monkeypatch.setitem(sys.modules, "zarr", None)
    with pytest.raises(
        InvalidArgumentError, match=r'zarr, which is not installed. Install it: pip install "pixelwise\[zarr\]"'
    ):
        read(path)


# Labels.

CLASSES = describe_classes(parse_description({"names": ["a", "b", "c"]}))
AXES = tuple(ZarrAxis(name=name, kind="space", unit="", scale=0.5, translation=3.0) for name in "yx")


@pytest.mark.parametrize(("version", "format"), [("0.4", 2), ("0.5", 3)])
@pytest.mark.parametrize("num_classes", [3, 300])
def test_labels_come_back(version: str, format: int, num_classes: int, tmp_path: Path) -> None:
    classes = describe_classes(parse_description({"names": [str(index) for index in range(num_classes)]}))
    labels = np.random.default_rng(0).integers(0, num_classes, (40, 30)).astype(classes.dtype)
    image = Multiscale(version=version, axes=AXES, levels=("a", "b"))
    write_label_zarr(tmp_path / "x.zarr", np.split(labels, [7, 20]), (40, 30), classes, image)
    group = zarr.open_group(tmp_path / "x.zarr", mode="r")
    assert group.metadata.zarr_format == format
    found = parse_multiscale(group.attrs)
    assert found is not None
    assert (found.version, found.levels, found.axes) == (version, ("0", "1"), AXES)
    assert group.attrs["_creator"] == {"name": "pixelwise"}
    array = group["0"]
    assert array.dtype == classes.dtype
    np.testing.assert_array_equal(array[...], labels)
    assert (tmp_path / "x.zarr" / ("0/0/0" if format == 2 else "0/c/0/0")).exists()
    assert array.metadata.to_dict().get("dimension_names") == (("y", "x") if format == 3 else None)


def test_each_level_holds_every_second_pixel_of_the_one_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (ome_zarr, windows):
        monkeypatch.setattr(module, "BLOCK", 8)
    labels = np.random.default_rng(0).integers(0, 3, (45, 21), np.uint8)
    image = Multiscale(version="0.5", axes=AXES, levels=("a", "b", "c"))
    write_label_zarr(tmp_path / "x.zarr", np.split(labels, [7, 20]), (45, 21), CLASSES, image)
    group = zarr.open_group(tmp_path / "x.zarr", mode="r")
    assert group["0"].chunks == (8, 8)
    for level in range(3):
        np.testing.assert_array_equal(group[str(level)][...], labels[:: 2**level, :: 2**level])
