"""OME-Zarr: read an image's finest array window by window, and write labels in several resolutions, with zarr.

OME-NGFF, the metadata, says which arrays an image has, its axes and their coordinates. Versions 0.4 (on Zarr 2) and
0.5 (on Zarr 3) have the same content in different places.
"""

import contextlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pixelwise.data.classes import Classes
from pixelwise.data.io.decoded_image import Array, ChannelMeans, DecodedImage, add_channel_axis, convert_dtype
from pixelwise.data.io.nodata import ALL_DATA, Nodata
from pixelwise.data.rasters.windows import BLOCK, FilledWindows, convert_window_errors, regroup_blocks
from pixelwise.errors import DataError, PathNotFoundError, explain_missing_extra
from pixelwise.shapes import Size

ZARR_FORMATS = {"0.4": 2, "0.5": 3}
"""Version of NGFF → version of Zarr."""

_MARKER_FILES = ("zarr.json", ".zgroup", ".zarray")
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
            raise DataError(f"Its metadata is NGFF {version}. Save it as {' or '.join(ZARR_FORMATS)}.")
        return _parse_image(images[0], version)
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        raise DataError("Its NGFF metadata is invalid or incomplete. Write the image again.") from error


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
    alpha = [0 if index == classes.background else 255 for index in range(len(classes.names))]
    colored = zip(classes.names, classes.colors, alpha, strict=True)
    listed = [(index, name, [*color, opacity]) for index, (name, color, opacity) in enumerate(colored)]
    labels = {
        "colors": [{"label-value": index, "rgba": color} for index, _, color in listed],
        "properties": [{"label-value": index, "class": name} for index, name, _ in listed],
    }
    version, creator = {"version": image.version}, {"_creator": {"name": _CREATOR}}
    if ZARR_FORMATS[image.version] == 2:
        return {"multiscales": [version | multiscale], "image-label": version | labels, **creator}
    return {"ome": {**version, "multiscales": [multiscale], "image-label": labels}, **creator}


@dataclass(frozen=True, slots=True, kw_only=True)
class ZarrRaster(FilledWindows):
    """An open OME-Zarr. It declares no missing pixels: a chunk that was never written has its fill value."""

    array: Any
    """zarr's finest array."""
    image: Multiscale

    @property
    def size(self) -> Size:
        height, width = (self.array.shape[self.axis_names.index(side)] for side in "yx")
        return height, width

    @property
    def stamp(self) -> Mapping[str, str | int]:
        files = [file.stat() for file in sorted(self.path.rglob("*")) if file.is_file()]
        changed = max(status.st_mtime_ns for status in files)
        return {"files": len(files), "bytes": sum(status.st_size for status in files), "changed": changed}

    @property
    def axis_names(self) -> tuple[str, ...]:
        """Names of the axes; that of the channels is c."""
        return tuple("c" if axis.kind == "channel" else axis.name for axis in self.image.axes)

    def decode(self, rows: slice, columns: slice) -> DecodedImage:
        indices = {"y": rows, "x": columns, "c": slice(None)}
        window = tuple(indices.get(name, 0) for name in self.axis_names)
        order = [name for name in self.axis_names if name in indices]
        target = ("y", "x", "c") if "c" in order else ("y", "x")
        with convert_window_errors(self.path, rows, columns, Exception):  # codecs raise errors of any type
            stored = np.asarray(self.array[window]).transpose([order.index(name) for name in target])
            native = stored.astype(stored.dtype.newbyteorder("="), copy=False)
            pixels = convert_dtype(np.ascontiguousarray(add_channel_axis(native)))
            return DecodedImage(pixels=pixels, alpha=False)

    def write_labels(self, path: Path, strips: Iterable[Array], classes: Classes) -> None:
        """Write an OME-Zarr label image with the version, coordinates and number of levels of the image."""
        write_label_zarr(path, strips, self.size, classes, self.image)


def is_zarr(path: Path) -> bool:
    """Return whether a path is a Zarr: one image, however many files its folder has."""
    return path.suffix.lower() == ".zarr" or any((path / name).exists() for name in _MARKER_FILES)


@contextlib.contextmanager
def open_zarr(path: Path, channels: int, nodata: Nodata = ALL_DATA) -> Iterator[ZarrRaster]:
    """Open an OME-Zarr, and scan it once if the model has nodata values.

    Raises:
        InvalidArgumentError: zarr is not installed.
        PathNotFoundError: The folder does not exist.
        DataError: The folder is damaged, is not an image of NGFF 0.4 or 0.5, or is a stack.
    """
    with explain_missing_extra("an OME-Zarr", "zarr", "zarr"):
        import zarr
    if not path.exists():
        raise PathNotFoundError(f"{path}: The folder does not exist. Restore it, or correct the path.")
    try:
        group: Any = zarr.open(path, mode="r")
        image = parse_multiscale(group.attrs)
        if image is None:
            inner = next(iter(getattr(group, "group_keys", tuple)()), None)
            fix = f"Name an image inside, such as its group {inner!r}" if inner else "Write it with OME metadata"
            raise DataError(f"The folder is not an OME-Zarr image, as its metadata has no multiscales. {fix}.")
        raster = ZarrRaster(
            path=path,
            channels=channels,
            nodata=nodata,
            means=ChannelMeans(),
            array=group[image.levels[0]],
            image=image,
        )
        _require_plane(raster)
    except DataError as error:
        raise DataError(f"{path}: {error}") from error
    except Exception as error:  # zarr raises errors of any type on damaged metadata
        raise DataError(f"{path}: The image cannot be read as Zarr. Replace or remove it.") from error
    if nodata:
        raster.scan()
    yield raster


def _require_plane(raster: ZarrRaster) -> None:
    """Raise DataError unless the image is one plane of rows and columns with channels."""
    names, lengths = raster.axis_names, raster.array.shape
    if len(names) != len(lengths) or len(set(names)) != len(names) or not {"y", "x"} <= set(names) or 0 in lengths:
        raise DataError(
            f"The image has axes {', '.join(names)} and an array of {lengths}. An image needs y, x "
            f"and, for several channels, c, each of at least 1."
        )
    deep = [(name, length) for name, length in zip(names, lengths, strict=True) if name not in "yxc" and length > 1]
    if deep:
        listed = ", ".join(f"{length} along {name}" for name, length in deep)
        raise DataError(f"The image is a stack of planes ({listed}). Save each plane as its own image.")


def write_label_zarr(path: Path, strips: Iterable[Array], size: Size, classes: Classes, image: Multiscale) -> None:
    """Write (h, W) labels from top to bottom as a label image with the version and coordinates of `image`."""
    import zarr

    group: Any = zarr.open_group(
        path,
        mode="w-",
        zarr_format=ZARR_FORMATS[image.version],  # type: ignore[arg-type]  # 2 or 3
        attributes=make_label_attributes(image, classes, path.stem),
    )
    level = _create_array(group, "0", size, classes)
    _write_rows(level, strips)
    for number in range(1, len(image.levels)):
        finer = level
        level = _create_array(group, str(number), tuple((side + 1) // 2 for side in finer.shape), classes)
        _write_rows(level, (finer[top : top + BLOCK][::2, ::2] for top in range(0, finer.shape[0], BLOCK)))


def _create_array(group: Any, name: str, size: tuple[int, ...], classes: Classes) -> Any:
    is_v2 = group.metadata.zarr_format == 2
    return group.create_array(
        name,
        shape=size,
        chunks=(BLOCK, BLOCK),
        dtype=classes.dtype,
        chunk_key_encoding={"name": "v2" if is_v2 else "default", "separator": "/"},
        dimension_names=None if is_v2 else ("y", "x"),
    )


def _write_rows(array: Any, strips: Iterable[Array]) -> None:
    for top, rows in regroup_blocks(strips):
        array[top : top + len(rows)] = rows
