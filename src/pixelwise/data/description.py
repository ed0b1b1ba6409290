"""The keys of dataset.yaml, and the classes of a dataset by them and by what its format declares.

A new key is a field of `DatasetDescription` and its parser in `_PARSERS`.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

from pixelwise.data.class_names import (
    explain_difference,
    find_nearest,
    format_key,
    order_classes,
    rename_classes,
    suggest_renames,
)
from pixelwise.data.classes import (
    BINARY_NAMES,
    Classes,
    Coding,
    ValueRange,
    pack_color,
    parse_range,
)
from pixelwise.data.colors import Color, choose_colors
from pixelwise.data.io.decoded_image import MAX_MASK_VALUE
from pixelwise.data.io.nodata import Nodata, parse_nodata
from pixelwise.errors import DataError
from pixelwise.files import read_yaml

MaskType = Literal["semantic", "instances"]
MaskValue = int | Color
"""A value of a gray or palette mask, or a color of an RGB mask."""
MaskValues = MaskValue | ValueRange
"""One mask value, or a range of them."""

_NAMES = ("dataset.yaml", "dataset.yml")
"""Names of the file, in any case."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetDescription:
    """The keys of dataset.yaml, as a file gives them or a format declares them; None: not given."""

    path: Path | None = None
    """The file that they were read from; not a key."""
    labels: Literal["values", "listed", "found"] = "values"
    """Form of the labels in the files of a format: mask values; names, all of which are listed; or names of which only
    those that occur are known. Not a key."""
    names: tuple[str, ...] | None = None
    """Class names, in the order of the class indices."""
    colors: tuple[Color, ...] | None = None
    """One color for each name."""
    ignore: tuple[MaskValue, ...] | None = None
    """Mask values of pixels to ignore."""
    label_mapping: Mapping[MaskValues, str | int] | None = None
    """Mask value or range of them → name or index of its class."""
    rename: Mapping[str, str] | None = None
    """Class name of the files → name of the class; those that get the same name are merged."""
    threshold: float | None = None
    """Mask values from here on are the second of two classes, smaller ones the first."""
    mask_type: MaskType | None = None
    """Meaning of mask values: classes, or numbers of objects, which are the second of two classes; 0 is the first."""
    coding: Coding | None = None
    """Form of classes in masks: values or colors; found in the masks where it is not given."""
    channels: int | None = None
    """Number of channels of every image."""
    masks: str | None = None
    """Folder of the masks."""
    ignore_masks: str | None = None
    """Folder of masks whose zeros are ignored in the labels, such as those of a field of view."""
    nodata: Nodata | None = None
    """Values of missing data in images, in addition to those that their files declare."""

    @property
    def class_keys(self) -> tuple[str, ...]:
        """The keys about classes that are given."""
        keys = ("names", "coding", "colors", "ignore", "label_mapping", "rename", "threshold", "mask_type")
        return tuple(key for key in keys if getattr(self, key) not in (None, "semantic"))


def find_description(root: Path) -> Path | None:
    """Find the file dataset.yaml or dataset.yml of a dataset, in any case; raise DataError if there are two."""
    paths = sorted(path for path in root.iterdir() if is_description_file(path)) if root.is_dir() else []
    if len(paths) > 1:
        raise DataError(f"{root} contains {' and '.join(path.name for path in paths)}. Keep one of them.")
    return paths[0] if paths else None


def is_description_file(path: Path) -> bool:
    """Return whether a path has the name of a description."""
    return path.name.lower() in _NAMES


def read_description(root: Path) -> DatasetDescription:
    """Read the description of a dataset; an empty one if it has none, or if the file is that of YOLO.

    Raises:
        DataError: A key is unknown or has an invalid value.
    """
    path = find_description(root)
    if path is None:
        return DatasetDescription()
    values = read_yaml(path) or {}
    if not isinstance(values, dict):
        raise DataError(f"{path} contains a {type(values).__name__}. Expected keys such as 'names:'.")
    if {"names", "train"} <= values.keys():  # the file of a YOLO dataset
        return DatasetDescription()
    if unknown := sorted(str(key) for key in values if key not in _PARSERS):
        near = find_nearest(unknown[0], _PARSERS)
        hint = f" Did you mean {near!r}?" if near else ""
        raise DataError(f"{path} has the unknown key {unknown[0]!r}.{hint} Expected: {', '.join(_PARSERS)}.")
    try:
        return replace(parse_description(values), path=path)
    except DataError as error:
        raise DataError(f"{path}: {error}") from error


def parse_description(values: Mapping[str, Any]) -> DatasetDescription:
    """Parse the keys of dataset.yaml; a key without a value is not given, except `names`."""
    return DatasetDescription(
        **{key: _PARSERS[key](value) for key, value in values.items() if value is not None or key == "names"}
    )


def parse_color(given: object) -> Color:
    """Parse a color of `colors`: [red, green, blue], each from 0 to 255."""
    if isinstance(given, list | tuple) and len(given) == 3 and all(map(_is_byte, given)):
        return given[0], given[1], given[2]
    raise DataError(f"'colors' contains {given!r}. Expected [red, green, blue], each from 0 to 255.")


def combine_classes(
    declared: DatasetDescription, given: DatasetDescription, find_coding: Callable[[Sequence[Color]], Coding]
) -> Classes | None:
    """Return the classes that a format declares, as dataset.yaml renames, orders and colors them.

    Names match by name. Only mask values are numbers: where dataset.yaml maps them, or lists the colors of color masks,
    it replaces the classes of the format.

    Args:
        declared: What the format declares.
        given: What dataset.yaml says.
        find_coding: Finds the coding of the masks, for the colors that are listed.

    Returns:
        The classes; None where neither names any.

    Raises:
        DataError: The names differ, or `given` contradicts itself or the format.
    """
    if declared.labels != "values":
        _refuse_mask_values(declared, given)
    coding, listed = given.coding or declared.coding, given.colors or declared.colors
    if coding is None and (listed or given.label_mapping or declared.label_mapping):
        coding = find_coding(listed or ())
    rename = given.rename or {}
    is_by_value = (
        given.label_mapping is not None
        or (coding == "rgb" and given.colors is not None)
        or bool(_find_binary_keys(given))
    )
    if not declared.names or is_by_value or _has_numbers_as_names(declared, coding):
        description = _override(declared, given, is_by_value)
        if not description.class_keys:
            return None
        return rename_classes(describe_classes(replace(description, coding=coding)), rename)
    classes = describe_classes(replace(declared, coding=coding))
    classes = rename_classes(classes, rename, is_complete=declared.labels != "found")
    if given.names:
        _require_same_names(classes.names, declared, given)
        classes = order_classes(classes, given.names)
    if given.ignore is not None:
        ignore = (*_pack_ignore(given.ignore, classes.coding), *[255] * (classes.coding == "index"))
        mapping = {value: i for value, i in classes.label_mapping.items() if value not in ignore}
        classes = replace(classes, label_mapping=mapping, ignore=tuple(dict.fromkeys(ignore)))
    colors = given.colors or (classes.colors if declared.colors else None)
    return replace(classes, colors=_require_colors(colors, classes.names))


def format_changes(
    given: DatasetDescription, declared: Sequence[str] | None, names: Sequence[str], changed: Mapping[str, str]
) -> str:
    """Return the lines of dataset.yaml that rename classes further.

    Args:
        given: What dataset.yaml says now.
        declared: The names of the format; None if it has none.
        names: The names of the classes.
        changed: Name → new name.
    """
    own = {name: name for name in changed if name in (declared or names)}
    rename = {name: changed.get(new, new) for name, new in {**own, **(given.rename or {})}.items()}
    lines = [format_key("rename", rename)]
    if declared and given.names:  # which list the new names
        lines.append(format_key("names", list(dict.fromkeys(changed.get(name, name) for name in names))))
    return "\n".join(lines)


def _has_numbers_as_names(declared: DatasetDescription, coding: Coding | None) -> bool:
    """Return whether the names of a format are only the mask values as text."""
    classes = describe_classes(replace(declared, coding=coding))
    return all(classes.names[index] == str(value) for value, index in classes.label_mapping.items())


def _override(declared: DatasetDescription, given: DatasetDescription, is_by_value: bool) -> DatasetDescription:
    """Override what a format declares key by key, where mask values define the classes.

    Other names mean other classes: then only the colors of equal names and the ignored values of the format remain.
    """
    if _find_binary_keys(given):
        declared = replace(declared, label_mapping=None)
    if given.names and declared.names and (is_by_value or len(given.names) != len(declared.names)):
        declared = DatasetDescription(
            ignore=declared.ignore if is_by_value else None,
            colors=choose_colors(given.names, dict(zip(declared.names, declared.colors, strict=False)))
            if declared.colors
            else None,
        )
    values = {key: getattr(given, key) for key in ("path", *_PARSERS)}
    return replace(declared, **{key: value for key, value in values.items() if value is not None})


def _refuse_mask_values(declared: DatasetDescription, given: DatasetDescription) -> None:
    """Raise DataError where dataset.yaml gives mask values for a format that stores classes by name."""
    names = declared.names or ()
    if given.label_mapping is not None:
        lines = format_key("rename", dict.fromkeys(names, "NAME"))
        raise DataError(
            f"'label_mapping' maps mask values, but the files store classes by name. Map the names instead, with the "
            f"names of your classes for NAME:\n{lines}"
        )
    if any(isinstance(value, int) and 0 <= value < len(names) for value in given.ignore or ()):
        lines = "\n".join(format_key("rename", {name: "ignore"}) for name in names)
        raise DataError(
            f"'ignore' lists mask values, but the files store classes by name. To ignore a class, write one of these "
            f"lines instead:\n{lines}"
        )
    for key in [*_find_binary_keys(given), *["coding"] * (given.coding == "rgb")]:
        raise DataError(f"{key!r} describes masks, but the files store classes by name. Remove it.")


def _require_same_names(names: Sequence[str], declared: DatasetDescription, given: DatasetDescription) -> None:
    """Raise DataError where dataset.yaml and the files have different classes, with the lines that correct it."""
    wanted, rename = given.names or (), given.rename or {}
    unlisted = [name for name in names if name not in wanted]
    unknown = [name for name in wanted if name not in names]
    if not unlisted and (not unknown or declared.labels == "found"):
        return
    suggested = suggest_renames(names, wanted)
    spelled = {new: name for name, new in suggested.items() if new in unknown}
    kept = [spelled.get(name, name) for name in wanted if name in names or name in spelled]
    left = [name for name in unlisted if name not in kept]
    corrected = [*(name for name in left if name == names[0]), *kept, *(name for name in left if name != names[0])]
    fix = f"Correct 'names':\n{format_key('names', corrected)}"
    if unknown or unlisted != [names[0]]:  # not only the background, which no class is merged with
        targets = {name: rename.get(name, name) for name in declared.names or ()}
        lines = {**rename, **{n: suggested.get(t, "NAME") for n, t in targets.items() if t in unlisted}}
        hint = ", with one of 'names' for NAME" if "NAME" in lines.values() else ""
        fix += f"\nor rename or merge the classes of the files{hint}:\n{format_key('rename', lines)}"
    if declared.labels == "values":
        fix += "\nIf the mask values mean other classes than those, add 'label_mapping'."
    holders = ("'names'", "the files")
    raise DataError(f"{explain_difference(wanted, names, holders)} {fix}")


def describe_classes(description: DatasetDescription) -> Classes:
    """Create classes from a description.

    A mask value in `label_mapping` is a class, even if `ignore` lists it too. Without a mapping, mask values are
    class indices (with `coding: rgb`, the colors), except those in `ignore`. A threshold and object numbers give two
    classes, by default background and foreground.

    Raises:
        DataError: The names are missing, or two keys contradict each other.
    """
    names, coding = description.names, description.coding or "index"
    if binary_keys := _find_binary_keys(description):
        names = names or BINARY_NAMES
        _require_binary(binary_keys, names, description)
    if names is None:
        raise DataError(f"The file gives {description.class_keys[0]!r} without 'names'. Add 'names: [...]'.")
    if len(names) > 65535:
        raise DataError(f"'names' lists {len(names)} classes. Expected at most 65535.")
    if len(set(names)) != len(names):
        twice = next(n for n in names if names.count(n) > 1)
        raise DataError(f"'names' lists {twice!r} twice. Give each class its own name.")
    colors = _require_colors(description.colors, names)
    ignore = _pack_ignore(description.ignore or (), coding)
    mapping: dict[int, int]
    ranges: dict[ValueRange, int] = {}
    if description.threshold is not None:
        mapping = {}
        ranges = {ValueRange(-math.inf, description.threshold): 0, ValueRange(description.threshold, math.inf): 1}
    elif description.mask_type == "instances":
        mapping, ranges = {0: 0}, {ValueRange(1, math.inf): 1}
    else:
        if description.label_mapping is not None:
            mapping, ranges = _pack_label_mapping(description.label_mapping, names, coding)
        else:
            keys = _pack_class_colors(description.colors) if coding == "rgb" else range(len(names))
            mapping = {key: i for i, key in enumerate(keys) if key not in ignore}
        ignore = (*ignore, *[255] * (coding == "index"))
        ignore = tuple(v for v in ignore if v not in mapping and not any(v in limits for limits in ranges))
    return Classes(
        names=names,
        colors=colors,
        label_mapping=mapping,
        ignore=tuple(dict.fromkeys(ignore)),
        ranges=ranges,
        coding=coding,
    )


def _pack_label_mapping(
    given: Mapping[MaskValues, str | int], names: tuple[str, ...], coding: Coding
) -> tuple[dict[int, int], dict[ValueRange, int]]:
    mapping: dict[int, int] = {}
    ranges: dict[ValueRange, int] = {}
    for values, target in given.items():
        label = _find_class(values, target, names)
        if isinstance(values, ValueRange):
            ranges[values] = label
        else:
            mapping[_pack(values, "label_mapping", coding)] = label
    for first, second in pairwise(sorted(ranges)):
        if second.low < first.high:
            raise DataError(f"'label_mapping' lists {first} and {second}, which overlap. Give each value one class.")
    if ranges and coding == "rgb":
        raise DataError(f"'label_mapping' contains {min(ranges)}, but 'coding' is rgb. Expected 'red, green, blue'.")
    return mapping, ranges


def _find_binary_keys(description: DatasetDescription) -> list[str]:
    """Return the keys that divide mask values into two classes."""
    given = {"threshold": description.threshold is not None, "mask_type": description.mask_type == "instances"}
    return [key for key, is_given in given.items() if is_given]


def _require_binary(keys: list[str], names: tuple[str, ...], description: DatasetDescription) -> None:
    if len(names) != 2:
        raise DataError(f"{keys[0]!r} gives two classes, but 'names' lists {len(names)}. List two names.")
    if description.coding == "rgb":
        raise DataError(f"{keys[0]!r} is for gray masks, but 'coding' is rgb. Remove one of them.")
    if rivals := [*keys, *["label_mapping"] * (description.label_mapping is not None)][1:]:
        raise DataError(f"{keys[0]!r} and {rivals[0]!r} both map mask values to classes. Remove one of them.")


def _require_colors(colors: tuple[Color, ...] | None, names: Sequence[str]) -> tuple[Color, ...]:
    """Return the colors of the classes; the default ones if none are given."""
    if colors is None:
        return choose_colors(names)
    if len(colors) != len(names):
        raise DataError(
            f"'colors' lists {len(colors)} colors. Expected one [red, green, blue] for each of the {len(names)} names."
        )
    return colors


def _pack_ignore(ignore: Sequence[MaskValue], coding: Coding) -> tuple[int, ...]:
    red_green_blue = [value for value in ignore if isinstance(value, int) and _is_byte(value)]
    if coding == "rgb" and len(red_green_blue) == len(ignore) == 3:  # `ignore: [0, 0, 0]` is one color
        return (pack_color(red_green_blue),)
    return tuple(_pack(value, "ignore", coding) for value in ignore)


def _pack(value: MaskValue, key: str, coding: Coding) -> int:
    """Return a value of `key` as an integer, as `classes.mask_values` returns those of a mask."""
    if isinstance(value, int):
        if coding == "rgb":
            raise DataError(f"{key!r} contains {value}, but 'coding' is rgb. Expected [red, green, blue].")
        return value
    if coding == "index":
        raise DataError(f"{key!r} contains {list(value)}. Expected mask values, or add 'coding: rgb'.")
    return pack_color(value)


def _find_class(value: MaskValues, target: str | int, names: tuple[str, ...]) -> int:
    """Return the index of the class to which `label_mapping` maps a value."""
    index = names.index(target) if isinstance(target, str) and target in names else target
    if isinstance(index, int) and 0 <= index < len(names):
        return index
    raise DataError(
        f"'label_mapping' maps {value} to {target!r}. Expected a class name or an index from 0 to {len(names) - 1}."
    )


def _pack_class_colors(colors: Sequence[Color] | None) -> list[int]:
    """Return the mask values of classes that are coded by their colors."""
    if colors is None:
        raise DataError("'coding' is rgb, but 'colors' is missing. List one color for each name.")
    twice = [list(color) for color in colors if colors.count(color) > 1]
    if twice:
        raise DataError(f"'colors' lists {twice[0]} twice. Give each class its own color.")
    return [pack_color(color) for color in colors]


def _parse_names(given: object) -> tuple[str, ...]:
    if isinstance(given, Mapping):  # such as {0: road, 1: sky}
        if set(given) != set(range(len(given))):
            raise DataError(f"'names' has the keys {sorted(map(str, given))}. Expected 0, 1, 2, ... without gaps.")
        given = [given[i] for i in range(len(given))]
    if not isinstance(given, list) or not given:
        raise DataError(f"'names' is {given!r}. Expected a list of class names in the order of their indices.")
    if unnamed := [n for n in given if n is None or isinstance(n, bool | list | dict)]:
        raise DataError(f"'names' contains {unnamed[0]!r}. Put names such as no, off and null in quotes.")
    return tuple(str(n) for n in given)


def _parse_colors(given: object) -> tuple[Color, ...]:
    if not isinstance(given, list):
        raise DataError(f"'colors' is {given!r}. Expected a list with one [red, green, blue] for each name.")
    return tuple(parse_color(color) for color in given)


def _is_byte(value: object) -> bool:
    return type(value) is int and 0 <= value <= 255


def _parse_mask_value(given: object, key: str) -> MaskValue:
    if type(given) is int and abs(given) <= MAX_MASK_VALUE:
        return given
    if isinstance(given, list | tuple) and len(given) == 3 and all(map(_is_byte, given)):
        return given[0], given[1], given[2]
    raise DataError(f"{key!r} contains {given!r}. Expected mask values such as 255, or [red, green, blue].")


def _parse_ignore(given: object) -> tuple[MaskValue, ...]:
    """Parse one mask value or color, or a list of them; three values may be a color, which `coding` decides."""
    return tuple(_parse_mask_value(value, "ignore") for value in (given if isinstance(given, list) else [given]))


def _parse_label_mapping(given: object) -> Mapping[MaskValues, str | int]:
    if not isinstance(given, Mapping):
        raise DataError(f"'label_mapping' is {given!r}. Expected mask values and classes: {{0: 0, 255: 1}}.")
    mapping: dict[MaskValues, str | int] = {}
    for value, target in given.items():
        if type(target) not in (str, int):
            raise DataError(f"'label_mapping' maps {value} to {target!r}. Expected a class name or an index.")
        if isinstance(value, str) and "," in value:  # a color: YAML does not allow a list as a key
            value = [int(v) if v.strip().isdecimal() else v for v in value.split(",")]
        limits = parse_range(value) if isinstance(value, str) else None
        mapping[_parse_mask_value(value, "label_mapping") if limits is None else limits] = target
    return mapping


def _parse_rename(given: object) -> Mapping[str, str]:
    if not isinstance(given, Mapping):
        raise DataError(f"'rename' is {given!r}. Expected names of the files and new names: {{Disc: disc}}.")
    for name in (*given, *given.values()):
        if type(name) not in (str, int, float):
            raise DataError(f"'rename' contains {name!r}. Put names such as no, off and null in quotes.")
    return {str(name): str(new) for name, new in given.items()}


def _parse_coding(given: object) -> Coding:
    if given == "index" or given == "rgb":
        return given
    raise DataError(f"'coding' is {given!r}. Expected index or rgb.")


def _parse_threshold(given: object) -> float:
    if type(given) in (int, float) and math.isfinite(given):  # type: ignore[arg-type]
        return given  # type: ignore[return-value]
    raise DataError(f"'threshold' is {given!r}. Expected the lowest mask value of the second class, such as 128.")


def _parse_mask_type(given: object) -> MaskType:
    if given == "semantic" or given == "instances":
        return given
    raise DataError(f"'mask_type' is {given!r}. Expected semantic or instances.")


def _parse_folder(given: object) -> str:
    if isinstance(given, str) and given.strip(" /"):
        return given
    raise DataError(f"'masks' or 'ignore_masks' is {given!r}. Expected the name of a folder, such as masks.")


def _parse_channels(given: object) -> int:
    if type(given) is int and given >= 1:
        return given
    raise DataError(f"'channels' is {given!r}. Expected a number such as 4.")


_PARSERS: Mapping[str, Callable[[object], Any]] = {
    "names": _parse_names,
    "colors": _parse_colors,
    "ignore": _parse_ignore,
    "label_mapping": _parse_label_mapping,
    "rename": _parse_rename,
    "threshold": _parse_threshold,
    "mask_type": _parse_mask_type,
    "coding": _parse_coding,
    "channels": _parse_channels,
    "masks": _parse_folder,
    "ignore_masks": _parse_folder,
    "nodata": parse_nodata,
}
"""Key of dataset.yaml → parser of its value, which raises DataError."""
