"""Images whose channels lie in a file each, called as nnU-Net does: STEM_0000.png, STEM_0001.png, ..."""

import re
from collections.abc import Iterable

import numpy as np

from pixelwise.data.io.decoded import Array, Decoded
from pixelwise.errors import DataError

_NAME = re.compile(r"(.+)_(\d{4})")


def split_channel(stem: str) -> tuple[str, int] | None:
    """`road_1_0002` → `("road_1", 2)`; None of a stem that names no channel."""
    found = _NAME.fullmatch(stem)
    return (found[1], int(found[2])) if found else None


def stack(files: Iterable[tuple[object, Decoded]]) -> Decoded:
    """The files of an image in the order of its channels, each with its name → (H, W, C).

    DataError names a file of several channels, or of another size or type than the first.
    """
    bands = [(name, _band(name, decoded)) for name, decoded in files]
    first = bands[0][1]
    for name, band in bands:
        if (band.shape, band.dtype) != (first.shape, first.dtype):
            raise DataError(
                f"{name}: is {_kind(band)}, but channel 0 of the image is {_kind(first)} (height x width); "
                f"save all channels of an image in one size and type."
            )
    return Decoded(pixels=np.concatenate([band for _, band in bands], axis=-1), alpha=False)


def _band(name: object, decoded: Decoded) -> Array:
    """(H, W, 1) of a file that holds one channel."""
    try:
        band = decoded.without_alpha(None)
    except DataError as error:
        raise DataError(f"{name}: {error}") from error
    if band.shape[2] != 1:
        raise DataError(
            f"{name}: has {band.shape[2]} channels, but each file of an image of several holds one; save them apart."
        )
    return band


def _kind(band: Array) -> str:
    return f"{band.shape[0]}x{band.shape[1]} {band.dtype}"
