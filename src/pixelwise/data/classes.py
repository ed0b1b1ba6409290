"""Classes: their names and colors, and the mask values that stand for them."""

import colorsys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import cv2
import numpy as np

from pixelwise.data.io.decoded_image import Array
from pixelwise.errors import DataError

Color = tuple[int, int, int]
GRAY: Color = (64, 64, 64)
Coding = Literal["index", "rgb"]

MAX_FOUND_CLASSES = 1024
"""Masks with more distinct values than this are taken for pictures, unless dataset.yaml names classes."""


def ignore_index_for(num_classes: int) -> int:
    """Return the label of pixels that neither the loss nor a score counts: the largest value of the label dtype."""
    return 255 if num_classes <= 255 else 65535


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
    """Mask values of pixels to ignore."""
    coding: Coding = "index"

    @property
    def ignore_index(self) -> int:
        return ignore_index_for(len(self.names))

    @property
    def dtype(self) -> type[np.uint8] | type[np.uint16]:
        """Dtype of label arrays: uint8 up to 255 classes, else uint16."""
        return np.uint8 if len(self.names) <= 255 else np.uint16

    def to_labels(self, mask: Array) -> tuple[Array, list[int]]:
        """Convert a mask, as `Dataset.read_mask` returns it, to labels.

        Returns:
            Labels (H, W) and the mask values that are not listed. Their pixels get `ignore_index`; the caller
            decides whether they are an error.
        """
        values = mask_values(mask, self.coding)
        found = _find_distinct(values)
        listed = dict.fromkeys(self.ignore, self.ignore_index) | dict(self.label_mapping)
        table = np.zeros(max(found[-1] + 1, 256), self.dtype)
        table[found] = [listed.get(v, self.ignore_index) for v in found]
        # OpenCV's lookup is faster, but takes only 8 bits.
        labels = cv2.LUT(values, table) if values.dtype == table.dtype == np.uint8 else table[values]
        return labels, [v for v in found if v not in listed]

    def to_mask(self, labels: Array) -> Array:
        """Convert labels (H, W) in 0..K-1 to the mask values of the dataset.

        Returns:
            (H, W) uint8 or uint16, or (H, W, 3) uint8 colors. Of several values of a class, the lowest is written;
            a class without a value gets the first ignored value.
        """
        table = np.full(len(self.names), self.ignore[0] if self.ignore else 0, np.uint32)
        for value in sorted(self.label_mapping, reverse=True):
            table[self.label_mapping[value]] = value
        values: Array = table[labels]
        if self.coding == "rgb":
            channels = [values >> 16 & 255, values >> 8 & 255, values & 255]
            return np.stack(channels, -1).astype(np.uint8)
        return values.astype(np.uint8 if table.max() < 256 else np.uint16)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON and YAML."""
        return {
            "names": list(self.names),
            "colors": [list(color) for color in self.colors],
            "label_mapping": {str(k): v for k, v in self.label_mapping.items()},
            "ignore": list(self.ignore),
            "coding": self.coding,
        }


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
            return wide * 0x010101
        packed: Array = wide[..., 0] << 16 | wide[..., 1] << 8 | wide[..., 2]
        return packed
    if mask.ndim == 3:
        if not (mask[..., :1] == mask).all():
            raise DataError(
                "the mask is an RGB image, but the classes are not defined by color. "
                "List 'names' and 'colors' in dataset.yaml, or save masks with class indices in one channel."
            )
        return mask[..., 0]
    return mask


def classes_from_dict(values: Mapping[str, Any]) -> Classes:
    """Create classes from the values of `Classes.to_dict`."""
    return Classes(
        names=tuple(values["names"]),
        colors=tuple((int(r), int(g), int(b)) for r, g, b in values["colors"]),
        label_mapping={int(k): int(v) for k, v in values["label_mapping"].items()},
        ignore=tuple(values["ignore"]),
        coding=values["coding"],
    )


def classes_from_values(values: Iterable[int]) -> Classes:
    """Create classes from the mask values that occur in a dataset without declared classes.

    {0, 255} are background and foreground. Otherwise 255 is ignored, and the other values become classes in
    ascending order, named by their value. The class of 0 is gray, because it is nearly always the background.
    More than `MAX_FOUND_CLASSES` values give no class.
    """
    found = sorted(set(values))
    if len(found) > MAX_FOUND_CLASSES:
        found = []
    binary = found == [0, 255]
    ids = found if binary else [v for v in found if v != 255]
    colors = default_colors(len(ids))
    return Classes(
        names=("background", "foreground") if binary else tuple(str(v) for v in ids),
        colors=(GRAY, *colors[1:]) if 0 in ids else colors,
        label_mapping={v: i for i, v in enumerate(ids)},
        ignore=() if binary else (255,),
    )


def default_colors(count: int) -> tuple[Color, ...]:
    """Return distinct colors: dark gray and orange for two classes, else colors around the color circle."""
    if count == 2:
        return GRAY, (255, 140, 0)
    colors = []
    for index in range(count):
        hue = index * 0.61803398875 % 1  # golden ratio: neighbors in the list differ most
        saturation, value = (0.85, 0.55)[index % 2], (0.95, 0.65)[index // 2 % 2]
        red, green, blue = colorsys.hsv_to_rgb(hue, saturation, value)
        colors.append((round(255 * red), round(255 * green), round(255 * blue)))
    return tuple(colors)


def pack_color(color: Sequence[int]) -> int:
    """Return the mask value of a color: `(1, 2, 3) → 0x010203`."""
    return color[0] << 16 | color[1] << 8 | color[2]
