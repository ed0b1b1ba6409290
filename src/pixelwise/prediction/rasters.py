"""Predict images larger than memory: windows in, labels of the same format out.

Labels of finished parts are small files in a folder next to the result, each complete or missing, so that an
interrupted prediction can be resumed. The result is made from them in one pass, so an interruption does not change it.
"""

import contextlib
import json
import os
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pixelwise.data.io.decoded_image import Array
from pixelwise.data.rasters import Raster, find_raster_format
from pixelwise.errors import DataError, InvalidArgumentError
from pixelwise.files import READ_ERRORS, read_json, write_atomically
from pixelwise.inference.predictor import Predictor
from pixelwise.inference.tiling.plan import Tile, TilePlan
from pixelwise.output_files import OutputManifest, remove_path
from pixelwise.progress import report_progress


def predict_raster(
    predictor: Predictor, path: Path, target: Path, *, manifest: OutputManifest, resume: bool = False
) -> None:
    """Write the labels of an image in the format for its kind: a tiled, compressed GeoTIFF, or an OME-Zarr.

    Pixels without data in the image get the ignore index. Memory only grows with the width of the image, by the
    labels of a few rows.

    Args:
        manifest: the manifest of the folder, with the request.
        resume: continue what the same request has left, if the image has not changed.

    Raises:
        InvalidArgumentError: the package that reads the image is not installed, or the receptive field is global.
        DataError: the image cannot be read, or does not fit the model.
    """
    with find_raster_format(path).open(path, predictor.spec.channels, predictor.spec.nodata) as raster:
        plan = predictor.tile_planner.plan_windowed(raster.size)
        parts = _TileFiles(_get_part_folder(target), plan, predictor.classes.dtype)
        parts.begin(_describe_parts(raster, plan, predictor.device.type, manifest.request), resume=resume)
        for tile, labels in predictor.label_tiles(_CheckedRaster(predictor, raster), plan, parts.has):
            missing = raster.find_missing(*tile.write)
            if missing is not None:
                labels[missing] = predictor.classes.ignore_index
            parts.write(tile, labels)
            report_progress(path.name, parts.num_done, len(plan))
        result = parts.folder / target.name
        remove_path(result)  # of an interrupted attempt
        raster.write_labels(result, parts.read(), predictor.classes)
        manifest.record(target, result)
        _publish(result, target)
        parts.remove()


def remove_parts(target: Path) -> None:
    """Remove what an interrupted `predict_raster` has left."""
    remove_path(_get_part_folder(target))


@dataclass(frozen=True, slots=True)
class _CheckedRaster:
    """A raster with pixels as the model takes them."""

    predictor: Predictor
    raster: Raster

    @property
    def size(self) -> tuple[int, int]:
        return self.raster.size

    def read(self, rows: slice, columns: slice) -> Array:
        pixels = self.raster.read(rows, columns)
        try:
            return self.predictor.check_image(pixels)
        except (DataError, InvalidArgumentError) as error:
            raise type(error)(f"{self.raster.path}: {error}") from error


@dataclass(slots=True)
class _TileFiles:
    """The labels of the tiles of a plan, as files."""

    folder: Path
    plan: TilePlan
    dtype: type[np.generic]
    num_done: int = 0

    def begin(self, description: dict[str, Any], *, resume: bool) -> None:
        """Prepare the folder; finished parts are kept only if they have the same description."""
        file, previous = self.folder / "image.json", None
        with contextlib.suppress(*READ_ERRORS):  # missing or damaged
            previous = read_json(file)
        if not (resume and previous == description):
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
                    f"{self.folder}: A part of an interrupted prediction is damaged. Remove the folder and start again."
                ) from error
            yield np.hstack(labels)

    def remove(self) -> None:
        remove_path(self.folder)

    def _file(self, row: int, column: int) -> Path:
        return self.folder / f"{row:06d}-{column:04d}.labels"


def _get_part_folder(target: Path) -> Path:
    return target.with_name(f".{target.name}.part")


def _describe_parts(raster: Raster, plan: TilePlan, device: str, request: Mapping[str, Any]) -> dict[str, Any]:
    """Return everything that the labels of the tiles depend on."""
    ends = {"rows": [span.write.stop for span in plan.rows], "columns": [span.write.stop for span in plan.columns]}
    return {**raster.stamp, **ends, "device": device, "request": dict(request)}


def _publish(result: Path, target: Path) -> None:
    """Move a file or folder to its place, where it appears complete or not at all."""
    for path in result.rglob("*") if result.is_dir() else (result,):
        if path.is_file():
            with path.open("rb") as file:
                os.fsync(file.fileno())
    if result.is_dir():  # a folder cannot replace another one
        remove_path(target)
    result.replace(target)
