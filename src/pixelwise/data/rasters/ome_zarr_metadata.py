"""OME-NGFF, the metadata of an OME-Zarr: which array is the image, what its axes are and where it lies.

Versions 0.4 (on Zarr 2) and 0.5 (on Zarr 3) say the same in different places.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pixelwise.data.classes import Classes
from pixelwise.errors import DataError

ZARR_FORMATS = {"0.4": 2, "0.5": 3}
"""Version of NGFF → of Zarr."""

_CREATOR = "pixelwise"


@dataclass(frozen=True, slots=True, kw_only=True)
class ZarrAxis:
    """An axis of the image: where its pixels lie along it."""

    name: str
    kind: str
    """space, time or channel; empty where the file does not say."""
    unit: str
    """micrometer, ...; empty where the file does not say."""
    scale: float
    """From one pixel to the next."""
    translation: float
    """The middle of the first pixel."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Multiscale:
    """An image in several resolutions."""

    version: str
    axes: tuple[ZarrAxis, ...]
    """Of the finest array, in its order."""
    levels: tuple[str, ...]
    """Paths of the arrays, the finest first."""

    def axis(self, name: str) -> ZarrAxis:
        return next(axis for axis in self.axes if axis.name == name)


def parse_multiscale(attributes: Mapping[str, Any]) -> Multiscale | None:
    """The first image that the attributes of a group describe; None where they describe none.

    DataError for metadata of another version, or that break the rules of theirs.
    """
    described = attributes.get("ome", attributes)
    try:
        if not (images := described.get("multiscales")):
            return None
        version = str(described.get("version") or images[0].get("version") or "0.4")
        if version not in ZARR_FORMATS:
            raise DataError(f"its metadata are NGFF {version}; save it as {' or '.join(ZARR_FORMATS)}.")
        return _multiscale(images[0], version)
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        raise DataError(f"its NGFF metadata cannot be understood ({error!r}); write the image anew.") from error


def _multiscale(image: Mapping[str, Any], version: str) -> Multiscale:
    datasets = image["datasets"]
    given = [(axis["name"], axis.get("type", ""), axis.get("unit", "")) for axis in image["axes"]]
    scales, translations = [1.0] * len(given), [0.0] * len(given)
    # What is said of the array comes first, then what is said of all arrays.
    for step in (*datasets[0]["coordinateTransformations"], *image.get("coordinateTransformations", ())):
        if step["type"] == "scale":
            scales = _paired(scales, step["scale"], lambda a, b: a * b)
            translations = _paired(translations, step["scale"], lambda a, b: a * b)
        elif step["type"] == "translation":
            translations = _paired(translations, step["translation"], lambda a, b: a + b)
    axes = (
        ZarrAxis(name=name, kind=kind, unit=unit, scale=scale, translation=translation)
        for (name, kind, unit), scale, translation in zip(given, scales, translations, strict=True)
    )
    return Multiscale(version=version, axes=tuple(axes), levels=tuple(level["path"] for level in datasets))


def _paired(left: Sequence[float], right: Sequence[float], join: Any) -> list[float]:
    return [float(join(a, b)) for a, b in zip(left, right, strict=True)]


def label_attributes(image: Multiscale, classes: Classes, name: str) -> dict[str, Any]:
    """Of the group of a label image in the same place, with as many levels, each of half the size of the one before.

    Level n holds every 2ⁿ-th pixel of the first, so all begin at the middle of the same pixel.
    """
    axes = [image.axis(side) for side in "yx"]
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
    """Whether a folder is a label image that this package has written."""
    for file, inside in ((".zattrs", ()), ("zarr.json", ("attributes",))):
        try:
            found = json.loads((path / file).read_bytes())
            for key in inside:
                found = found[key]
            if found["_creator"]["name"] == _CREATOR:
                return True
        except (OSError, ValueError, KeyError, TypeError):
            continue
    return False
