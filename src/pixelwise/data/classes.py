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


def describe_classes(values: Mapping[str, Any]) -> Classes:
    """Create classes from the keys names, colors, ignore, label_mapping and coding of `dataset.yaml`.

    A mask value in `label_mapping` is a class, even if `ignore` lists it too. Without a mapping, mask values are
    class indices (with `coding: rgb`, the colors), except those in `ignore`.

    Raises:
        DataError: A key has an invalid value.
    """
    names = _parse_names(values.get("names"))
    colors = _parse_colors(values.get("colors"), len(names))
    coding = values.get("coding", "index")
    if coding not in ("index", "rgb"):
        raise DataError(f"'coding' is {coding!r}. Expected index or rgb.")
    ignore = _parse_ignore(values.get("ignore"), coding)
    given = values.get("label_mapping")
    if given is not None:
        mapping = _parse_label_mapping(given, names, coding)
    else:
        keys = _pack_class_colors(values, colors) if coding == "rgb" else range(len(names))
        mapping = {key: i for i, key in enumerate(keys) if key not in ignore}
    if coding == "index":
        ignore = (*ignore, 255)
    return Classes(
        names=names,
        colors=colors,
        label_mapping=mapping,
        ignore=tuple(v for v in dict.fromkeys(ignore) if v not in mapping),
        coding=coding,
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


def _parse_names(given: object) -> tuple[str, ...]:
    if isinstance(given, Mapping):  # such as {0: road, 1: sky}
        if set(given) != set(range(len(given))):
            raise DataError(f"'names' has the keys {sorted(map(str, given))}. Expected 0, 1, 2, ... without gaps.")
        given = [given[i] for i in range(len(given))]
    if not isinstance(given, list) or not given:
        raise DataError(f"'names' is {given!r}. Expected a list of class names in the order of their indices.")
    if unnamed := [n for n in given if n is None or isinstance(n, bool | list | dict)]:
        raise DataError(f"'names' contains {unnamed[0]!r}. Put names such as no, off and null in quotes.")
    names = tuple(str(n) for n in given)
    if len(names) > 65535:
        raise DataError(f"'names' lists {len(names)} classes. Expected at most 65535.")
    if len(set(names)) != len(names):
        twice = next(n for n in names if names.count(n) > 1)
        raise DataError(f"'names' lists {twice!r} twice. Give each class its own name.")
    return names


def _parse_colors(given: object, count: int) -> tuple[Color, ...]:
    if given is None:
        return default_colors(count)
    if not isinstance(given, list) or len(given) != count:
        raise DataError(f"'colors' is {given!r}. Expected one [red, green, blue] for each of the {count} names.")
    return tuple(_parse_color(color, "colors") for color in given)


def _pack_class_colors(values: Mapping[str, Any], colors: Sequence[Color]) -> list[int]:
    """Return the mask values of classes that are coded by their colors."""
    if values.get("colors") is None:
        raise DataError("'coding' is rgb, but 'colors' is missing. List one color for each name.")
    twice = [list(color) for color in colors if colors.count(color) > 1]
    if twice:
        raise DataError(f"'colors' lists {twice[0]} twice. Give each class its own color.")
    return [pack_color(color) for color in colors]


def _parse_color(given: object, key: str) -> Color:
    if isinstance(given, list | tuple) and len(given) == 3 and all(map(_is_byte, given)):
        return given[0], given[1], given[2]
    raise DataError(f"{key!r} contains {given!r}. Expected [red, green, blue], each from 0 to 255.")


def _is_byte(value: object) -> bool:
    return type(value) is int and 0 <= value <= 255


def _parse_mask_value(given: object, key: str, coding: Coding) -> int:
    if coding == "rgb":
        return pack_color(_parse_color(given, key))
    if type(given) is int and 0 <= given <= 65535:
        return given
    raise DataError(f"{key!r} contains {given!r}. Expected mask values from 0 to 65535.")


def _parse_ignore(given: object, coding: Coding) -> tuple[int, ...]:
    """Parse one mask value or color, or a list of them."""
    if given is None:
        return ()
    listed = given if isinstance(given, list) else [given]
    if coding == "rgb" and listed and all(map(_is_byte, listed)):
        listed = [listed]
    return tuple(_parse_mask_value(value, "ignore", coding) for value in listed)


def _parse_label_mapping(given: object, names: tuple[str, ...], coding: Coding) -> dict[int, int]:
    if not isinstance(given, Mapping):
        raise DataError(f"'label_mapping' is {given!r}. Expected mask values and classes: {{0: 0, 255: 1}}.")
    mapping = {}
    for value, target in given.items():
        index = names.index(target) if target in names else target
        if type(index) is not int or not 0 <= index < len(names):
            raise DataError(
                f"'label_mapping' maps {value} to {target!r}. Expected a class name or an index from 0 to "
                f"{len(names) - 1}."
            )
        if coding == "rgb" and isinstance(value, str):  # YAML does not allow a list as a key
            value = [int(v) if v.strip().isdecimal() else v for v in value.split(",")]
        mapping[_parse_mask_value(value, "label_mapping", coding)] = index
    return mapping
