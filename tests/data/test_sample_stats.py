import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy import ndimage

from pixelwise.data.io.images import Array
from pixelwise.data.sample_stats import (
    THUMBNAIL_SIDE,
    compute_fingerprint,
    compute_thumbnail,
    count_neighbors,
    count_regions,
    count_values,
    measure_appearances,
    measure_shift,
)

RNG = np.random.default_rng(0)
IMAGE = RNG.integers(0, 256, (40, 60, 3), np.uint8)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32, np.float64])
@pytest.mark.parametrize("channels", [1, 2, 3, 4, 7])
def test_thumbnails_have_mean_0_and_norm_1(dtype: type, channels: int) -> None:
    thumbnail = compute_thumbnail(RNG.integers(0, 256, (33, 50, channels)).astype(dtype))
    wide = thumbnail.astype(np.float64)
    assert wide.shape == (THUMBNAIL_SIDE**2,)
    assert abs(wide.mean()) < 1e-3
    assert np.linalg.norm(wide) == pytest.approx(1, abs=1e-2)


def test_the_thumbnail_of_a_constant_image_is_zero() -> None:
    assert not compute_thumbnail(np.full((40, 60, 3), 77, np.uint8)).any()


def test_copies_have_the_same_thumbnail() -> None:
    """Darker, or with another bit depth: brightness and contrast are normalized."""
    smooth = cv2.resize(IMAGE[:6, :8], (256, 192), interpolation=cv2.INTER_CUBIC)
    half = cv2.resize(smooth, (128, 96), interpolation=cv2.INTER_AREA)
    first = compute_thumbnail(smooth).astype(np.float64)
    for other in (smooth // 2, smooth.astype(np.uint16) * 257, smooth / 255, half):
        assert first @ compute_thumbnail(other).astype(np.float64) > 0.9995
    assert first @ compute_thumbnail(smooth[::-1]).astype(np.float64) < 0.9


def test_fingerprints_depend_on_values_dtype_and_shape() -> None:
    other = IMAGE.copy()
    other[-1, -1, -1] ^= 1
    flat = IMAGE.reshape(60, 40, 3)
    variants: list[Array] = [IMAGE, other, flat, IMAGE.astype(np.uint16), IMAGE[::-1]]
    assert len({compute_fingerprint(pixels) for pixels in variants}) == len(variants)
    assert compute_fingerprint(IMAGE) == compute_fingerprint(IMAGE.copy())
    assert compute_fingerprint(IMAGE[:, ::2]) == compute_fingerprint(np.ascontiguousarray(IMAGE[:, ::2]))


@given(
    st.sampled_from([np.uint8, np.uint16, np.int32]).flatmap(
        lambda dtype: arrays.arrays(dtype, arrays.array_shapes(min_dims=2, max_dims=2, max_side=9))
    )
)
def test_counting_runs_is_counting_pixels(values: Array) -> None:
    found, counts = np.unique(values, return_counts=True)
    assert list(count_values(values).items()) == list(zip(found.tolist(), counts.tolist(), strict=True))


def count_between_in(mask: Array) -> dict[int, int]:
    values = mask if mask.ndim == 2 else mask.astype(np.int32) @ np.array([65536, 256, 1])
    return count_neighbors(mask, values)[0]


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int32, np.int64])
def test_pixels_among_equal_ones(dtype: type) -> None:
    mask = np.full((6, 8), 7, dtype)
    mask[2, 2] = 9
    between, flat = count_neighbors(mask, mask)
    assert between == {}
    assert flat == {7: 6 * 8 - 9}


def test_whole_and_divided_values() -> None:
    values = np.zeros((40, 60), np.int32)
    values[2:20, 2:20], values[2:20, 20:40] = 70_000, 2  # touching
    values[22:38, 2:20], values[22:38, 40:58] = 3, 3
    values[0, 59] = 2  # a stray pixel
    values[30:, 25:30] = -1
    assert count_regions(values) == (2, 1)
    assert count_regions(np.zeros((1, 1), np.uint8)) == (0, 0)


@given(arrays.arrays(np.uint16, arrays.array_shapes(min_dims=2, max_dims=2, max_side=7), elements=st.integers(0, 3)))
def test_regions_are_those_of_scipy(values: Array) -> None:
    divided = 0
    for value in set(values[values > 0].tolist()):
        sizes = np.bincount(ndimage.label(values == value)[0].ravel())[1:]
        divided += sizes.max() < 0.95 * sizes.sum()
    assert count_regions(values) == (len(set(values[values > 0].tolist())) - divided, divided)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_interpolation_creates_values_between_others(dtype: type) -> None:
    small = np.repeat(np.repeat(np.array([[0, 200], [200, 0]], dtype), 8, 0), 8, 1)
    smooth = cv2.resize(small, (32, 32), interpolation=cv2.INTER_LINEAR)
    nearest = cv2.resize(small, (32, 32), interpolation=cv2.INTER_NEAREST)
    counts = count_values(smooth)
    assert len(counts) > 2
    made = count_between_in(smooth)
    assert sum(made.values()) >= 0.8 * sum(n for value, n in counts.items() if value not in (0, 200))
    assert not {0, 200} & set(made)
    assert count_between_in(nearest) == {}


def test_colors_are_compared_per_channel() -> None:
    mask = np.zeros((3, 9, 3), np.uint8)
    mask[:, 3:6], mask[:, 6:] = (100, 0, 50), (200, 0, 50)
    assert count_between_in(mask) == {}  # a band of three is as wide as what is looked at
    mask = mask[:, ::3]
    assert count_between_in(np.ascontiguousarray(mask)) == {100 << 16 | 50: 3}


def test_the_appearance_of_a_class_is_its_color_place_and_size() -> None:
    mask = np.tile(np.repeat(np.array([0, 255], np.uint8), [150, 50]), (150, 1))
    image = np.dstack([mask // 2 + 10] * 3)
    appearances = measure_appearances(mask, image)
    assert appearances.keys() == {0, 255}
    std = image.std()
    expected = {0: (10 - image.mean(), 0.375, 0.75), 255: (137 - image.mean(), 0.875, 0.25)}
    for value, (difference, column, share) in expected.items():
        np.testing.assert_allclose(appearances[value][:3], difference / std, rtol=0.02)
        np.testing.assert_allclose(appearances[value][3:5], [0.5, column], atol=0.02)
        assert appearances[value][5] == pytest.approx(np.log(share), abs=0.02)


def test_the_appearance_is_the_same_for_other_units_and_without_color() -> None:
    mask, image = (IMAGE[..., 0] > 100).astype(np.uint8), IMAGE[..., :1]
    expected = measure_appearances(mask, image)
    for other in (image.astype(np.uint16) * 257, image / 255, image.astype(np.float32) * 1e6):
        for value, appearance in measure_appearances(mask, other).items():
            np.testing.assert_allclose(appearance, expected[value], rtol=1e-6)
            assert len(appearance) == 5


def test_small_classes_have_no_appearance() -> None:
    mask = np.zeros((64, 64), np.uint8)
    mask[:4, :4] = 1
    mask[10:15, 10:15] = 2
    assert measure_appearances(mask, np.zeros((64, 64, 3), np.uint8)).keys() == {0, 2}


def draw_blobs(seed: int, size: tuple[int, int] = (192, 256)) -> Array:
    smooth = cv2.GaussianBlur(np.random.default_rng(seed).random(size), (0, 0), 8)
    return (smooth > np.median(smooth)).astype(np.uint8)


@pytest.mark.parametrize(("rows", "columns"), [(0, 0), (7, 0), (0, -9), (-6, 12), (12, 12), (3, -3)])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_the_shift_of_a_mask_is_measured(rows: int, columns: int, dtype: type) -> None:
    mask = draw_blobs(3)
    image = (mask * 90 + 60)[..., None].astype(dtype)
    shift = measure_shift(np.roll(mask, (rows, columns), (0, 1)), image)
    assert shift is not None
    assert (shift.rows, shift.columns) == (rows, columns)
    assert (shift.gain > 2) == (max(abs(rows), abs(columns)) > 2)


def test_the_shift_of_a_large_mask_is_in_its_own_pixels() -> None:
    mask = cv2.resize(draw_blobs(4), (2048, 1536), interpolation=cv2.INTER_NEAREST)
    shift = measure_shift(np.roll(mask, (40, -24), (0, 1)), np.dstack([mask * 90 + 60] * 3))
    assert shift is not None
    assert (shift.rows, shift.columns) == (40, -24)


@pytest.mark.parametrize("size", [(1, 1), (20, 300), (47, 64), (192, 256)])
def test_masks_without_borders_and_small_images_have_no_shift(size: tuple[int, int]) -> None:
    assert measure_shift(np.ones(size, np.uint8), np.zeros((*size, 3), np.uint8)) is None


def test_a_constant_image_shows_no_shift() -> None:
    shift = measure_shift(draw_blobs(5), np.full((192, 256, 3), 7, np.uint8))
    assert shift is None or shift.gain == 0
