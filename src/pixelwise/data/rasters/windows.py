"""Windows of large images: their missing values, errors that name the window, and label rows regrouped to blocks."""

import contextlib
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pixelwise.data.io.decoded_image import Array, ChannelMeans, DecodedImage, describe_varying_alpha
from pixelwise.data.io.nodata import Nodata
from pixelwise.errors import DataError
from pixelwise.shapes import Size

BLOCK = 512
"""Side of the tiles of a GeoTIFF and of the chunks of a Zarr."""
_SCAN_SIDE = 1024
"""Side of the windows in which a whole image is scanned."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FilledWindows(ABC):
    """An open image whose missing values are filled with the mean of their channel in the whole image."""

    path: Path
    channels: int
    """Channels of the model; decides whether an alpha channel is data."""
    nodata: Nodata
    """Values of missing data, in addition to those that the file declares."""
    means: ChannelMeans
    """Means of the whole image after `scan`."""

    @property
    @abstractmethod
    def size(self) -> Size:
        """Height and width."""

    @abstractmethod
    def decode(self, rows: slice, columns: slice) -> DecodedImage:
        """Read a window as stored, with the alpha and missing data of the file."""

    def read(self, rows: slice, columns: slice) -> Array:
        """Read a window as (h, w, C) uint8, uint16 or float32 without missing values."""
        pixels, missing = self._find_missing(rows, columns)
        return pixels if missing is None else self.means.fill(pixels, missing)

    def find_missing(self, rows: slice, columns: slice) -> Array | None:
        """Return (h, w) bool of the pixels without data in any channel; None if there are none."""
        missing = self._find_missing(rows, columns)[1]
        return None if missing is None else np.asarray(missing.all(axis=2))

    def scan(self) -> None:
        """Read the whole image for its means, and require that an alpha channel that is dropped is constant."""
        alphas = set[float]()
        for top in range(0, self.size[0], _SCAN_SIDE):
            for left in range(0, self.size[1], _SCAN_SIDE):
                rows = slice(top, min(top + _SCAN_SIDE, self.size[0]))
                columns = slice(left, min(left + _SCAN_SIDE, self.size[1]))
                decoded = self.decode(rows, columns)
                num_channels = decoded.pixels.shape[2]
                if decoded.alpha and not self.nodata.alpha and self.channels != num_channels:
                    alphas.update(np.unique(decoded.pixels[..., -1]).tolist())
                    if len(alphas) > 1:
                        raise DataError(f"{self.path}: {describe_varying_alpha(num_channels)}")
                self.means.add(*decoded.find_missing(self.channels, self.nodata))

    def _find_missing(self, rows: slice, columns: slice) -> tuple[Array, Array | None]:
        return self.decode(rows, columns).find_missing(self.channels, self.nodata)


def regroup_blocks(strips: Iterable[Array]) -> Iterator[tuple[int, Array]]:
    """Yield the rows of the strips in whole blocks with their first row, so that each block is compressed once."""
    top, waiting = 0, np.empty((0, 0))
    for strip in strips:
        waiting = np.concatenate([waiting, strip]) if len(waiting) else strip
        num_whole = len(waiting) // BLOCK * BLOCK
        if num_whole:
            yield top, waiting[:num_whole]
            top, waiting = top + num_whole, waiting[num_whole:]
    if len(waiting):
        yield top, waiting


@contextlib.contextmanager
def convert_window_errors(path: Path, rows: slice, columns: slice, *failures: type[Exception]) -> Iterator[None]:
    """Turn the failures of a decoder into DataError with file and window; add the file to a DataError."""
    try:
        yield
    except DataError as error:
        raise DataError(f"{path}: {error}") from error
    except failures as error:
        window = f"rows {rows.start} to {rows.stop}, columns {columns.start} to {columns.stop}"
        raise DataError(f"{path}: The image cannot be decoded in {window}. Replace or remove it.") from error
