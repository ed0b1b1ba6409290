import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pixelwise.data.io.decoded_image import (
    Array,
    DecodedImage,
    convert_dtype,
    require_finite,
    split_channel,
    stack_channels,
)
from pixelwise.data.io.nodata import Nodata
from pixelwise.errors import DataError

NAN = float("nan")


def decoded(pixels: object, dtype: type, nodata: float | None) -> DecodedImage:
    """One row of pixels of two channels."""
    return DecodedImage(pixels=np.array([pixels], dtype), alpha=False, nodata=declare(nodata))


def declare(nodata: float | None) -> Nodata:
    return Nodata(values=() if nodata is None else (nodata,))


# Types.


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_supported_pixels_are_not_copied(dtype: type) -> None:
    pixels = np.ones((2, 3, 1), dtype)
    assert convert_dtype(pixels) is pixels


@pytest.mark.parametrize("dtype", [np.int8, np.int16, np.float16])
def test_other_short_numbers_keep_each_value_as_float32(dtype: type) -> None:
    every = np.arange(2 ** (8 * dtype().itemsize), dtype=np.uint16).astype(f"u{dtype().itemsize}").view(dtype)
    converted = convert_dtype(every)
    assert converted.dtype == np.float32
    np.testing.assert_array_equal(converted, every)


@pytest.mark.parametrize("dtype", [np.int32, np.uint32, np.int64])
def test_long_integers_must_fit(dtype: type) -> None:
    assert convert_dtype(np.array([2**24, 1], dtype)).tolist() == [2**24, 1]
    with pytest.raises(
        DataError, match=r"Pixels reach 16777217, but are exact only up to 16777216\. Save them as float32"
    ):
        convert_dtype(np.array([2**24 + 1], dtype))
    if dtype != np.uint32:
        with pytest.raises(DataError, match="Pixels reach 16777217"):
            convert_dtype(np.array([-(2**24) - 1], dtype))


def test_doubles_are_rounded() -> None:
    converted = convert_dtype(np.array([0.1, 1e300, NAN]))
    assert converted.dtype == np.float32
    np.testing.assert_array_equal(converted, np.array([0.1, np.inf, NAN], np.float32))


@pytest.mark.parametrize("dtype", [np.complex64, np.bool_])
def test_values_that_are_not_finite_are_an_error_in_a_window(dtype: type) -> None:
    with pytest.raises(DataError, match=f"Pixels are {np.dtype(dtype)}. Save the image with 8 or 16 bits, or as float"):
        convert_dtype(np.zeros((2, 2), dtype))


# Missing data.


def test_a_complete_image_has_no_missing_pixels() -> None:
    for nodata in (None, 7.0, NAN):
        image = decoded([[1, 2], [3, 4]], np.float32, nodata)
        pixels, missing = image.fill_missing(None)
        assert missing is None
        assert pixels is image.pixels


def test_float_values_are_missing_individually() -> None:
    """Each is filled with the mean of its channel."""
    pixels, missing = decoded([[-9999, 2], [-9999, -9999], [3, 6], [5, 1]], np.float32, -9999).fill_missing(None)
    assert missing is not None
    assert missing.tolist() == [[[True, False], [True, True], [False, False], [False, False]]]
    assert pixels.tolist() == [[[4, 2], [4, 3], [3, 6], [5, 1]]]


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_integer_pixels_are_missing_if_all_channels_are(dtype: type) -> None:
    """0 in one of them is a dark color."""
    pixels, missing = decoded([[0, 0], [0, 4], [9, 6], [4, 3]], dtype, 0).fill_missing(None)
    assert missing is not None
    assert missing.tolist() == [[[True, True], [False, False], [False, False], [False, False]]]
    assert pixels.tolist() == [[[4, 4], [0, 4], [9, 6], [4, 3]]]
    assert pixels.dtype == dtype


@pytest.mark.parametrize("nodata", [-9999.0, 256.0, 0.5, NAN, float("inf")])
def test_a_nodata_value_outside_the_type_matches_nothing(nodata: float) -> None:
    assert decoded([[0, 1], [255, 255]], np.uint8, nodata).fill_missing(None)[1] is None


@pytest.mark.parametrize("nodata", [NAN, float("inf"), -3.4028234663852886e38, -1.7976931348623157e308, 0.1])
def test_nodata_is_compared_as_the_pixels_were_rounded(nodata: float) -> None:
    stored = np.array([[[nodata], [2.0]]])
    image = DecodedImage(pixels=convert_dtype(stored), alpha=False, nodata=declare(nodata))
    pixels, missing = image.fill_missing(None)
    assert missing is not None
    assert missing.ravel().tolist() == [True, False]
    assert pixels.ravel().tolist() == [2, 2]


def test_an_image_without_any_data_is_0() -> None:
    pixels, missing = decoded([[NAN, NAN]] * 3, np.float32, NAN).fill_missing(None)
    assert missing is not None
    assert missing.all()
    assert not pixels.any()


def test_alpha_is_dropped_before() -> None:
    image = DecodedImage(pixels=np.array([[[0, 255], [6, 255]]], np.uint8), alpha=True, nodata=declare(0))
    pixels, missing = image.fill_missing(None)
    assert pixels.tolist() == [[[6], [6]]]
    assert missing is not None
    assert missing.tolist() == [[[True], [False]]]


@pytest.mark.parametrize("value", [NAN, np.inf, -np.inf])
@pytest.mark.parametrize("nodata", [None, -9999.0])
def test_values_that_are_not_finite_are_an_error(value: float, nodata: float | None) -> None:
    image = decoded([[value, 1], [-9999, value]], np.float32, nodata)
    with pytest.raises(
        DataError, match=rf"contains 2 NaN or infinite values\. .* write 'nodata: {value}' into dataset"
    ):
        image.fill_missing(None)


def test_only_floats_are_checked_for_nan() -> None:
    for dtype in (np.uint8, np.uint16, np.float32):
        require_finite(np.ones((2, 2, 1), dtype))


@given(st.integers(0, 2**32), st.sampled_from([np.uint8, np.uint16, np.float32]))
def test_filling_keeps_the_mean_and_valid_values(seed: int, dtype: type) -> None:
    rng = np.random.default_rng(seed)
    pixels: Array = rng.integers(1, 200, (5, 7, 3)).astype(dtype)
    gone = rng.random((5, 7)) < 0.5
    pixels[gone] = 0
    filled, missing = DecodedImage(pixels=pixels, alpha=False, nodata=declare(0)).fill_missing(None)
    assert (np.zeros_like(gone) if missing is None else missing.all(2)).tolist() == gone.tolist()
    np.testing.assert_array_equal(filled[~gone], pixels[~gone])
    if gone.any() and not gone.all():
        np.testing.assert_allclose(filled[gone], np.broadcast_to(pixels[~gone].mean(0), filled[gone].shape), atol=0.5)


@pytest.mark.parametrize(
    ("stem", "parts"),
    [
        ("road_1_0002", ("road_1", 2)),
        ("a_0000_0001", ("a_0000", 1)),
        ("road_00002", None),
        ("road_002", None),
        ("_0002", None),
        ("road0002", None),
        ("road_0002_mask", None),
    ],
)
def test_four_digits_at_the_end_are_the_channel(stem: str, parts: tuple[str, int] | None) -> None:
    assert split_channel(stem) == parts


def test_channels_are_stacked_in_the_order_given() -> None:
    bands = [np.full((2, 3, 1), value, np.uint16) for value in (500, 7)]
    stacked = stack_channels(
        (f"{number}.png", DecodedImage(pixels=band, alpha=False)) for number, band in enumerate(bands)
    )
    np.testing.assert_array_equal(stacked.pixels, np.broadcast_to(np.array([500, 7], np.uint16), (2, 3, 2)))
    assert stacked.pixels.dtype == np.uint16
    assert not stacked.alpha


def test_a_constant_alpha_channel_is_dropped() -> None:
    gray = np.full((2, 3, 2), 9, np.uint8)
    assert stack_channels([("a.png", DecodedImage(pixels=gray, alpha=True))]).pixels.shape == (2, 3, 1)
    gray[0, 0, 1] = 8
    with pytest.raises(DataError, match=r"^a\.png: The alpha channel varies"):
        stack_channels([("a.png", DecodedImage(pixels=gray, alpha=True))])


# Masks and alpha as validity.


def test_pixels_of_a_mask_are_missing_in_all_channels() -> None:
    masked = np.array([[[True], [False]]])
    image = DecodedImage(pixels=np.array([[[1, 2], [5, 6]]], np.uint8), alpha=False, masked=masked)
    pixels, missing = image.fill_missing(None)
    assert missing is not None
    assert missing.tolist() == [[[True, True], [False, False]]]
    assert pixels.tolist() == [[[5, 6], [5, 6]]]


def test_alpha_of_0_is_missing_if_it_is_declared() -> None:
    stored = np.array([[[1, 2, 0], [5, 6, 255], [7, 8, 9]]], np.uint8)
    image = DecodedImage(pixels=stored, alpha=True)
    with pytest.raises(
        DataError, match=r"write this into dataset.yaml .*'nodata: alpha' if .* or 'channels: 3' if alpha is data"
    ):
        image.find_missing(None)
    pixels, missing = image.find_missing(None, Nodata(alpha=True))
    assert missing is not None
    assert missing.all(2).tolist() == [[True, False, False]]
    assert pixels.tolist() == [[[1, 2], [5, 6], [7, 8]]]
    pixels, missing = image.find_missing(3, Nodata(alpha=True))
    assert missing is None  # alpha is a channel of data
    assert pixels is stored


def test_stacked_channels_keep_their_own_missing_values() -> None:
    first = decoded([[0], [1], [2]], np.uint16, 0)
    second = DecodedImage(pixels=first.pixels + np.uint16(5), alpha=False, masked=first.pixels == 2)
    _, missing = stack_channels([("a", first), ("b", second)]).find_missing(None)
    assert missing is not None
    assert missing[0].tolist() == [[True, False], [False, False], [False, True]]
