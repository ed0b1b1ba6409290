"""OME-NGFF, the metadata of an OME-Zarr: the arrays of an image, its axes and their coordinates.

Versions 0.4 (on Zarr 2) and 0.5 (on Zarr 3) have the same content in different places.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pixelwise.data.classes import Classes
from pixelwise.errors import DataError

ZARR_FORMATS = {"0.4": 2, "0.5": 3}
"""Version of NGFF → version of Zarr."""

_CREATOR = "pixelwise"


@dataclass(frozen=True, slots=True, kw_only=True)
class ZarrAxis:
    """An axis of the image with its coordinates."""

    name: str
    kind: str
    """space, time or channel; empty if unknown."""
    unit: str
    """micrometer, ...; empty if unknown."""
    scale: float
    """Distance of neighboring pixels."""
    translation: float
    """Coordinate of the center of the first pixel."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Multiscale:
    """An image in several resolutions."""

    version: str
    axes: tuple[ZarrAxis, ...]
    """Axes of the finest array, in its order."""
    levels: tuple[str, ...]
    """Paths of the arrays, the finest first."""

    def get_axis(self, name: str) -> ZarrAxis:
        """Return an axis by its name."""
        return next(axis for axis in self.axes if axis.name == name)


def parse_multiscale(attributes: Mapping[str, Any]) -> Multiscale | None:
    """Parse the first image in the attributes of a group; None if they describe no image.

    Raises:
        DataError: The metadata is of another version, or invalid.
    """
    described = attributes.get("ome", attributes)
    try:
        if not (images := described.get("multiscales")):
            return None
        version = str(described.get("version") or images[0].get("version") or "0.4")
        if version not in ZARR_FORMATS:
            raise DataError(f"its metadata is NGFF {version}. Save it as {' or '.join(ZARR_FORMATS)}.")
        return _parse_image(images[0], version)
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        raise DataError("its NGFF metadata is invalid or incomplete. Write the image again.") from error


def _parse_image(image: Mapping[str, Any], version: str) -> Multiscale:
    datasets = image["datasets"]
    given = [(axis["name"], axis.get("type", ""), axis.get("unit", "")) for axis in image["axes"]]
    scales, translations = [1.0] * len(given), [0.0] * len(given)
    # Transformations of the array are applied first, then those of all arrays.
    for step in (*datasets[0]["coordinateTransformations"], *image.get("coordinateTransformations", ())):
        values = step.get(step["type"], ())
        if step["type"] == "scale":
            scales = [float(a * b) for a, b in zip(scales, values, strict=True)]
            translations = [float(a * b) for a, b in zip(translations, values, strict=True)]
        elif step["type"] == "translation":
            translations = [float(a + b) for a, b in zip(translations, values, strict=True)]
    axes = (
        ZarrAxis(name=name, kind=kind, unit=unit, scale=scale, translation=translation)
        for (name, kind, unit), scale, translation in zip(given, scales, translations, strict=True)
    )
    return Multiscale(version=version, axes=tuple(axes), levels=tuple(level["path"] for level in datasets))


def make_label_attributes(image: Multiscale, classes: Classes, name: str) -> dict[str, Any]:
    """Make the attributes of a label image with the coordinates of an image and its number of levels.

    Level n has every 2ⁿ-th pixel of the first, so all levels start at the center of one pixel.
    """
    axes = [image.get_axis(side) for side in "yx"]
    datasets = []
    for level in range(len(image.levels)):
        steps: list[dict[str, Any]] = [{"type": "scale", "scale": [axis.scale * 2**level for axis in axes]}]
        if any(axis.translation for axis in axes):
            steps.append({"type": "translation", "translation": [axis.translation for axis in axes]})
        datasets.append({"path": str(level), "coordinateTransformations": steps})
    units = [{"unit": axis.unit} if axis.unit else {} for axis in axes]
    multiscale = {
        "name": name,
        "axes": [{"name": axis.name, "type": "space", **unit} for axis, unit in zip(axes, units, strict=True)],
        "datasets": datasets,
        "type": "nearest",
    }
    colored = zip(classes.names, classes.colors, strict=True)
    listed = [(index, name, [*color, 255]) for index, (name, color) in enumerate(colored)]
    labels = {
        "colors": [{"label-value": index, "rgba": color} for index, _, color in listed],
        "properties": [{"label-value": index, "class": name} for index, name, _ in listed],
    }
    version, creator = {"version": image.version}, {"_creator": {"name": _CREATOR}}
    if ZARR_FORMATS[image.version] == 2:
        return {"multiscales": [version | multiscale], "image-label": version | labels, **creator}
    return {"ome": {**version, "multiscales": [multiscale], "image-label": labels}, **creator}


def is_label_zarr(path: Path) -> bool:
    """Return whether a folder is a label image that Pixelwise wrote."""
    for file, inside in ((".zattrs", ()), ("zarr.json", ("attributes",))):
        try:
            attributes = json.loads((path / file).read_bytes())
            for key in inside:
                attributes = attributes[key]
            if attributes["_creator"]["name"] == _CREATOR:
                return True
        except (OSError, ValueError, KeyError, TypeError):
            continue
    return False
