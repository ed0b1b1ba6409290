"""Decoded images: their pixel types, alpha channel, missing data and orientation."""

import re
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from pixelwise.data.io.nodata import ALL_DATA, Nodata, format_values
from pixelwise.data.io.nodata import Array as Array
from pixelwise.errors import DataError

MAX_PIXELS = 178_956_970
"""Pillow's own limit, applied to every format: a small file can claim any size."""

NO_LABEL = -1
"""Mask value of pixels without a label."""
MAX_MASK_VALUE = 2**53
"""Largest mask value, positive or negative: float64 represents all integers up to here."""

ORIENTATION = 0x0112
"""Tag of the orientation in TIFF and EXIF; see `apply_orientation`."""

_MAX_EXACT = 2**24
"""float32 represents all integers up to here exactly."""

_CHANNEL_STEM = re.compile(r"(.+)_(\d{4})")
"""Stem of one channel of an image with one file per channel, as in nnU-Net: STEM_0000.png, STEM_0001.png, ..."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DecodedImage:
    """An image as stored, before the rules for alpha and missing data are applied."""

    pixels: Array
    """(H, W, C) uint8, uint16 or float32."""
    alpha: bool
    """True if the file declares the last channel as alpha."""
    nodata: Nodata = ALL_DATA
    """Values that the file declares."""
    masked: Array | None = None
    """(H, W, 1) or (H, W, C) bool, True where a mask in the file excludes the pixel; None: no mask."""

    def drop_alpha(self, channels: int | None) -> Array:
        """Return the pixels without a constant alpha channel.

        Args:
            channels: Expected number of channels; an alpha channel that it includes is kept as data.

        Raises:
            DataError: The alpha channel varies and is not included.
        """
        if not self.alpha or channels == self.pixels.shape[2]:
            return self.pixels
        if (self.pixels[..., -1] != self.pixels[0, 0, -1]).any():
            raise DataError(describe_varying_alpha(self.pixels.shape[2]))
        return np.ascontiguousarray(self.pixels[..., :-1])

    def find_missing(self, channels: int | None, nodata: Nodata = ALL_DATA) -> tuple[Array, Array | None]:
        """Find the missing values.

        Args:
            channels: As in `drop_alpha`.
            nodata: Values of missing data, in addition to those that the file declares.

        Returns:
            (H, W, C) pixels without alpha, and (H, W, C) bool of the missing values or None if there are none.

        Raises:
            DataError: As `drop_alpha`, unless `nodata` gives alpha a meaning.
        """
        masked = self.masked
        if self.alpha and nodata.alpha and channels != self.pixels.shape[2]:
            pixels, transparent = np.ascontiguousarray(self.pixels[..., :-1]), self.pixels[..., -1:] == 0
            masked = merge_masks(masked, transparent)
        else:
            pixels = self.drop_alpha(channels)
        missing = merge_masks((self.nodata | nodata).find(pixels), masked)
        return pixels, None if missing is None or not missing.any() else np.broadcast_to(missing, pixels.shape)

    def fill_missing(
        self, channels: int | None, nodata: Nodata = ALL_DATA, *, allow_nonfinite: bool = False
    ) -> tuple[Array, Array | None]:
        """Replace missing values by the mean of their channel, or by 0 where a channel has no values.

        Args:
            channels: As in `drop_alpha`.
            nodata: As in `find_missing`.
            allow_nonfinite: Accept NaN and infinite values that are not missing, which no network may get.

        Returns:
            (H, W, C) pixels, and (H, W, C) bool of the missing values or None if there are none.

        Raises:
            DataError: As `find_missing` and `require_finite`.
        """
        pixels, missing = self.find_missing(channels, nodata)
        if not allow_nonfinite:
            require_finite(pixels if missing is None else pixels[~missing])
        if missing is None:
            return pixels, None
        means = ChannelMeans()
        means.add(pixels, missing)
        return means.fill(pixels, missing), missing

    def fill_pixels(self, location: str, channels: int | None, nodata: Nodata = ALL_DATA) -> tuple[Array, Array | None]:
        """Fill missing values as `fill_missing` does; errors name the location.

        Returns:
            (H, W, C) pixels, and (H, W) bool of the pixels without data in any channel, or None if there are none.
        """
        try:
            pixels, missing = self.fill_missing(channels, nodata)
        except DataError as error:
            raise DataError(f"{location}: {error}") from error
        return pixels, None if missing is None else np.asarray(missing.all(2))


def merge_masks(first: Array | None, second: Array | None) -> Array | None:
    """Return where one of two masks is True; None masks nothing."""
    return first if second is None else second if first is None else first | second


def describe_varying_alpha(channels: int) -> str:
    """Return the message for an alpha channel that varies in an image of this number of channels."""
    return (
        f"The alpha channel varies. To train on it, write this into dataset.yaml (create it if there is none): "
        f"'nodata: alpha' if alpha 0 marks pixels without data, or 'channels: {channels}' if alpha is data. Otherwise "
        f"save the image without alpha."
    )


class ChannelMeans:
    """The mean of each channel over the valid values of an image, which may be added in parts."""

    def __init__(self) -> None:
        self.sums: Array = np.zeros(1)
        self.counts: Array = np.zeros(1, np.int64)

    def add(self, pixels: Array, missing: Array | None) -> None:
        """Add a part of the image; both arrays are (h, w, C)."""
        valid = np.ones(pixels.shape, bool) if missing is None else ~missing
        self.sums = self.sums + pixels.sum((0, 1), np.float64, where=valid)
        self.counts = self.counts + valid.sum((0, 1))

    def fill(self, pixels: Array, missing: Array) -> Array:
        """Return a part of the image with its missing values replaced by the means."""
        means = self.sums / np.maximum(self.counts, 1)
        if pixels.dtype.kind != "f":
            means = np.rint(means)
        return np.where(missing, means.astype(pixels.dtype), pixels)


def convert_dtype(pixels: Array) -> Array:
    """Keep uint8, uint16 and float32; convert other real numbers to float32 without scaling.

    Raises:
        DataError: The pixels are not real numbers, or integers that float32 cannot represent.
    """
    if pixels.dtype in (np.uint8, np.uint16, np.float32):
        return pixels
    if pixels.dtype.kind not in "iuf":
        raise DataError(f"Pixels are {pixels.dtype}. Save the image with 8 or 16 bits, or as float32.")
    if pixels.dtype.kind != "f" and pixels.dtype.itemsize > 2:
        # The lowest and the highest value of a type often mark missing data, and are found again after rounding.
        limits = np.iinfo(pixels.dtype)
        inner = pixels[(pixels != limits.min) & (pixels != limits.max)]
        largest = max(abs(int(inner.min(initial=0))), abs(int(inner.max(initial=0))))
        if largest > _MAX_EXACT:
            raise DataError(f"Pixels reach {largest}, but are exact only up to {_MAX_EXACT}. Save them as float32.")
    with np.errstate(over="ignore"):  # an overflow becomes infinite, which `require_finite` reports
        return pixels.astype(np.float32)


def require_finite(pixels: Array) -> None:
    """Raise DataError if a float image holds NaN or infinite values."""
    if pixels.dtype.kind == "f" and not (finite := np.isfinite(pixels)).all():
        raise DataError(
            f"The image contains {np.count_nonzero(~finite)} NaN or infinite values. If they mark missing data, write "
            f"'nodata: {format_values(np.unique(pixels[~finite]).tolist())}' into dataset.yaml (create it if there is "
            f"none) before training. Otherwise repair the image."
        )


def require_size(height: int, width: int) -> None:
    """Raise DataError for more than `MAX_PIXELS`, before memory is allocated."""
    if height * width > MAX_PIXELS:
        raise DataError(too_large())


def too_large() -> str:
    """Return the message for an image of more than `MAX_PIXELS`."""
    return f"The image has more than {MAX_PIXELS:,} pixels. Cut it into tiles."


def add_channel_axis(pixels: Array) -> Array:
    """Return (H, W) pixels as (H, W, 1), and (H, W, C) unchanged."""
    return pixels[..., None] if pixels.ndim == 2 else pixels


def apply_orientation(pixels: Array, orientation: int) -> Array:
    """Turn pixels upright by the TIFF or EXIF orientation: 2 to 4 flip, 5 to 8 also transpose, others are upright."""
    if 5 <= orientation <= 8:
        pixels = pixels.transpose(1, 0, 2)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return np.ascontiguousarray(pixels)


def split_channel(stem: str) -> tuple[str, int] | None:
    """Split a stem into image and channel: `road_1_0002` → `("road_1", 2)`; None if it names no channel."""
    match = _CHANNEL_STEM.fullmatch(stem)
    return (match[1], int(match[2])) if match else None


def stack_channels(files: Iterable[tuple[object, DecodedImage]]) -> DecodedImage:
    """Stack files of one channel each, given with their names, to one (H, W, C) image.

    Raises:
        DataError: A file has several channels, or a different size or type than the first.
    """
    bands, values, masks = [], {}, []
    for number, (name, decoded) in enumerate(files, start=1):
        try:
            band = decoded.drop_alpha(None)
        except DataError as error:
            raise DataError(f"{name}: {error}") from error
        if band.shape[2] != 1:
            raise DataError(
                f"{name}: The file has {band.shape[2]} channels, but an image with one file per channel needs one in "
                f"each. Save the channels in separate files."
            )
        bands.append(band)
        masks.append(decoded.masked)
        if decoded.nodata.values:
            values[number] = decoded.nodata.values
        first = bands[0]
        if (band.shape, band.dtype) != (first.shape, first.dtype):
            kinds = [f"{array.shape[0]}x{array.shape[1]} {array.dtype}" for array in (band, first)]
            raise DataError(
                f"{name}: The file is {kinds[0]}, but channel 0 of the image is {kinds[1]} (height x width). "
                f"Save all channels of an image with the same size and type."
            )
    masked = None
    if any(mask is not None for mask in masks):
        masked = np.concatenate([np.zeros(bands[0].shape, bool) if mask is None else mask for mask in masks], axis=-1)
    pixels = np.concatenate(bands, axis=-1)
    return DecodedImage(pixels=pixels, alpha=False, nodata=Nodata(channels=values), masked=masked)
