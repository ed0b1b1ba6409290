"""OME-Zarr: the finest array of an image, by zarr."""

import contextlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pixelwise.data.classes import Classes
from pixelwise.data.io.decoded_image import Array, add_channel_axis, convert_dtype
from pixelwise.data.rasters.ome_zarr_metadata import Multiscale, parse_multiscale
from pixelwise.data.rasters.ome_zarr_writer import write_label_zarr
from pixelwise.data.rasters.windows import decoding
from pixelwise.errors import DataError, missing_extra
from pixelwise.shapes import Size

_MARKS = ("zarr.json", ".zgroup", ".zarray")
"""Files that make a folder a Zarr."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ZarrRaster:
    """An open OME-Zarr. It knows no missing pixels: a chunk that was never written holds its fill value."""

    path: Path
    array: Any
    """zarr's; the finest."""
    image: Multiscale

    @property
    def size(self) -> Size:
        height, width = (self.array.shape[self._names.index(side)] for side in "yx")
        return height, width

    @property
    def stamp(self) -> Mapping[str, str | int]:
        found = [file.stat() for file in sorted(self.path.rglob("*")) if file.is_file()]
        changed = max(stat.st_mtime_ns for stat in found)
        return {"files": len(found), "bytes": sum(stat.st_size for stat in found), "changed": changed}

    def read(self, rows: slice, columns: slice) -> Array:
        """(h, w, C) uint8, uint16 or float32."""
        places = {"y": rows, "x": columns, "c": slice(None)}
        window = tuple(places.get(name, 0) for name in self._names)
        order = [name for name in self._names if name in places]
        last = ("y", "x", "c") if "c" in order else ("y", "x")
        with decoding(self.path, rows, columns, Exception):  # codecs raise whatever the broken bytes lead them to
            stored = np.asarray(self.array[window]).transpose([order.index(name) for name in last])
            native = stored.astype(stored.dtype.newbyteorder("="), copy=False)
            return convert_dtype(np.ascontiguousarray(add_channel_axis(native)))

    def find_missing(self, rows: slice, columns: slice) -> None:
        """Nothing is."""

    def write_labels(self, path: Path, strips: Iterable[Array], classes: Classes) -> None:
        """An OME-Zarr label image of the same version, in the same place."""
        write_label_zarr(path, strips, self.size, classes, self.image)

    @property
    def _names(self) -> tuple[str, ...]:
        """Of the axes; that of the channels is c."""
        return tuple("c" if axis.kind == "channel" else axis.name for axis in self.image.axes)


def is_zarr(path: Path) -> bool:
    """Whether a path is a Zarr: one image, however many files its folder holds."""
    return path.suffix.lower() == ".zarr" or any((path / mark).exists() for mark in _MARKS)


@contextlib.contextmanager
def open_zarr(path: Path, channels: int) -> Iterator[ZarrRaster]:
    """Opens an OME-Zarr for reading by windows.

    Raises:
        InvalidArgumentError: zarr is not installed.
        DataError: the folder cannot be read, is no image of NGFF 0.4 or 0.5, or is a stack.
    """
    try:
        import zarr
    except ImportError as error:
        raise missing_extra("an OME-Zarr", "zarr", "zarr") from error
    try:
        found: Any = zarr.open(path, mode="r")
        image = parse_multiscale(found.attrs)
        if image is None:
            raise DataError(_no_image(found))
        opened = ZarrRaster(path=path, array=found[image.levels[0]], image=image)
        _require_plane(opened)
    except DataError as error:
        raise DataError(f"{path}: {error}") from error
    except Exception as error:  # zarr raises whatever broken metadata lead it to
        raise DataError(f"{path}: cannot be read as Zarr ({error}); replace or remove it.") from error
    yield opened


def _no_image(found: Any) -> str:
    inside = next(iter(getattr(found, "group_keys", tuple)()), None)
    cure = "write it with OME metadata" if inside is None else f"name an image inside, such as its group {inside!r}"
    return f"is no OME-Zarr image, as its own metadata name no multiscales; {cure}."


def _require_plane(opened: ZarrRaster) -> None:
    """DataError for all but one plane of rows and columns with channels."""
    names, lengths = opened._names, opened.array.shape
    if len(names) != len(lengths) or len(set(names)) != len(names) or not {"y", "x"} <= set(names) or 0 in lengths:
        raise DataError(
            f"has axes {', '.join(names)} and an array of {lengths}; an image has y, x and, where there are "
            f"several channels, c, each of at least 1."
        )
    deep = [(name, length) for name, length in zip(names, lengths, strict=True) if name not in "yxc" and length > 1]
    if deep:
        listed = ", ".join(f"{length} along {name}" for name, length in deep)
        raise DataError(f"is a stack of planes ({listed}); save each plane as an image of its own.")
