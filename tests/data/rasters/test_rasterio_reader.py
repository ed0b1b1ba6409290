import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import tifffile

from pixelwise.data.io.images import decode_image
from pixelwise.data.io.nodata import parse_nodata
from pixelwise.data.rasters import windows as home
from pixelwise.data.rasters.rasterio_reader import (
    CACHE_BYTES,
    count_tiff_pixels,
    has_rasterio,
    open_image_file,
    use_gdal,
)
from pixelwise.errors import DataError, InvalidArgumentError

pytest.importorskip("rasterio")


def test_missing_rasterio_is_an_error_with_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "rasterio", None)
    assert not has_rasterio()
    with (
        pytest.raises(
            InvalidArgumentError,
            match=r'rasterio, which is not installed. Install it: pip install "pixelwise\[raster\]"',
        ),
        use_gdal(),
    ):
        pass


def test_the_cache_is_small() -> None:
    from rasterio._env import get_gdal_config

    with use_gdal():
        assert get_gdal_config("GDAL_CACHEMAX") == CACHE_BYTES


rasterio = pytest.importorskip("rasterio")

Array = npt.NDArray[Any]
ALL = (slice(0, 40), slice(0, 30))
NAN = float("nan")


def pixels(channels: int = 3, dtype: str = "uint8") -> Array:
    return np.random.default_rng(0).integers(1, 200, (40, 30, channels)).astype(dtype)


def write(path: Path, image: Array, **options: Any) -> Path:
    tifffile.imwrite(path, image, **{"photometric": "rgb", **options})
    return path


def nodata(value: float) -> dict[str, Any]:
    return {"extratags": [(42113, 2, 0, str(value), True)]}


@pytest.mark.parametrize(
    ("dtype", "value"), [("uint8", 0), ("uint16", 7), ("int16", -5), ("float32", NAN), ("float32", -1.0)]
)
def test_windows_are_as_in_the_whole_image(
    dtype: str, value: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also what is missing: filled with the mean of the whole image, however many windows it is looked through in."""
    monkeypatch.setattr(home, "_SCAN_SIDE", 16)
    image = pixels(dtype=dtype)
    image[3:20, 5:9] = value
    image[30, 2, 1] = value
    path = write(tmp_path / "x.tif", image, **nodata(value))
    expected, missing = decode_image(path).fill_missing(3)
    assert missing is not None
    window = (slice(2, 33), slice(1, 22))
    with open_image_file(path, 3) as raster:
        assert raster.size == (40, 30)
        np.testing.assert_array_equal(raster.read(*ALL), expected)
        np.testing.assert_array_equal(raster.read(*window), expected[window])
        assert raster.read(*window).dtype == expected.dtype
        np.testing.assert_array_equal(raster.find_missing(*window), missing.all(2)[window])
        assert raster.find_missing(slice(34, 40), slice(0, 30)) is None


def write_with_mask(path: Path, *, is_inner: bool = True) -> None:
    """Write an image with a mask, as GDAL does: inside, or in a file next to it."""
    image = pixels()
    form = {"driver": "GTiff", "height": 40, "width": 30, "count": 3, "dtype": "uint8"}
    with use_gdal(), rasterio.Env(GDAL_TIFF_INTERNAL_MASK=is_inner), rasterio.open(path, "w", **form) as file:
        file.write(image.transpose(2, 0, 1))
        valid = np.ones((40, 30), bool)
        valid[3:20, 5:9] = False
        file.write_mask(valid)
    assert path.with_name(f"{path.name}.msk").exists() is not is_inner


def write_with_alpha(path: Path) -> None:
    image = pixels(4)
    image[..., 3] = 200
    image[3:20, 5:9] = 0
    write(path, image, extrasamples=["unassalpha"])


def write_undeclared(path: Path) -> None:
    image = pixels(dtype="float32")
    image[3:20, 5:9] = -9999
    image[30, 2, 1] = np.nan
    write(path, image)


@pytest.mark.parametrize(
    ("write_file", "given"),
    [
        (write_with_mask, []),
        (partial(write_with_mask, is_inner=False), []),
        (write_with_alpha, "alpha"),
        (write_undeclared, [-9999, "nan"]),
        (write_undeclared, {1: -9999, 2: [-9999, "nan"], 3: -9999}),
    ],
)
def test_missing_pixels_of_windows_are_as_in_the_whole_image(
    write_file: Callable[[Path], None], given: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those of a mask, of alpha, and of values that only the model knows."""
    monkeypatch.setattr(home, "_SCAN_SIDE", 16)
    path, known = tmp_path / "x.tif", parse_nodata(given)
    write_file(path)
    expected, missing = decode_image(path).fill_missing(3, known)
    assert missing is not None
    assert np.flatnonzero(missing.all(2).any(1)).tolist() == list(range(3, 20))
    window = (slice(2, 33), slice(1, 22))
    with open_image_file(path, 3, known) as raster:
        np.testing.assert_array_equal(raster.read(*ALL), expected)
        np.testing.assert_array_equal(raster.read(*window), expected[window])
        np.testing.assert_array_equal(raster.find_missing(*window), missing.all(2)[window])
        assert raster.may_miss_pixels


def test_without_nodata_no_pixels_are_missing(tmp_path: Path) -> None:
    with open_image_file(write(tmp_path / "x.tif", pixels()), 3) as raster:
        assert raster.find_missing(*ALL) is None
        assert not raster.may_miss_pixels


def test_a_constant_alpha_is_dropped(tmp_path: Path) -> None:
    image = pixels(4)
    image[..., 3] = 255
    path = write(tmp_path / "x.tif", image, extrasamples=["unassalpha"])
    with open_image_file(path, 3) as raster:
        np.testing.assert_array_equal(raster.read(*ALL), image[..., :3])
    with open_image_file(path, 4) as raster:
        np.testing.assert_array_equal(raster.read(*ALL), image)


def test_a_varying_alpha_is_an_error_unless_it_is_a_channel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(home, "_SCAN_SIDE", 16)
    image = pixels(4)
    image[..., 3] = 255
    image[39, 29, 3] = 0
    path = write(tmp_path / "x.tif", image, extrasamples=["unassalpha"])
    with (
        pytest.raises(DataError, match=r"x\.tif: The alpha channel varies\. .* 'channels: 4' if alpha is data"),
        open_image_file(path, 3),
    ):
        pass
    with open_image_file(path, 4) as raster:
        np.testing.assert_array_equal(raster.read(*ALL), image)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"extratags": [(274, 3, 1, 6, True)], "photometric": "minisblack"}, "stored rotated or mirrored"),
        ({"photometric": "palette", "colormap": np.zeros((3, 256), np.uint16)}, "stored with a palette"),
        ({"photometric": "miniswhite"}, "stored with 0 for white"),
    ],
)
def test_stored_forms_that_need_conversion_are_refused(options: dict[str, Any], reason: str, tmp_path: Path) -> None:
    path = write(tmp_path / "x.tif", pixels(1)[..., 0], **options)
    with (
        pytest.raises(DataError, match=rf"x\.tif: it is {reason}, which windows"),
        open_image_file(path, 1),
    ):
        pass


def test_single_bits_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "x.tif", pixels(1)[..., 0] > 99, photometric="minisblack")
    with pytest.raises(DataError, match=r"x\.tif: it is stored in 1 bit"), open_image_file(path, 1):
        pass


@pytest.mark.parametrize("name", ["x.tif", "x.jp2"])
def test_a_file_that_is_not_an_image_is_an_error(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(b"no image")
    with (
        pytest.raises(DataError, match=rf"{name}: The image cannot be read window by window"),
        open_image_file(tmp_path / name, 3),
    ):
        pass


def test_integers_beyond_float32_are_an_error(tmp_path: Path) -> None:
    path = write(tmp_path / "x.tif", np.full((40, 30), 2**24 + 1, np.int32), photometric="minisblack")
    with open_image_file(path, 1) as raster, pytest.raises(DataError, match=r"x\.tif: Pixels reach 16777217"):
        raster.read(*ALL)


def test_pixels_are_counted_from_the_header(tmp_path: Path) -> None:
    assert count_tiff_pixels(write(tmp_path / "x.tif", pixels())) == 40 * 30
    (tmp_path / "broken.tif").write_bytes(b"II*\0")
    assert count_tiff_pixels(tmp_path / "broken.tif") == 0
    assert count_tiff_pixels(tmp_path / "nowhere.tif") == 0
