from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from pixelwise.data.classes import MAX_FOUND_CLASSES, classes_from_dict
from pixelwise.data.dataset import Dataset
from pixelwise.data.io.images import Array, write_png
from pixelwise.data.sample_stats import SampleStats
from pixelwise.data.scan import compute_normalization, count_class_pixels, scan_dataset
from pixelwise.errors import DataError

GDAL_NODATA = 42113
RNG = np.random.default_rng(0)
MASK = np.array([[0, 0, 7], [7, 7, 255]], np.uint8)


def noise(*shape: int, dtype: type = np.uint8) -> Array:
    return RNG.integers(0, np.iinfo(dtype).max, shape, dtype, endpoint=True)


def scan(root: Path, pairs: dict[str, tuple[Array, Array]], description: str | None = None) -> Dataset:
    """Write the pairs (image, mask), TIFF where PNG would not do, and scan them all."""
    for name, (image, mask) in pairs.items():
        write_png(root / f"masks/{name}.png", mask)
        (root / "images").mkdir(exist_ok=True)
        kind = "rgb" if image.shape[2:] == (3,) else "minisblack"
        format: dict[str, Any] = {"planarconfig": "contig"} if image.ndim == 3 else {}
        tifffile.imwrite(root / f"images/{name}.tif", image, photometric=kind, **format)
    if description is not None:
        (root / "dataset.yaml").write_text(description, encoding="utf-8")
    dataset = Dataset.load(root)
    return scan_dataset(dataset)


def scan_one(root: Path, image: Array, mask: Array = MASK, description: str | None = None) -> SampleStats:
    return scan(root, {"a": (image, mask)}, description).stats[0]


@pytest.mark.parametrize("channels", [1, 3, 4, 6])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_statistics_of_an_image(tmp_path: Path, dtype: type, channels: int) -> None:
    image = noise(2, 3, channels, dtype=dtype)
    stats = scan_one(tmp_path, image[..., 0] if channels == 1 else image)
    assert (stats.size, stats.channels, stats.dtype) == ((2, 3), channels, np.dtype(dtype).name)
    assert (stats.image_error, stats.mask_error) == (None, None)
    assert not stats.is_constant
    assert not stats.alpha_dropped
    wide = image.astype(np.float64)
    np.testing.assert_allclose(stats.mean, wide.mean((0, 1)))
    np.testing.assert_allclose(stats.square_mean, (wide**2).mean((0, 1)))


def test_statistics_of_a_mask(tmp_path: Path) -> None:
    stats = scan_one(tmp_path, noise(2, 3, 3))
    assert (stats.mask_size, stats.value_counts) == ((2, 3), {0: 2, 7: 3, 255: 1})


def test_image_and_mask_are_compared_if_their_sizes_are_equal(tmp_path: Path) -> None:
    image, mask = noise(4, 6), np.tile(np.array([[0, 0, 0, 1, 1, 1]], np.uint8), (4, 1))
    stats = scan_one(tmp_path / "binary", image, mask)
    assert stats.appearances.keys() == {0, 1}
    assert stats.between_counts == {}
    assert scan_one(tmp_path / "size", image, mask[:-1]).appearances == {}
    assert scan_one(tmp_path / "constant", image, np.zeros((4, 6), np.uint8)).appearances == {}
    many = np.arange(4 * 20, dtype=np.uint8).reshape(4, 20)
    assert scan_one(tmp_path / "many", noise(4, 20), many).appearances == {}


def test_statistics_of_a_color_mask(tmp_path: Path) -> None:
    mask = np.array([[[1, 2, 3], [9, 9, 9], [1, 2, 3]]], np.uint8)
    text = "names: [a, b]\ncolors: [[1, 2, 3], [9, 9, 9]]"
    assert scan_one(tmp_path, noise(1, 3, 3), mask, text).value_counts == {0x010203: 2, 0x090909: 1}


def test_errors_are_recorded_with_their_file(tmp_path: Path) -> None:
    scan(tmp_path, {"a": (noise(2, 3, 3), MASK)})
    (tmp_path / "images/a.tif").write_bytes(b"II*\0")
    (tmp_path / "masks/a.png").write_bytes(b"")
    dataset = Dataset.load(tmp_path)
    (stats,) = scan_dataset(dataset).stats
    assert stats.image_error is not None
    assert stats.image_error.startswith(f"{tmp_path / 'images/a.tif'}: The file is truncated. Copy or download")
    assert stats.mask_error == f"{tmp_path / 'masks/a.png'}: The file is empty. Replace or remove it."
    assert (stats.size, stats.mask_size, stats.value_counts) == (None, None, {})


def test_missing_and_unreadable_files_are_recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for stem in "ab":
        write_png(tmp_path / f"images/{stem}.png", noise(4, 6, 3))
        write_png(tmp_path / f"masks/{stem}.png", MASK)
    dataset = Dataset.load(tmp_path)
    (tmp_path / "images/a.png").unlink()
    read_bytes = Path.read_bytes

    def refuse(path: Path) -> bytes:
        if path == tmp_path / "masks/b.png":
            raise PermissionError(13, "Permission denied", str(path))
        return read_bytes(path)

    monkeypatch.setattr(Path, "read_bytes", refuse)
    a, b = scan_dataset(dataset).stats
    assert a.image_error == f"{tmp_path}/images/a.png: The file does not exist. Restore it, or correct the path."
    assert b.mask_error is not None
    assert b.mask_error.startswith(f"{tmp_path}/masks/b.png: The file cannot be read (permission denied). Change its")


def test_a_color_mask_without_colors_is_recorded_with_its_file(tmp_path: Path) -> None:
    stats = scan_one(tmp_path, noise(2, 3, 3), noise(2, 3, 3))
    assert stats.mask_error is not None
    assert stats.mask_error.startswith(f"{tmp_path / 'masks/a.png'}: The mask is an RGB image")


def test_alpha(tmp_path: Path) -> None:
    rgba = noise(2, 3, 4)
    path = tmp_path / "images/a.png"
    write_png(tmp_path / "masks/a.png", MASK)
    write_png(path, rgba)
    dataset = Dataset.load(tmp_path)
    (varying,) = scan_dataset(dataset).stats
    assert varying.image_error is not None
    assert varying.image_error.startswith(f"{path}: The alpha channel varies")
    rgba[..., 3] = 255
    write_png(path, rgba)
    (constant,) = scan_dataset(dataset).stats
    assert (constant.alpha_dropped, constant.channels) == (True, 3)


@pytest.mark.parametrize("value", [0, 1, 77, 255])
def test_a_constant_image(tmp_path: Path, value: int) -> None:
    """Its size has an inverse that is not a binary fraction."""
    image = np.full((7, 13, 3), value, np.uint8)
    assert scan_one(tmp_path / "constant", image).is_constant
    image[3, 3, 1] ^= 1
    assert not scan_one(tmp_path / "other", image).is_constant


# The whole dataset.


def test_classes_are_found_in_the_masks(tmp_path: Path) -> None:
    dataset = scan(tmp_path, {"a": (noise(2, 3, 3), MASK)})
    assert dataset.classes is not None
    assert dataset.classes.names == ("0", "7")
    assert dataset.declared_classes is None


def test_declared_classes_and_channels_stay(tmp_path: Path) -> None:
    text = "names: [a, b]\nchannels: 1\n"
    dataset = scan(tmp_path, {"a": (noise(2, 3, 3), MASK)}, text)
    assert dataset.classes is not None
    assert dataset.classes.names == ("a", "b")
    assert dataset.channels == 1
    assert dataset.declared_classes is not None


@pytest.mark.parametrize(("share", "expected"), [(0.6, 1), (0.4, None)])
def test_a_class_named_background_is_one_if_it_fills_most_pixels(
    tmp_path: Path, share: float, expected: int | None
) -> None:
    mask = np.zeros((10, 10), np.uint8)
    mask[: round(10 * share)] = 1
    classes = scan(tmp_path, {"a": (noise(10, 10, 3), mask)}, "names: [defect, other]").classes
    assert (classes.background, classes.majority) == (expected, expected)
    assert classes_from_dict(classes.to_dict()).background == expected
    assert scan(tmp_path / "b", {"a": (noise(10, 10, 3), mask)}, "names: [defect, metal]").classes.background is None


def test_masks_of_too_many_values_have_no_classes(tmp_path: Path) -> None:
    mask = np.arange(MAX_FOUND_CLASSES + 2, dtype=np.uint16).reshape(2, -1)[[0, 1, 0, 1]]
    few = scan(tmp_path / "few", {"a": (noise(2, 3, 3), mask[:, :-1])})
    assert len(few.classes.names) == MAX_FOUND_CLASSES - 1  # 255 is ignored
    many = scan(tmp_path / "many", {"a": (noise(2, 3, 3), mask)})
    assert many.classes.names == ()


@pytest.mark.parametrize(
    ("channels", "expected"),
    [([1], 1), ([1, 3], 3), ([3, 3, 4], 3), ([4, 4, 3], 4), ([3, 4], 3), ([1, 3, 4, 4], 4)],
)
def test_channels_are_those_of_most_images(tmp_path: Path, channels: list[int], expected: int) -> None:
    images = {f"{i}": noise(2, 3, c) if c > 1 else noise(2, 3) for i, c in enumerate(channels)}
    dataset = scan(tmp_path, {name: (image, MASK) for name, image in images.items()})
    assert dataset.channels == expected


def test_class_pixels_are_counted_per_sample(tmp_path: Path) -> None:
    text = "names: [a, b, c]\nlabel_mapping: {0: a, 7: c, 8: c}\nignore: 9\n"
    other = np.array([[7, 8, 9]], np.uint8)
    dataset = scan(tmp_path, {"x": (noise(2, 3, 3), MASK), "y": (noise(1, 3, 3), other)}, text)
    x, y = dataset.samples
    assert count_class_pixels(dataset, [y, x]).tolist() == [[0, 0, 2], [2, 0, 3]]
    assert count_class_pixels(dataset, []).shape == (0, 3)


@pytest.mark.parametrize("channels", [1, 3, 6])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_normalization_uses_all_pixels(tmp_path: Path, dtype: type, channels: int) -> None:
    """Of images of different sizes, and only of the given samples."""
    images = [noise(h, 3, channels, dtype=dtype) for h in (2, 9, 4)]
    shown = [image[..., 0] if channels == 1 else image for image in images]
    dataset = scan(tmp_path, {f"{i}": (s, s[..., 0] if s.ndim == 3 else s) for i, s in enumerate(shown)})
    mean, std = compute_normalization(dataset, dataset.samples[:2])
    pixels = np.concatenate([image.reshape(-1, channels) for image in images[:2]]).astype(float)
    np.testing.assert_allclose(mean, pixels.mean(0), atol=1e-4)
    np.testing.assert_allclose(std, pixels.std(0), atol=1e-4)


def test_gray_counts_in_each_channel(tmp_path: Path) -> None:
    gray, color = noise(2, 3), noise(2, 3, 3)
    dataset = scan(tmp_path, {"a": (gray, MASK), "b": (color, MASK)})
    mean, _ = compute_normalization(dataset, dataset.samples)
    pixels = np.stack([np.stack([gray] * 3, -1), color])
    np.testing.assert_allclose(mean, pixels.mean((0, 1, 2)), atol=1e-4)


def test_the_std_of_constant_images_is_not_zero(tmp_path: Path) -> None:
    dataset = scan(tmp_path, {"a": (np.full((7, 13, 3), 77, np.uint8), MASK)})
    assert compute_normalization(dataset, dataset.samples) == ([77.0] * 3, [0.001] * 3)


# Missing data, and float images.


def scan_geotiffs(root: Path, images: dict[str, Array], mask: Array, nodata: str) -> Dataset:
    """GeoTIFFs (H, W, C) with a nodata value, each with the same mask."""
    for name, image in images.items():
        write_png(root / f"masks/{name}.png", mask)
        (root / "images").mkdir(exist_ok=True)
        tags = [(GDAL_NODATA, "s", 0, nodata, True)]
        path = root / f"images/{name}.tif"
        tifffile.imwrite(path, image, photometric="minisblack", planarconfig="contig", extratags=tags)
    dataset = Dataset.load(root)
    return scan_dataset(dataset)


@pytest.mark.parametrize("channels", [2, 6])
@pytest.mark.parametrize(("dtype", "nodata"), [(np.float32, -9999), (np.uint16, 0), (np.uint8, 0)])
def test_missing_values_do_not_count(tmp_path: Path, dtype: type, nodata: int, channels: int) -> None:
    images = {name: RNG.integers(1, 200, (2, 3, channels)).astype(dtype) for name in "ab"}
    images["a"][0, :2] = nodata
    if dtype == np.float32:
        images["b"][1, 1, 0] = nodata  # one channel only
    dataset = scan_geotiffs(tmp_path, images, MASK, str(nodata))
    values = np.concatenate([image.reshape(-1, channels) for image in images.values()]).astype(float)
    there = np.where(values == nodata, np.nan, values)
    mean, std = compute_normalization(dataset, dataset.samples)
    np.testing.assert_allclose(mean, np.nanmean(there, 0), rtol=1e-6)
    np.testing.assert_allclose(std, np.nanstd(there, 0), rtol=1e-6)
    a, b = dataset.stats
    assert a.value_counts == {0: 0, 7: 3, 255: 1}  # 0 occurs only under missing pixels, and must be listed all the same
    assert b.value_counts == {0: 2, 7: 3, 255: 1}
    assert count_class_pixels(dataset, dataset.samples).tolist() == [[0, 3], [2, 3]]
    assert a.num_valid.tolist() == [4] * channels


def test_an_image_without_data_has_no_weight(tmp_path: Path) -> None:
    images = {"a": np.full((2, 3, 2), np.nan, np.float32), "b": np.full((2, 3, 2), 5, np.float32)}
    dataset = scan_geotiffs(tmp_path, images, MASK, "nan")
    assert compute_normalization(dataset, dataset.samples)[0] == [5, 5]
    assert dataset.stats[0].is_constant
    with pytest.raises(DataError, match=r"Channel 1 has no valid value in any image.* Remove the channel"):
        compute_normalization(dataset, dataset.samples[:1])


def test_values_that_are_not_finite_are_recorded(tmp_path: Path) -> None:
    image = np.ones((2, 3, 6), np.float32)
    image[0, 0, 0] = np.nan
    stats = scan_one(tmp_path, image)
    assert stats.image_error is None
    assert stats.nonfinite_counts == {"nan": 1}
    assert np.isfinite(stats.thumbnail).all()
    assert np.isfinite(stats.mean).all()


@pytest.mark.parametrize("unit", [1e-6, 1.0, 1e6])
@pytest.mark.parametrize("offset", [0, 3000])
def test_the_normalization_of_floats_does_not_depend_on_their_unit(tmp_path: Path, unit: float, offset: int) -> None:
    image = ((RNG.normal(size=(20, 30, 6)) + offset) * unit).astype(np.float32)
    dataset = scan(tmp_path, {"a": (image, np.resize(MASK, (20, 30)))})
    mean, std = compute_normalization(dataset, dataset.samples)
    wide = image.astype(np.float64)
    np.testing.assert_allclose(mean, wide.mean((0, 1)), rtol=1e-6, atol=1e-9 * unit)
    np.testing.assert_allclose(std, wide.std((0, 1)), rtol=1e-5)


@pytest.mark.parametrize("value", [0, 1e-5, 77, 1e6])
def test_the_std_of_a_constant_float_channel_is_not_zero(tmp_path: Path, value: float) -> None:
    dataset = scan(tmp_path, {"a": (np.full((7, 13, 3), value, np.float32), MASK)})
    mean, std = compute_normalization(dataset, dataset.samples)
    np.testing.assert_allclose(mean, value, rtol=1e-6)
    assert all(0 < d <= 1e-3 for d in std)
