"""Images larger than memory: windows in, labels of the same kind out, stopped and continued at any part.

Labels of finished parts lie as small files in a folder beside the result, each complete or not there at
all. The result is made from them in one pass at the end, so an interruption changes no byte of it.
"""

import json
import os
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pixelwise.data.io.decoded_image import MAX_PIXELS
from pixelwise.data.io.images import Array
from pixelwise.data.rasters import Raster, find_raster_format, is_windowed_only
from pixelwise.data.rasters.geotiff_writer import has_rasterio
from pixelwise.data.rasters.rasterio_reader import TIFF_EXTENSIONS, count_tiff_pixels
from pixelwise.errors import DataError, InvalidArgumentError
from pixelwise.files import READ_ERRORS, read_json, write_atomically
from pixelwise.inference.predictor import Predictor
from pixelwise.inference.tiling.plan import Tile, TilePlan
from pixelwise.prediction.manifest import remove

WINDOWED_PIXELS = 64 << 20
"""Larger TIFFs are read by windows, where that can give what is asked for."""


def needs_windows(path: Path, able: bool) -> bool:
    """Whether an image is predicted by windows: what nothing else reads here, and large TIFFs.

    Args:
        able: whether windows can give what is asked for. If not, a TIFF is only taken so where it could
            not be decoded as a whole either.
    """
    if is_windowed_only(path):
        return True
    pixels = count_tiff_pixels(path) if path.suffix.lower() in TIFF_EXTENSIONS else 0
    return pixels > MAX_PIXELS or (pixels > WINDOWED_PIXELS and able and has_rasterio())


def predict_raster(
    predictor: Predictor,
    path: Path,
    target: Path,
    *,
    request: Mapping[str, Any],
    resume: bool,
    track: Callable[[int, int], None],
) -> None:
    """Writes the labels of an image as its kind asks for: a tiled, compressed GeoTIFF, or an OME-Zarr.

    Pixels that hold no data in the image are the ignore index. Memory grows with the
    width of the image by the labels of a few rows, one byte a pixel, and with nothing else.

    Args:
        request: all that decides the labels but the image, as plain values of JSON.
        resume: continues what an equal request has left of an image that has not changed.
        track: hears how many parts of how many are done.

    Raises:
        InvalidArgumentError: what reads the image is not installed, or the network sees the whole image.
        DataError: the image cannot be read, or does not suit the model.
    """
    with find_raster_format(path).open(path, predictor.spec.channels) as raster:
        plan = predictor.tile_planner.plan_windowed(raster.size)
        parts = _TileFiles(_folder_of_parts(target), plan, predictor.classes.dtype)
        parts.begin(_description(raster, plan, predictor.device.type, request), resume=resume)
        for tile, labels in predictor.label_tiles(_Checked(predictor, raster), plan, parts.has):
            missing = raster.find_missing(*tile.write)
            if missing is not None:
                labels[missing] = predictor.classes.ignore_index
            parts.write(tile, labels)
            track(parts.num_done, len(plan))
        made = parts.folder / target.name
        remove(made)  # of an attempt that was stopped
        raster.write_labels(made, parts.read(), predictor.classes)
        _put(made, target)
        parts.remove()


def forget_parts(target: Path) -> None:
    """Removes what an interrupted `predict_raster` has left."""
    remove(_folder_of_parts(target))


@dataclass(frozen=True, slots=True)
class _Checked:
    """The raster as the model takes it."""

    predictor: Predictor
    raster: Raster

    @property
    def size(self) -> tuple[int, int]:
        return self.raster.size

    def read(self, rows: slice, columns: slice) -> Array:
        pixels = self.raster.read(rows, columns)
        try:
            return self.predictor.checked(pixels)
        except (DataError, InvalidArgumentError) as error:
            raise type(error)(f"{self.raster.path}: {error}") from error


@dataclass(slots=True)
class _TileFiles:
    """Labels of the parts of a plan, as files."""

    folder: Path
    plan: TilePlan
    dtype: type[np.generic]
    num_done: int = 0

    def begin(self, description: dict[str, Any], *, resume: bool) -> None:
        """Keeps what is there only if it was made for the same."""
        file = self.folder / "image.json"
        if not (resume and _read(file) == description):
            self.remove()
            write_atomically(file, json.dumps(description, sort_keys=True).encode())
        self.num_done = len(list(self.folder.glob("*.labels")))

    def has(self, tile: Tile) -> bool:
        return self._file(*tile.index).exists()

    def write(self, tile: Tile, labels: Array) -> None:
        self.num_done += not self.has(tile)
        write_atomically(self._file(*tile.index), zlib.compress(labels.tobytes(), 1))

    def read(self) -> Iterator[Array]:
        """(h, W) each, from top to bottom."""
        for row, rows in enumerate(self.plan.rows):
            height = rows.write.stop - rows.write.start
            pieces = [self._file(row, column).read_bytes() for column in range(len(self.plan.columns))]
            try:
                labels = [np.frombuffer(zlib.decompress(piece), self.dtype).reshape(height, -1) for piece in pieces]
            except (zlib.error, ValueError) as error:
                raise DataError(
                    f"{self.folder}: a part is damaged ({error}); remove the folder, and begin anew."
                ) from error
            yield np.hstack(labels)

    def remove(self) -> None:
        remove(self.folder)

    def _file(self, row: int, column: int) -> Path:
        return self.folder / f"{row:06d}-{column:04d}.labels"


def _folder_of_parts(target: Path) -> Path:
    return target.with_name(f".{target.name}.part")


def _read(file: Path) -> Any:
    try:
        return read_json(file)
    except READ_ERRORS:
        return None


def _description(raster: Raster, plan: TilePlan, device: str, request: Mapping[str, Any]) -> dict[str, Any]:
    """What the parts belong to."""
    ends = {"rows": [span.write.stop for span in plan.rows], "columns": [span.write.stop for span in plan.columns]}
    return {**raster.stamp, **ends, "device": device, "request": dict(request)}


def _put(made: Path, target: Path) -> None:
    """Moves a file or folder to its place, where it appears complete or not at all."""
    for path in made.rglob("*") if made.is_dir() else (made,):
        if path.is_file():
            with path.open("rb") as file:
                os.fsync(file.fileno())
    if made.is_dir():  # a folder can take the place of nothing
        remove(target)
    made.replace(target)
