"""What GeoTIFF adds; plain TIFF is tested beside the other formats in test_images.py."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from pixelwise.data.io.decoded_image import Array
from pixelwise.data.io.images import decode_image, mark_unlabeled, read_image, read_mask, read_mask_bytes, write_png
from pixelwise.data.io.nodata import ALL_DATA, Nodata
from pixelwise.data.io.tiff import Georeference, encode_label_tiff, read_geo_tags, read_georeference, read_sidecar
from pixelwise.errors import DataError

TYPES = {
    np.uint8: np.uint8,
    np.uint16: np.uint16,
    **dict.fromkeys((np.int8, np.int16, np.int32, np.uint32, np.float32, np.float64), np.float32),
}
GDAL_NODATA = 42113


def scene(bands: int, dtype: type) -> Array:
    """(40, 50, C) with values on either side of 0 where the type has them."""
    values = np.random.default_rng(bands).normal(100, 60, (40, 50, bands))
    return (values if np.dtype(dtype).kind in "if" else values.clip(0, 255)).astype(dtype)


def save(path: Path, pixels: Array, *, planar: bool = False, nodata: str | None = None, **options: Any) -> Path:
    tags = [] if nodata is None else [(GDAL_NODATA, "s", 0, nodata, True)]
    stored = np.moveaxis(pixels, -1, 0) if planar else pixels
    format = {"planarconfig": "separate" if planar else "contig"} if pixels.shape[2] > 1 else {}
    stored = stored if pixels.shape[2] > 1 else pixels[..., 0]
    tifffile.imwrite(path, stored, photometric="minisblack", extratags=tags, **format, **options)
    return path


@pytest.mark.parametrize("compression", [None, "lzw", "deflate", "zstd"])
@pytest.mark.parametrize("planar", [False, True])
@pytest.mark.parametrize("tile", [None, (16, 32)])
@pytest.mark.parametrize("dtype", TYPES)
def test_bands_are_the_last_axis_in_every_form(
    tmp_path: Path, dtype: type, tile: tuple[int, int] | None, planar: bool, compression: str | None
) -> None:
    for bands in (1, 6):
        pixels = scene(bands, dtype)
        options = {"tile": tile, "compression": compression, "predictor": compression is not None}
        read = read_image(save(tmp_path / "a.tif", pixels, planar=planar, **options))
        assert read.dtype == TYPES[dtype]
        np.testing.assert_array_equal(read, pixels.astype(TYPES[dtype]))


def test_many_bands(tmp_path: Path) -> None:
    pixels = scene(224, np.int16)
    np.testing.assert_array_equal(read_image(save(tmp_path / "a.tif", pixels)), pixels)


@pytest.mark.parametrize(("text", "value"), [("-9999", -9999), ("0", 0), ("  1e3 ", 1000), ("-3.4e+38", -3.4e38)])
def test_the_nodata_value_is_read(tmp_path: Path, text: str, value: float) -> None:
    decoded = decode_image(save(tmp_path / "a.tif", scene(2, np.float32), nodata=text))
    assert decoded.nodata == Nodata(values=(value,))


@pytest.mark.parametrize("text", ["nan", "NaN", "-nan"])
def test_nan_as_nodata(tmp_path: Path, text: str) -> None:
    pixels = scene(2, np.float32)
    pixels[3, 4] = np.nan
    read = read_image(save(tmp_path / "a.tif", pixels, nodata=text))
    np.testing.assert_allclose(read[3, 4], np.nanmean(pixels, (0, 1)), rtol=1e-5)
    with pytest.raises(DataError, match=r"b\.tif: The image contains 2 NaN or infinite values. If they mark"):
        read_image(save(tmp_path / "b.tif", pixels))


def test_files_without_nodata_have_none(tmp_path: Path) -> None:
    for text in (None, ""):
        assert decode_image(save(tmp_path / "a.tif", scene(2, np.float32), nodata=text)).nodata == ALL_DATA


def test_a_nodata_value_that_is_not_a_number_is_an_error(tmp_path: Path) -> None:
    path = save(tmp_path / "a.tif", scene(2, np.float32), nodata="none")
    with pytest.raises(DataError, match=r"a\.tif: Its nodata value 'none' is not a number. Correct the tag"):
        read_image(path)


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.uint16, np.int16, np.uint32, np.int32, np.float32, np.float64])
@pytest.mark.parametrize("nodata", [0, 3, 100, -9999, -3.4028234663852886e38, float("nan")])
def test_nodata_of_a_mask_is_no_label(tmp_path: Path, dtype: type, nodata: float) -> None:
    """A value that the type cannot hold, as GDAL permits, marks nothing."""
    mask = np.array([[0, 1, 2], [3, 100, 1]], dtype)
    if np.dtype(dtype).kind == "f" or (nodata == -9999 and np.iinfo(dtype).min < nodata):
        mask[0, 0] = nodata
    expected = [[-1 if v == nodata or np.isnan(v) else v for v in row] for row in mask.tolist()]
    read = read_mask(save(tmp_path / "a.tif", mask[..., None], nodata=str(nodata)))
    np.testing.assert_array_equal(read, expected)


def test_nodata_of_a_mask_of_colors_is_a_pixel_of_that_value_in_all_channels(tmp_path: Path) -> None:
    colors = np.array([[[9, 9, 9], [9, 0, 0], [1, 2, 3]]], np.uint8)
    read = read_mask(save(tmp_path / "a.tif", colors, nodata="9"))
    assert read.tolist() == [[[-1, -1, -1], [9, 0, 0], [1, 2, 3]]]


@pytest.mark.parametrize("nodata", ["0", "200"])
def test_a_mapping_of_the_value_makes_it_a_class(tmp_path: Path, nodata: str) -> None:
    content = save(tmp_path / "a.tif", np.array([[[0], [1], [200]]], np.uint8), nodata=nodata).read_bytes()
    mask = read_mask_bytes(content, "a.tif")
    assert mark_unlabeled(mask, {0, 1, 200}).tolist() == [[0, 1, 200]]
    assert mark_unlabeled(mask).tolist() == [[-1, 1, 200] if nodata == "0" else [0, 1, -1]]


@pytest.mark.parametrize("bands", [1, 3])
def test_an_inner_mask_of_gdal_marks_missing_pixels(tmp_path: Path, bands: int) -> None:
    """Next to overviews of the image and of the mask, which are smaller."""
    pixels, valid = scene(bands, np.uint8), np.ones((40, 50), bool)
    valid[3:7, 30:] = False
    form = {"photometric": "rgb" if bands == 3 else "minisblack", "metadata": None}
    stored = pixels if bands == 3 else pixels[..., 0]
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        file.write(stored, **form)
        file.write(stored[::2, ::2], subfiletype=1, **form)
        file.write(valid[::2, ::2], subfiletype=5, photometric="minisblack", metadata=None)
        file.write(valid, subfiletype=4, photometric="minisblack", metadata=None)
    found, missing = decode_image(tmp_path / "a.tif").find_missing(None)
    assert missing is not None
    np.testing.assert_array_equal(missing, np.broadcast_to(~valid[..., None], pixels.shape))
    np.testing.assert_array_equal(found, pixels)


def test_nodata_of_a_palette_is_an_index(tmp_path: Path) -> None:
    indices = np.array([[0, 1], [2, 7]], np.uint8)
    colormap = np.zeros((3, 256), np.uint16)
    colormap[:, 1] = 7 << 8
    tags = [(GDAL_NODATA, "s", 0, "7", True)]
    tifffile.imwrite(tmp_path / "a.tif", indices, photometric="palette", colormap=colormap, extratags=tags)
    _, missing = decode_image(tmp_path / "a.tif").find_missing(None)
    assert missing is not None
    assert missing.all(2).tolist() == [[False, False], [False, True]]


def test_a_reduced_copy_in_the_file_is_not_read(tmp_path: Path) -> None:
    """Overviews, as in cloud-optimized GeoTIFF."""
    pixels = scene(6, np.float32)
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        form = {"photometric": "minisblack", "planarconfig": "contig", "tile": (16, 16)}
        file.write(pixels, **form)
        file.write(pixels[::2, ::2], subfiletype=1, **form)
    np.testing.assert_array_equal(read_image(tmp_path / "a.tif"), pixels)


SCALE = (33550, 12, 3, (0.5, 2.0, 0.0))
TIE = (33922, 12, 6, (10.0, 20.0, 0.0, 1000.0, 5000.0, 0.0))


def keys(*pairs: tuple[int, int]) -> tuple[int, int, int, tuple[int, ...]]:
    entries = [number for key, value in pairs for number in (key, 0, 1, value)]
    return 34735, 3, 4 + len(entries), (1, 1, 0, len(pairs), *entries)


def read(path: Path, *tags: Any) -> Georeference | None:
    extratags = [(*tag, True) for tag in tags]
    tifffile.imwrite(path, np.zeros((4, 6), np.uint8), photometric="minisblack", extratags=extratags)
    with path.open("rb") as file:
        return read_georeference(file)


def test_scale_and_tie_point(tmp_path: Path) -> None:
    found = read(tmp_path / "a.tif", SCALE, TIE, keys((1025, 1), (3072, 32633)))
    assert found is not None
    assert found.to_map(10, 20) == (1000.0, 5000.0)
    assert found.to_map(12, 21) == (1001.0, 4998.0)
    assert (found.epsg, found.pixel_area) == (32633, 1.0)


def test_coordinates_of_centers_are_shifted_by_half_a_pixel(tmp_path: Path) -> None:
    found = read(tmp_path / "a.tif", SCALE, TIE, keys((1025, 2), (2048, 4326)))
    assert found is not None
    assert found.to_map(10.5, 20.5) == (1000.0, 5000.0)
    assert found.epsg == 4326


def test_the_sign_of_the_height_of_a_pixel_says_nothing(tmp_path: Path) -> None:
    """As in GDAL: some programs store the step of the rows instead."""
    assert read(tmp_path / "a.tif", (33550, 12, 3, (0.5, -2.0, 0.0)), TIE) == read(tmp_path / "b.tif", SCALE, TIE)


def test_a_transformation_may_rotate(tmp_path: Path) -> None:
    matrix = (0.0, 3.0, 0.0, 100.0, 2.0, 0.0, 0.0, 200.0, *[0.0] * 4, 0.0, 0.0, 0.0, 1.0)
    found = read(tmp_path / "a.tif", (34264, 12, 16, matrix))
    assert found is not None
    assert found.to_map(1, 2) == (106.0, 202.0)
    assert (found.epsg, found.pixel_area) == (None, 6.0)


def test_a_custom_reference_system_has_no_code(tmp_path: Path) -> None:
    found = read(tmp_path / "a.tif", SCALE, TIE, keys((3072, 32767)))
    assert found is not None
    assert found.epsg is None


@pytest.mark.parametrize(
    "tags",
    [
        (),
        (TIE,),
        (SCALE,),
        (SCALE, (33922, 12, 12, TIE[3] * 2)),
        ((33550, 12, 3, (0.0, 1.0, 0.0)), TIE),
        (SCALE, TIE, (274, 3, 1, 3)),
        ((34264, 12, 16, tuple(np.eye(4).ravel().tolist())),),
    ],
    ids=["plain", "no scale", "no tie point", "control points", "no width", "not upright", "identity"],
)
def test_rotated_images_and_control_points_have_no_georeference(tmp_path: Path, tags: tuple[Any, ...]) -> None:
    assert read(tmp_path / "a.tif", *tags) is None


def test_other_images_have_no_georeference(tmp_path: Path) -> None:
    write_png(tmp_path / "a.png", np.zeros((1, 1), np.uint8))
    with (tmp_path / "a.png").open("rb") as file:
        assert read_georeference(file) is None


UTM = 'PROJCS["WGS 84 / UTM zone 33N",GEOGCS["WGS 84",AUTHORITY["EPSG","4326"]],AUTHORITY["EPSG","32633"]]'
DEGREES = 'GEOGCS["WGS 84",DATUM["WGS_1984",AUTHORITY["EPSG","6326"]],AUTHORITY["EPSG","4326"]]'


@pytest.mark.parametrize(
    ("image", "sidecar", "content", "epsg"),
    [
        ("a.tif", "a.tfw", "0.5\n0\n0\n-2\n1000.25\n4999\n", None),
        ("a.jpeg", "a.jgw", "0.5\n0\n0\n-2\n1000.25\n4999\n", None),
        ("a.png", "a.pngw", "0.5 0 0 -2 1000.25 4999", None),
        ("a.png", "a.wld", "0.5\n0\n0\n-2\n1000.25\n4999", None),
        (
            "a.png",
            "a.png.aux.xml",
            f"<PAMDataset><SRS>{UTM.replace(chr(34), '&quot;')}</SRS>"
            "<GeoTransform>1000, 0.5, 0, 5000, 0, -2</GeoTransform></PAMDataset>",
            32633,
        ),
    ],
)
def test_files_next_to_an_image_have_its_place(
    tmp_path: Path, image: str, sidecar: str, content: str, epsg: int | None
) -> None:
    assert read_sidecar(tmp_path / image) == (None, ())
    (tmp_path / sidecar).write_text(content)
    found, tags = read_sidecar(tmp_path / image)
    assert found == Georeference(x=(0.5, 0.0, 1000.0), y=(0.0, -2.0, 5000.0), epsg=epsg)
    tifffile.imwrite(tmp_path / "labels.tif", np.zeros((4, 6), np.uint8), extratags=tags)
    with (tmp_path / "labels.tif").open("rb") as file:
        assert read_georeference(file) == found


@pytest.mark.parametrize(("system", "epsg"), [(UTM, 32633), (DEGREES, 4326)])
def test_the_coordinate_system_of_a_world_file_is_in_a_file_of_its_own(tmp_path: Path, system: str, epsg: int) -> None:
    rasterio = pytest.importorskip("rasterio")
    (tmp_path / "a.jgw").write_text("0.5\n0\n0\n-2\n1000.25\n4999")
    (tmp_path / "a.prj").write_text(system)
    found, tags = read_sidecar(tmp_path / "a.jpg")
    assert found is not None
    assert found.epsg == epsg
    (tmp_path / "l.tif").write_bytes(encode_label_tiff(np.zeros((4, 6), np.uint8), [(1, 2, 3)], tags, None))
    with rasterio.open(tmp_path / "l.tif") as file:
        assert file.crs.to_epsg() == epsg
        assert file.transform[:6] == (0.5, 0.0, 1000.0, 0.0, -2.0, 5000.0)


def test_a_world_file_without_six_numbers_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "a.tfw").write_text("0.5\n0\n0\n")
    with pytest.raises(DataError, match=r"a\.tfw: The file is not a world file of six numbers"):
        read_sidecar(tmp_path / "a.tif")


@pytest.mark.parametrize("nodata", [None, 255])
def test_labels_of_an_image_are_where_the_image_is(tmp_path: Path, nodata: int | None) -> None:
    rasterio = pytest.importorskip("rasterio")
    points = (33922, 12, 12, (0.0, 0.0, 0.0, 10.0, 50.0, 0.0, 6.0, 4.0, 0.0, 11.0, 49.0, 0.0))
    labels = np.arange(24, dtype=np.uint8).reshape(4, 6)
    colors = [(i, 2 * i, 255 - i) for i in range(24)]
    for name, given in (
        ("scale", [SCALE, TIE, keys((1024, 1), (1025, 1), (3072, 32633))]),
        ("centers", [SCALE, TIE, keys((1024, 2), (1025, 2), (2048, 4326))]),
        ("points", [points, keys((1024, 2), (1025, 1), (2048, 4326))]),
    ):
        image = tmp_path / f"{name}.tif"
        extratags = [(*tag, True) for tag in given]
        tifffile.imwrite(image, np.zeros((4, 6), np.uint16), photometric="minisblack", extratags=extratags)
        with image.open("rb") as file:
            tags = read_geo_tags(file)
        (tmp_path / "labels.tif").write_bytes(encode_label_tiff(labels, colors, tags, nodata))
        with rasterio.open(image) as one, rasterio.open(tmp_path / "labels.tif") as other:
            assert one.crs == other.crs
            assert one.transform == other.transform
            assert list(map(str, one.gcps[0])) == list(map(str, other.gcps[0]))
            assert other.nodata == nodata
            assert other.colormap(1)[3] == (3, 6, 252, 255)
            np.testing.assert_array_equal(other.read(1), labels)
        np.testing.assert_array_equal(read_mask(tmp_path / "labels.tif"), labels)


def test_a_tiff_without_a_place_has_no_tags(tmp_path: Path) -> None:
    for name, given in (("plain", []), ("keys", [keys((1024, 1))])):
        path = tmp_path / f"{name}.tif"
        tifffile.imwrite(path, np.zeros((4, 6), np.uint8), extratags=[(*tag, True) for tag in given])
        with path.open("rb") as file:
            assert read_geo_tags(file) == ()
