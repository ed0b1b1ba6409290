import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from pixelwise.data.io.images import Array
from pixelwise.data.sample_stats import BALANCE, THUMBNAIL, count_values, fingerprint, image_traits, mask_traits

RNG = np.random.default_rng(0)
IMAGE = RNG.integers(0, 256, (40, 60, 3), np.uint8)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32, np.float64])
@pytest.mark.parametrize("channels", [1, 2, 3, 4, 7])
def test_thumbnails_have_mean_0_and_length_1_whatever_the_image(dtype: type, channels: int) -> None:
    traits = image_traits(RNG.integers(0, 256, (33, 50, channels)).astype(dtype))
    wide = traits.thumbnail.astype(np.float64)
    assert wide.shape == (THUMBNAIL**2,)
    assert abs(wide.mean()) < 1e-3
    assert np.linalg.norm(wide) == pytest.approx(1, abs=1e-2)
    assert traits.red_minus_blue.shape == ((BALANCE**2,) if channels == 3 else (0,))


def test_a_constant_image_is_like_no_other() -> None:
    assert not image_traits(np.full((40, 60, 3), 77, np.uint8)).thumbnail.any()


def test_copies_have_the_same_thumbnail() -> None:
    """Darker, or at another depth: brightness and contrast are taken out."""
    smooth = cv2.resize(IMAGE[:6, :8], (256, 192), interpolation=cv2.INTER_CUBIC)
    half = cv2.resize(smooth, (128, 96), interpolation=cv2.INTER_AREA)
    first = image_traits(smooth).thumbnail.astype(np.float64)
    for other in (smooth // 2, smooth.astype(np.uint16) * 257, smooth / 255, half):
        assert first @ image_traits(other).thumbnail.astype(np.float64) > 0.9995
    assert first @ image_traits(smooth[::-1]).thumbnail.astype(np.float64) < 0.9


def test_red_minus_blue_is_in_raw_units_and_turns_with_the_channels() -> None:
    pixels = np.zeros((16, 16, 3), np.uint8)
    pixels[:8, :, 0], pixels[8:, :, 2] = 200, 100
    balance = image_traits(pixels).red_minus_blue.reshape(BALANCE, BALANCE)
    assert (balance[:4] == 200).all()
    assert (balance[4:] == -100).all()
    swapped = image_traits(np.ascontiguousarray(pixels[..., ::-1])).red_minus_blue
    np.testing.assert_array_equal(swapped, -balance.ravel())


def test_values_that_are_not_finite_are_counted_and_left_out() -> None:
    pixels = IMAGE.astype(np.float32)
    pixels[0, 0] = np.nan, np.inf, -np.inf
    traits = image_traits(pixels)
    assert traits.not_finite == 3
    assert np.isfinite(traits.thumbnail).all()
    assert image_traits(IMAGE).not_finite == 0


def test_fingerprints_tell_values_types_and_sizes_apart() -> None:
    other = IMAGE.copy()
    other[-1, -1, -1] ^= 1
    flat = IMAGE.reshape(60, 40, 3)
    variants: list[Array] = [IMAGE, other, flat, IMAGE.astype(np.uint16), IMAGE[::-1]]
    assert len({fingerprint(pixels) for pixels in variants}) == len(variants)
    assert fingerprint(IMAGE) == fingerprint(IMAGE.copy())
    assert fingerprint(IMAGE[:, ::2]) == fingerprint(np.ascontiguousarray(IMAGE[:, ::2]))


@given(
    st.sampled_from([np.uint8, np.uint16, np.int32]).flatmap(
        lambda dtype: arrays.arrays(dtype, arrays.array_shapes(min_dims=2, max_dims=2, max_side=9))
    )
)
def test_counting_runs_is_counting_pixels(values: Array) -> None:
    found, counts = np.unique(values, return_counts=True)
    assert list(count_values(values).items()) == list(zip(found.tolist(), counts.tolist(), strict=True))


def between(mask: Array) -> dict[int, int]:
    values = mask if mask.ndim == 2 else mask.astype(np.int32) @ np.array([65536, 256, 1])
    return mask_traits(mask, values, count_values(values), None).between


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_smooth_resizing_shows_between_others(dtype: type) -> None:
    small = np.repeat(np.repeat(np.array([[0, 200], [200, 0]], dtype), 8, 0), 8, 1)
    smooth = cv2.resize(small, (32, 32), interpolation=cv2.INTER_LINEAR)
    nearest = cv2.resize(small, (32, 32), interpolation=cv2.INTER_NEAREST)
    counts = count_values(smooth)
    assert len(counts) > 2
    made = between(smooth)
    assert sum(made.values()) >= 0.8 * sum(n for value, n in counts.items() if value not in (0, 200))
    assert not {0, 200} & set(made)
    assert between(nearest) == {}


def test_colors_are_between_channel_by_channel() -> None:
    mask = np.zeros((3, 9, 3), np.uint8)
    mask[:, 3:6], mask[:, 6:] = (100, 0, 50), (200, 0, 50)
    assert between(mask) == {}  # a band of three is as wide as what is looked at
    mask = mask[:, ::3]
    assert between(np.ascontiguousarray(mask)) == {100 << 16 | 50: 3}


def test_the_image_under_a_mask_of_two_values() -> None:
    mask = np.tile(np.repeat(np.array([0, 255], np.uint8), 100), (150, 1))
    image = np.dstack([mask // 2 + 10] * 3)
    traits = mask_traits(mask, mask, count_values(mask), image)
    assert traits.gray == {0: 10, 255: 137}
    assert mask_traits(mask, mask, count_values(mask), None).gray == {}
    three = mask.copy()
    three[0, 0] = 7
    assert mask_traits(three, three, count_values(three), image).gray == {}
