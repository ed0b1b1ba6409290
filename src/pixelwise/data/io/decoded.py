"""What a decoded image is: its pixels, the types they come in, and which of them hold no data."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from pixelwise.errors import DataError

Array = npt.NDArray[Any]

MAX_PIXELS = 178_956_970
"""Pillow's own limit, held for every format: a small file can claim any size."""

ORIENTATION = 0x0112
"""Tag, of TIFF and of EXIF alike, that says how an image is turned; see `oriented`."""

_MAX_EXACT = 2**24
"""float32 tells all integers up to here apart."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Decoded:
    """An image as stored, before the rules on alpha and on missing data are applied."""

    pixels: Array
    """(H, W, C) uint8, uint16 or float32."""
    alpha: bool
    """Whether the file says that the last channel is alpha."""
    nodata: float | None = None
    """The value that stands for missing data; NaN is one."""

    def without_alpha(self, channels: int | None) -> Array:
        """Drops a constant alpha. A varying one is data if `channels` counts it, else an error."""
        if not self.alpha or channels == self.pixels.shape[2]:
            return self.pixels
        if (self.pixels[..., -1] != self.pixels[0, 0, -1]).any():
            raise DataError(
                f"the alpha channel varies, so it may carry data; write 'channels: "
                f"{self.pixels.shape[2]}' into dataset.yaml to use it, or save without alpha."
            )
        return np.ascontiguousarray(self.pixels[..., :-1])

    def completed(self, channels: int | None) -> tuple[Array, Array | None]:
        """The image with its missing values filled, and which of them were missing.

        (H, W, C) without a constant alpha, missing values replaced by the mean of their channel in
        this image; and (H, W, C) bool, or None where all are there. Where a channel is missing
        altogether, it is 0.
        """
        pixels, missing = self._parted(channels)
        return pixels if missing is None else _fill(pixels, missing), missing

    def filled(self, channels: int | None) -> tuple[Array, Array | None]:
        """`completed`, as a network may see it: NaN and infinite values that are not nodata are a DataError."""
        pixels, missing = self._parted(channels)
        require_finite(pixels if missing is None else pixels[~missing])
        return pixels if missing is None else _fill(pixels, missing), missing

    def _parted(self, channels: int | None) -> tuple[Array, Array | None]:
        pixels = self.without_alpha(channels)
        return pixels, find_missing(pixels, self.nodata)


class Means:
    """The mean of each channel over the values that are there, of an image that may come in parts."""

    def __init__(self, channels: int) -> None:
        self.sums = np.zeros(channels)
        self.counts = np.zeros(channels, np.int64)

    def add(self, pixels: Array, missing: Array | None) -> None:
        """(h, w, C) each: a part of the image, and which of its values are missing."""
        there = np.ones(pixels.shape, bool) if missing is None else ~missing
        self.sums += pixels.sum((0, 1), np.float64, where=there)
        self.counts += there.sum((0, 1))

    def fill(self, pixels: Array, missing: Array) -> Array:
        """A part of the image with the means in place of what is missing; 0 where nothing of a channel is there."""
        means = self.sums / np.maximum(self.counts, 1)
        if pixels.dtype.kind != "f":
            means = np.rint(means)
        return np.where(missing, means.astype(pixels.dtype), pixels)


def as_supported(pixels: Array) -> Array:
    """8-bit and unsigned 16-bit pixels as they are; all other real numbers as float32, in their units.

    Raises DataError for integers that float32 cannot tell apart.
    """
    if pixels.dtype in (np.uint8, np.uint16, np.float32):
        return pixels
    if pixels.dtype.kind not in "iuf":
        raise DataError(f"pixels are {pixels.dtype}; save the image with 8 or 16 bit, or as float32.")
    if pixels.dtype.kind != "f" and pixels.size:
        largest = max(abs(int(pixels.min())), abs(int(pixels.max())))
        if largest > _MAX_EXACT:
            raise DataError(f"pixels reach {largest}, but are exact up to {_MAX_EXACT} only; save them as float32.")
    with np.errstate(over="ignore"):  # becomes infinite, which is looked for
        return pixels.astype(np.float32)


def require_finite(pixels: Array) -> None:
    """DataError where a float image holds NaN or infinite values."""
    if pixels.dtype.kind == "f" and not (finite := np.isfinite(pixels)).all():
        raise DataError(
            f"the image holds {np.count_nonzero(~finite)} NaN or infinite values; save it with its nodata "
            f"value as a GeoTIFF (NaN is one), or repair it."
        )


def require_size(height: int, width: int) -> None:
    """DataError for more than `MAX_PIXELS`, before memory is taken for them."""
    if height * width > MAX_PIXELS:
        raise DataError(too_large())


def too_large() -> str:
    return f"more than {MAX_PIXELS:,} pixels; cut the image into tiles."


def find_missing(pixels: Array, nodata: float | None) -> Array | None:
    """(H, W, C) bool; None where nothing is missing.

    A float is missing by itself. An integer is only where all channels are nodata: in one of them
    0 may be a dark color.
    """
    if nodata is None:
        return None
    if pixels.dtype.kind == "f":
        missing: Array = np.isnan(pixels) if np.isnan(nodata) else pixels == _as_float32(nodata)
    else:
        missing = np.broadcast_to((pixels == nodata).all(2, keepdims=True), pixels.shape)
    return missing if missing.any() else None


def with_channels(pixels: Array) -> Array:
    return pixels[..., None] if pixels.ndim == 2 else pixels


def oriented(pixels: Array, orientation: int) -> Array:
    """The TIFF/EXIF orientation tag applied: 1 is upright, 2 to 4 flips, 5 to 8 with a transpose."""
    if orientation >= 5:
        pixels = pixels.transpose(1, 0, 2)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return np.ascontiguousarray(pixels)


def _as_float32(value: float) -> np.float32:
    """As the pixels were rounded: the lowest double is a common nodata value, and becomes infinite."""
    with np.errstate(over="ignore"):
        return np.float32(value)


def _fill(pixels: Array, missing: Array) -> Array:
    means = Means(pixels.shape[2])
    means.add(pixels, missing)
    return means.fill(pixels, missing)
