"""Classes: their names and colors, and the mask values that stand for them."""

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import cv2
import numpy as np

from pixelwise.data.colors import Color, choose_colors, is_background_name
from pixelwise.data.io.decoded_image import NO_LABEL, Array
from pixelwise.errors import DataError

BINARY_NAMES = ("background", "foreground")
"""Names of two classes where none are given."""
Coding = Literal["index", "rgb"]

_MAX_TABLE_SIZE = 2**24
"""Largest table from mask values to labels; colors need no larger one."""
_UNLISTED = 254
"""Label of 8 bits for a mask value that no class has. With fewer classes it is neither a class nor the ignore index."""
MAX_FOUND_CLASSES = 1024
"""Masks with more distinct values than this are taken for pictures, unless dataset.yaml names classes."""


def ignore_index_for(num_classes: int) -> int:
    """Return the label of pixels that neither the loss nor a score counts: the largest value of the label dtype."""
    return 255 if num_classes <= 255 else 65535


@dataclass(frozen=True, slots=True, order=True)
class ValueRange:
    """The mask values from `low` up to, but without, `high`.

    Example:
        >>> [str(ValueRange(0, 128)), str(ValueRange(-math.inf, 0.5)), str(ValueRange(1, math.inf))]
        ['0-127', '<0.5', '>=1']
        >>> parse_range("0-127") == ValueRange(0, 128)
        True
    """

    low: float
    high: float

    def __contains__(self, value: float) -> bool:
        return self.low <= value < self.high

    def __str__(self) -> str:
        if math.isinf(self.high):
            return f">={self.low:.17g}"
        return f"<{self.high:.17g}" if math.isinf(self.low) else f"{self.low:.0f}-{self.high - 1:.0f}"

    @property
    def typical_value(self) -> int:
        """The mask value that masks are written with: 0, 1 or the largest of 8 or 16 bits, else the lowest."""
        lowest = math.ceil(self.high) - 1 if math.isinf(self.low) else math.ceil(self.low)
        return next((value for value in (0, 1, 255, 65535) if value in self), lowest)


def parse_range(text: str) -> ValueRange | None:
    """Parse the forms `0-127`, `<128` and `>=128` of a range; return None for other text."""
    if match := re.fullmatch(r"\s*(-?\d+)\s*-\s*(-?\d+)\s*", text):
        return ValueRange(int(match[1]), int(match[2]) + 1)
    if match := re.fullmatch(r"\s*(<|>=)\s*(-?\d+(?:\.\d+)?(?:e[-+]?\d+)?)\s*", text):
        limit = float(match[2])
        return ValueRange(-math.inf, limit) if match[1] == "<" else ValueRange(limit, math.inf)
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Classes:
    """Names and colors of K classes (at most 65535), and the mask values that stand for them.

    A mask value is an integer of a gray or palette mask, or 65536 R + 256 G + B of an RGB mask
    (`coding="rgb"`). Labels are class indices 0..K-1, or `ignore_index`.
    """

    names: tuple[str, ...]
    colors: tuple[Color, ...]
    label_mapping: Mapping[int, int]
    """Mask value → class index."""
    ignore: tuple[int, ...] = ()
    """Mask values of pixels to ignore, besides `NO_LABEL`."""
    ranges: Mapping[ValueRange, int] = field(default_factory=dict)
    """Range of mask values → class index; for values that neither `label_mapping` nor `ignore` lists."""
    coding: Coding = "index"
    majority: int | None = field(default=None, compare=False)
    """Class that has more than half of the pixels of a scanned dataset, if its name is that of a background."""
    _byte_table: Array = field(init=False, repr=False, compare=False)
    """The label of each mask value of 8 bits, for up to `_UNLISTED` classes; that of a value that is not listed."""

    def __post_init__(self) -> None:
        labels = [_UNLISTED if (label := self.get_label(value)) is None else label for value in range(256)]
        object.__setattr__(self, "_byte_table", np.array(labels).astype(np.uint8))

    @property
    def background(self) -> int | None:
        """Index of the class that overlays leave unpainted; None if there is none."""
        return 0 if any(map(is_background_name, self.names[:1])) else self.majority

    @property
    def ignore_index(self) -> int:
        return ignore_index_for(len(self.names))

    @property
    def dtype(self) -> type[np.uint8] | type[np.uint16]:
        """Dtype of label arrays: uint8 up to 255 classes, else uint16."""
        return np.uint8 if len(self.names) <= 255 else np.uint16

    @property
    def foreground(self) -> Literal[0, 1] | None:
        """Return which of two classes is searched for: the second, unless it is named background; else None."""
        return find_foreground(self.names)

    def ignore_missing(self, labels: Array, missing: Array | None) -> Array:
        """Return labels (H, W) with the ignore index where pixels are missing; None: no pixel is."""
        return labels if missing is None else np.where(missing, self.ignore_index, labels).astype(self.dtype)

    def get_label(self, value: float) -> int | None:
        """Return the class index of a mask value, `ignore_index` if it is ignored, None if it is not listed."""
        if value in self.label_mapping:
            return self.label_mapping[int(value)]
        if value in self.ignore or value == NO_LABEL:
            return self.ignore_index
        return next((label for values, label in self.ranges.items() if value in values), None)

    def is_class_value(self, value: float) -> bool:
        """Return whether a mask value stands for a class, and is not ignored."""
        return self.get_label(value) not in (None, self.ignore_index)

    def to_labels(self, mask: Array) -> tuple[Array, list[int]]:
        """Convert a mask, as `Dataset.read_mask` returns it, to labels.

        Returns:
            Labels (H, W) and the mask values that are not listed. Their pixels get `ignore_index`; the caller
            decides whether they are an error.
        """
        values = mask_values(mask, self.coding)
        if values.dtype.kind == "f":
            return self._fractions_to_labels(values)
        if values.dtype == np.uint8 and len(self.names) <= _UNLISTED:  # faster than finding the values
            labels = cv2.LUT(values, self._byte_table)
            if not (labels == _UNLISTED).any():
                return labels, []
        found = _find_distinct(values)
        listed = [self.get_label(value) for value in found]
        unlisted = [value for value, label in zip(found, listed, strict=True) if label is None]
        labels = np.array([self.ignore_index if label is None else label for label in listed], self.dtype)
        if found[-1] - found[0] >= _MAX_TABLE_SIZE:
            return labels[np.searchsorted(found, values)], unlisted
        first = 0 if values.dtype == np.uint8 else found[0]
        table = np.zeros(max(found[-1] - first + 1, 256), self.dtype)
        table[np.array(found) - first] = labels
        if values.dtype == table.dtype == np.uint8:
            return cv2.LUT(values, table), unlisted  # faster, but takes only 8 bits
        return table[values - first], unlisted

    def _fractions_to_labels(self, values: Array) -> tuple[Array, list[int]]:
        if not self.ranges:
            require_integers(values)
        labels = np.full(values.shape, self.ignore_index, self.dtype)
        listed = np.isnan(values)
        for limits, label in self.ranges.items():
            inside = (values >= limits.low) & (values < limits.high)
            labels[inside] = label
            listed |= inside
        return labels, np.unique(values[~listed]).tolist()

    def to_mask(self, labels: Array) -> Array:
        """Convert labels (H, W) in 0..K-1, or `ignore_index`, to the mask values of the dataset.

        Returns:
            (H, W) uint8 or uint16, or (H, W, 3) uint8 colors. Of several values of a class, the lowest is written;
            a class without a value and ignored pixels get the first ignored value, or 0 if there is none.

        Raises:
            DataError: A class only has mask values that no label file can contain.
        """
        candidates = [(limits.typical_value, label) for limits, label in self.ranges.items()]
        candidates += sorted(self.label_mapping.items(), reverse=True)
        table = np.full(self.ignore_index + 1, self.ignore[0] if self.ignore else 0, np.int64)
        for value, label in candidates:
            table[label] = value
        values: Array = table[labels]
        if self.coding == "rgb":
            channels = [values >> 16 & 255, values >> 8 & 255, values & 255]
            return np.stack(channels, -1).astype(np.uint8)
        for name, value in zip(self.names, table.tolist(), strict=False):  # the rest is for ignored pixels
            if not 0 <= value <= 65535:
                raise DataError(f"Class {name!r} has the mask value {value}, but label files contain 0 to 65535.")
        return values.astype(np.uint8 if table.max() < 256 else np.uint16)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON and YAML."""
        return {
            "names": list(self.names),
            "colors": [list(color) for color in self.colors],
            "label_mapping": {str(k): v for k, v in (*self.label_mapping.items(), *self.ranges.items())},
            "ignore": list(self.ignore),
            "coding": self.coding,
            **({} if self.majority is None else {"majority": self.majority}),
        }


def find_foreground(names: Sequence[str]) -> Literal[0, 1] | None:
    """Return the index of the class of two that is not the background; None for other numbers of classes.

    Example:
        >>> find_foreground(["background", "crack"]), find_foreground(["crack", "Background"]), find_foreground(["a"])
        (1, 0, None)
    """
    if len(names) != 2:
        return None
    return 0 if is_background_name(names[1]) and not is_background_name(names[0]) else 1


def require_integers(values: Array) -> None:
    """Raise DataError for a mask of fractions, which only ranges of mask values can give a meaning."""
    if values.dtype.kind == "f":
        lowest, highest = np.nanmin(values), np.nanmax(values)
        middle = 0.5 if 0 <= lowest <= highest <= 1 else (lowest + highest) / 2
        raise DataError(
            f"The mask contains fractions from {lowest:.4g} to {highest:.4g}. If they are probabilities or soft edges, "
            f"write 'threshold: {middle:.4g}' into dataset.yaml (create it if there is none). Otherwise save class "
            f"ids as integers."
        )


def _find_distinct(values: Array) -> list[int]:
    """Return the values that occur, in ascending order."""
    if values.dtype != np.uint8:
        return list(np.unique(values).tolist())
    counts = cv2.calcHist([values], [0], None, [256], [0, 256])
    return list(np.flatnonzero(counts).tolist())


def mask_values(mask: Array, coding: Coding) -> Array:
    """Convert a mask to one integer per pixel (H, W); the channels of an RGB mask are packed.

    Raises:
        DataError: The mask has colors, but the coding is `index`.
    """
    if coding == "rgb":
        wide = mask.astype(np.int32)
        if mask.ndim == 2:  # a gray mask among RGB masks: three equal channels
            wide = np.stack([wide] * 3, -1)
        packed: Array = wide[..., 0] << 16 | wide[..., 1] << 8 | wide[..., 2]
        return np.where(wide.min(-1) < 0, NO_LABEL, packed) if wide.min() < 0 else packed
    if mask.ndim == 3:
        if not (mask[..., :1] == mask).all():
            raise DataError(
                "The mask is an RGB image, but the classes are not defined by color. "
                "List 'names' and 'colors' in dataset.yaml (create it if there is none), or save masks with class "
                "indices in one channel."
            )
        return mask[..., 0]
    return mask


def classes_from_dict(values: Mapping[str, Any]) -> Classes:
    """Create classes from the values of `Classes.to_dict`."""
    ranges = {text: limits for text in values["label_mapping"] if (limits := parse_range(text))}
    return Classes(
        names=tuple(values["names"]),
        colors=tuple((int(r), int(g), int(b)) for r, g, b in values["colors"]),
        label_mapping={int(k): int(v) for k, v in values["label_mapping"].items() if k not in ranges},
        ranges={limits: int(values["label_mapping"][text]) for text, limits in ranges.items()},
        ignore=tuple(values["ignore"]),
        coding=values["coding"],
        majority=range(len(values["names"])).index(values["majority"]) if "majority" in values else None,
    )


def classes_from_values(values: Iterable[int]) -> Classes:
    """Create classes from the mask values that occur in a dataset without declared classes.

    {0, 255} are background and foreground. Otherwise 255 is ignored, and the other values become classes in
    ascending order, named by their value. 0 is taken for the background, which it nearly always is. Negative values
    are not classes. More than `MAX_FOUND_CLASSES` values give no class.
    """
    found = sorted(value for value in set(values) if value >= 0)
    if len(found) > MAX_FOUND_CLASSES:
        found = []
    binary = found == [0, 255]
    ids = found if binary else [v for v in found if v != 255]
    names = BINARY_NAMES if binary else tuple(str(v) for v in ids)
    return Classes(
        names=names,
        colors=choose_colors(names),
        label_mapping={v: i for i, v in enumerate(ids)},
        ignore=() if binary else (255,),
    )


def pack_color(color: Sequence[int]) -> int:
    """Return the mask value of a color: `(1, 2, 3) → 0x010203`."""
    return color[0] << 16 | color[1] << 8 | color[2]
