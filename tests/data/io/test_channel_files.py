import numpy as np
import pytest

from pixelwise.data.io.channel_files import split_channel, stack_channels
from pixelwise.data.io.decoded_image import DecodedImage
from pixelwise.errors import DataError


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
    with pytest.raises(DataError, match=r"^a\.png: the alpha channel varies"):
        stack_channels([("a.png", DecodedImage(pixels=gray, alpha=True))])
