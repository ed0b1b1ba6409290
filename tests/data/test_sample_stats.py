import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from pixelwise.data.io.images import Array
from pixelwise.data.sample_stats import (
    COLOR_MAP_SIDE,
    THUMBNAIL_SIDE,
    compute_fingerprint,
    compute_mean_gray,
    compute_thumbnails,
    count_between,
    count_values,
)

RNG = np.random.default_rng(0)
IMAGE = RNG.integers(0, 256, (40, 60, 3), np.uint8)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32, np.float64])
@pytest.mark.parametrize("channels", [1, 2, 3, 4, 7])
def test_thumbnails_have_mean_0_and_norm_1(dtype: type, channels: int) -> None:
    thumbnail, red_minus_blue = compute_thumbnails(RNG.integers(0, 256, (33, 50, channels)).astype(dtype))
    wide = thumbnail.astype(np.float64)
    assert wide.shape == (THUMBNAIL_SIDE**2,)
    assert abs(wide.mean()) < 1e-3
    assert np.linalg.norm(wide) == pytest.approx(1, abs=1e-2)
    assert red_minus_blue.shape == ((COLOR_MAP_SIDE**2,) if channels == 3 else (0,))


def test_the_thumbnail_of_a_constant_image_is_zero() -> None:
    assert not compute_thumbnails(np.full((40, 60, 3), 77, np.uint8))[0].any()


def test_copies_have_the_same_thumbnail() -> None:
    """Darker, or with another bit depth: brightness and contrast are normalized."""
    smooth = cv2.resize(IMAGE[:6, :8], (256, 192), interpolation=cv2.INTER_CUBIC)
    half = cv2.resize(smooth, (128, 96), interpolation=cv2.INTER_AREA)
    first = compute_thumbnails(smooth)[0].astype(np.float64)
    for other in (smooth // 2, smooth.astype(np.uint16) * 257, smooth / 255, half):
        assert first @ compute_thumbnails(other)[0].astype(np.float64) > 0.9995
    assert first @ compute_thumbnails(smooth[::-1])[0].astype(np.float64) < 0.9


def test_red_minus_blue_is_in_raw_units_and_changes_its_sign_with_the_channels() -> None:
    pixels = np.zeros((16, 16, 3), np.uint8)
    pixels[:8, :, 0], pixels[8:, :, 2] = 200, 100
    balance = compute_thumbnails(pixels)[1].reshape(COLOR_MAP_SIDE, COLOR_MAP_SIDE)
    assert (balance[:4] == 200).all()
    assert (balance[4:] == -100).all()
    _, swapped = compute_thumbnails(np.ascontiguousarray(pixels[..., ::-1]))
    np.testing.assert_array_equal(swapped, -balance.ravel())


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
    return count_between(mask, values)


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


def test_the_mean_of_the_image_under_each_mask_value() -> None:
    mask = np.tile(np.repeat(np.array([0, 255], np.uint8), 100), (150, 1))
    image = np.dstack([mask // 2 + 10] * 3)
    assert compute_mean_gray(mask, image) == {0: 10, 255: 137}
