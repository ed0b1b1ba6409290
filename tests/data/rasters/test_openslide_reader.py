import sys
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from pixelwise.data.description import describe_classes, parse_description
from pixelwise.data.rasters import openslide_reader as home
from pixelwise.data.rasters.openslide_reader import SlideRaster, open_slide
from pixelwise.data.rasters.rasterio_reader import use_gdal
from pixelwise.errors import DataError, InvalidArgumentError, PathNotFoundError
from support.rasters import TILE, write_slide

openslide = pytest.importorskip("openslide")
rasterio = pytest.importorskip("rasterio")

Array = npt.NDArray[Any]
ALL = (slice(0, 70), slice(0, 100))
WINDOW = (slice(20, 66), slice(5, 90))


def pixels() -> Array:
    return np.random.default_rng(0).integers(0, 250, (70, 100, 3), np.uint8)


def test_a_window_is_part_of_the_slide(tmp_path: Path) -> None:
    with open_slide(write_slide(tmp_path / "x.svs", pixels()), 3) as slide:
        assert slide.size == (70, 100)
        np.testing.assert_array_equal(slide.read(*ALL), pixels())
        found = slide.read(*WINDOW)
        np.testing.assert_array_equal(found, pixels()[WINDOW])
        assert found.flags.c_contiguous
        assert slide.find_missing(*ALL) is None


def test_areas_that_were_not_scanned_are_missing_and_white(tmp_path: Path) -> None:
    expected, absent = pixels(), np.zeros((70, 100), bool)
    absent[TILE : 2 * TILE, :TILE] = True
    expected[absent] = 255
    with open_slide(write_slide(tmp_path / "x.svs", pixels(), missing=[(1, 0)]), 3) as slide:
        np.testing.assert_array_equal(slide.read(*WINDOW), expected[WINDOW])
        np.testing.assert_array_equal(slide.find_missing(*WINDOW), absent[WINDOW])
        assert slide.find_missing(slice(0, TILE), slice(0, 100)) is None


class Drawn:
    """A slide of one color, half there, whose background has another one."""

    dimensions = (4, 2)
    properties = {"openslide.background-color": "FF0010"}  # noqa: RUF012

    def read_region(self, place: tuple[int, int], level: int, size: tuple[int, int]) -> Array:
        return np.tile(np.array([100, 200, 0, 51], np.uint8), (size[1], size[0], 1))


def test_partly_transparent_pixels_are_blended_with_the_background() -> None:
    slide = SlideRaster(path=Path("x.mrxs"), slide=Drawn())
    expected = [round(0.2 * 100 + 0.8 * 255), round(0.2 * 200), round(0.8 * 16)]
    found = slide.read(slice(0, 2), slice(0, 4))
    np.testing.assert_array_equal(found, np.tile(np.array(expected, np.uint8), (2, 4, 1)))
    assert slide.find_missing(slice(0, 2), slice(0, 4)) is None


def test_only_tiles_of_the_window_are_read(tmp_path: Path) -> None:
    path = write_slide(tmp_path / "x.svs", pixels())
    content = path.read_bytes()
    path.write_bytes(content[:-6000] + b"\xff" * 6000)
    top = (slice(0, TILE), slice(0, 100))
    with open_slide(path, 3) as slide:
        np.testing.assert_array_equal(slide.read(*top), pixels()[top])
        with pytest.raises(
            DataError, match=r"x\.svs: The image cannot be decoded in rows 0 to 70, columns 0 to 100. Replace"
        ):
            slide.read(*ALL)


def test_the_labels_keep_the_size_of_the_pixels(tmp_path: Path) -> None:
    classes = describe_classes(parse_description({"names": ["a", "b"]}))
    labels = np.zeros((70, 100), np.uint8)
    labels[5:] = 255
    with open_slide(write_slide(tmp_path / "x.svs", pixels(), microns=0.25), 3) as slide:
        slide.write_labels(tmp_path / "l.tif", [labels], classes)
    with use_gdal(), rasterio.open(tmp_path / "l.tif") as file:
        np.testing.assert_array_equal(file.read(1), labels)
        assert file.nodata == 255
        tags = file.tags()
    assert float(tags["TIFFTAG_XRESOLUTION"]) == float(tags["TIFFTAG_YRESOLUTION"]) == 40000
    assert tags["TIFFTAG_RESOLUTIONUNIT"].startswith("3")


def test_pixels_of_unknown_size_have_no_resolution() -> None:
    assert home._make_resolution_tags({}) == {}


def test_another_slide_has_another_stamp(tmp_path: Path) -> None:
    with open_slide(write_slide(tmp_path / "x.svs", pixels()), 3) as slide:
        stamp = slide.stamp
        assert slide.stamp == stamp
    with open_slide(write_slide(tmp_path / "x.svs", pixels()[::-1]), 3) as slide:
        assert slide.stamp["hash"] != stamp["hash"]
        assert slide.stamp["changed"] != stamp["changed"]


def test_a_file_that_is_not_a_slide_and_a_missing_file_are_errors(tmp_path: Path) -> None:
    path = tmp_path / "x.ndpi"
    with pytest.raises(PathNotFoundError, match=r"x\.ndpi: The file does not exist"), open_slide(path, 3):
        pass
    path.write_bytes(b"no slide")
    message = r"x\.ndpi: The file cannot be read as a whole slide. Replace or remove it"
    with pytest.raises(DataError, match=message), open_slide(path, 3):
        pass


@pytest.mark.parametrize(("package", "extra"), [("openslide", "slides"), ("rasterio", "raster")])
def test_a_missing_package_is_an_error_with_the_extra(
    package: str, extra: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with (
        pytest.raises(
            InvalidArgumentError,
            match=rf'{package}, which is not installed. Install it: pip install "pixelwise\[{extra}\]"',
        ),
        open_slide(tmp_path / "x.svs", 3),
    ):
        pass
