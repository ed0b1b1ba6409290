"""Images with one file per channel, named as in nnU-Net: STEM_0000.png, STEM_0001.png, ..."""

import re
from collections.abc import Iterable

import numpy as np

from pixelwise.data.io.decoded_image import DecodedImage
from pixelwise.errors import DataError

_CHANNEL_STEM = re.compile(r"(.+)_(\d{4})")


def split_channel(stem: str) -> tuple[str, int] | None:
    """Split a stem into image and channel: `road_1_0002` → `("road_1", 2)`; None if it names no channel."""
    match = _CHANNEL_STEM.fullmatch(stem)
    return (match[1], int(match[2])) if match else None


def stack_channels(files: Iterable[tuple[object, DecodedImage]]) -> DecodedImage:
    """Stack files of one channel each, given with their names, to one (H, W, C) image.

    Raises:
        DataError: A file has several channels, or a different size or type than the first.
    """
    bands = []
    for name, decoded in files:
        try:
            band = decoded.drop_alpha(None)
        except DataError as error:
            raise DataError(f"{name}: {error}") from error
        if band.shape[2] != 1:
            raise DataError(
                f"{name}: has {band.shape[2]} channels, but an image with one file per channel needs one in each. "
                f"Save the channels in separate files."
            )
        bands.append(band)
        first = bands[0]
        if (band.shape, band.dtype) != (first.shape, first.dtype):
            kinds = [f"{array.shape[0]}x{array.shape[1]} {array.dtype}" for array in (band, first)]
            raise DataError(
                f"{name}: is {kinds[0]}, but channel 0 of the image is {kinds[1]} (height x width). "
                f"Save all channels of an image with the same size and type."
            )
    return DecodedImage(pixels=np.concatenate(bands, axis=-1), alpha=False)
