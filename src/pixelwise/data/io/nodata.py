"""Values of missing data in images: those that a file declares, or `nodata` of dataset.yaml and of a model."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from pixelwise.errors import DataError

Array = npt.NDArray[Any]

ALPHA = "alpha"
"""The value of `nodata` for pixels with an alpha of 0."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Nodata:
    """Values of missing data."""

    values: tuple[float, ...] = ()
    """Values of every channel; may be NaN or infinite."""
    channels: Mapping[int, tuple[float, ...]] = field(default_factory=dict)
    """Channel, counted from 1 → values of that channel only."""
    alpha: bool = False
    """True if pixels are missing where alpha is 0."""

    def __bool__(self) -> bool:
        return bool(self.values or self.channels or self.alpha)

    def __or__(self, other: "Nodata") -> "Nodata":
        numbers = sorted({*self.channels, *other.channels})
        return Nodata(
            values=(*self.values, *other.values),
            channels={n: (*self.channels.get(n, ()), *other.channels.get(n, ())) for n in numbers},
            alpha=self.alpha or other.alpha,
        )

    def find(self, pixels: Array) -> Array | None:
        """Find the missing values of pixels (H, W, C) without alpha: (H, W, C) bool, or None if there are none.

        A float value is missing on its own, and so is a value of a single channel. Other integers are missing only if
        all channels of their pixel have the value, because 0 in one channel may be a dark color.
        """
        if not (self.values or self.channels):
            return None
        missing = np.zeros(pixels.shape, bool)
        for value in self.values:
            found = _equals(pixels, value)
            missing |= found if pixels.dtype.kind == "f" else found.all(2, keepdims=True)
        for channel, values in self.channels.items():
            band = slice(channel - 1, channel)
            for value in values:
                missing[..., band] |= _equals(pixels[..., band], value)
        return missing if missing.any() else None

    def to_plain(self) -> Any:
        """Return the value of `nodata` in dataset.yaml, without NaN, which JSON does not have."""
        if self.channels:
            return {channel: [_to_plain(value) for value in values] for channel, values in self.channels.items()}
        return [*map(_to_plain, self.values), *([ALPHA] if self.alpha else [])]

    def format(self, found: Iterable[float], num_channels: int) -> str:
        """Return the value of `nodata` in dataset.yaml with further values of all channels."""
        values = list(found)
        if not self.channels:
            return format_values([*self.values, *values, *([ALPHA] if self.alpha else [])])
        numbers = range(1, num_channels + 1)
        channels = {n: format_values([*self.channels.get(n, ()), *values]) for n in numbers}
        return f"{{{', '.join(f'{n}: {text}' for n, text in channels.items())}}}"


ALL_DATA = Nodata()
"""Every value is data."""


def parse_nodata(given: object) -> Nodata:
    """Parse `nodata` of dataset.yaml: a value, a list of values, or a mapping from channels to either.

    Raises:
        DataError: It has another form.
    """
    if isinstance(given, Mapping):
        channels = {_parse_channel(key): tuple(map(_parse_value, _as_list(value))) for key, value in given.items()}
        return Nodata(channels=channels)
    values = _as_list(given)
    numbers = tuple(_parse_value(value) for value in values if value != ALPHA)
    return Nodata(values=numbers, alpha=len(numbers) < len(values))


def format_values(values: Iterable[float | str]) -> str:
    """Return values as `nodata` of dataset.yaml takes them: `-9999`, or `[-9999, nan]` for several."""
    shown = [value if isinstance(value, str) else _format_value(value) for value in values]
    return shown[0] if len(shown) == 1 else f"[{', '.join(shown)}]"


def _format_value(value: float) -> str:
    return str(int(value)) if abs(value) < 1e15 and value == int(value) else str(np.float32(value))


def _equals(pixels: Array, value: float) -> Array:
    if pixels.dtype.kind == "f":
        if np.isnan(value):
            return np.isnan(pixels)
        with np.errstate(over="ignore"):  # the lowest double is a common nodata value and overflows float32
            return np.asarray(pixels == pixels.dtype.type(value))
    return np.asarray(pixels == value)


def _to_plain(value: float) -> float | str:
    return value if np.isfinite(value) else str(value)


def _as_list(given: object) -> list[object]:
    return given if isinstance(given, list) else [given]


def _parse_value(given: object) -> float:
    if isinstance(given, int | float | str) and not isinstance(given, bool):
        try:
            value = float(given)  # YAML reads nan and 1e20 as texts
            return math.nan if math.isnan(value) else value  # one object, so that equal settings are equal
        except ValueError:
            pass
    raise DataError(
        f"'nodata' contains {given!r}. Expected a value such as -9999 or nan, alpha, a list of these, or "
        f"a value for single channels such as {{1: 0, 2: -9999}}."
    )


def _parse_channel(given: object) -> int:
    number = int(given) if isinstance(given, str) and given.isdecimal() else given  # a key of JSON is a text
    if type(number) is int and number >= 1:
        return number
    raise DataError(f"'nodata' has the key {given!r}. Expected the number of a channel, counted from 1.")
