"""Images larger than memory: windows in, a label GeoTIFF out, stopped and continued at any part.

Labels of finished parts lie as small files in a folder beside the result, each complete or not there at
all. The GeoTIFF is made from them in one pass at the end, so an interruption changes no byte of it.
"""

import json
import os
import shutil
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pixelwise.data.classes import Classes
from pixelwise.data.images import Array, write_atomically
from pixelwise.data.layouts.documents import read_json
from pixelwise.data.pixels import MAX_PIXELS
from pixelwise.data.raster import JPEG_2000, TIFF, Raster, has_rasterio, num_pixels, open_raster
from pixelwise.errors import DataError, RequestError
from pixelwise.inference.predictor import Predictor
from pixelwise.inference.tiling import Part, Plan

WINDOWED_PIXELS = 64 << 20
"""Larger TIFFs are read by windows, where that can give what is asked for."""
BLOCK = 512
"""Side of the GeoTIFF's own tiles."""


def needs_windows(path: Path, able: bool) -> bool:
    """Whether an image is predicted by windows: JPEG 2000, which nothing else reads here, and large TIFFs.

    Args:
        able: whether windows can give what is asked for. If not, a TIFF is only taken so where it could
            not be decoded as a whole either.
    """
    ending = path.suffix.lower()
    if ending in JPEG_2000:
        return True
    pixels = num_pixels(path) if ending in TIFF else 0
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
    """Writes the labels of an image as a tiled, compressed GeoTIFF with its CRS, transform and nodata.

    Pixels that hold no data in the image are the ignore label, declared as nodata. Memory grows with the
    width of the image by a row of tiles of labels, one byte a pixel, and with nothing else.

    Args:
        request: all that decides the labels but the image, as plain values of JSON.
        resume: continues what an equal request has left of an image that has not changed.
        track: hears how many tiles of how many are done.

    Raises:
        RequestError: rasterio is not installed, or the network sees the whole image.
        DataError: the image cannot be read, or does not suit the model.
    """
    with open_raster(path, predictor.spec.channels) as raster:
        plan = predictor.cutting.windows(raster.size)
        parts = _Parts(target.with_name(f".{target.name}.part"), plan, predictor.classes.dtype)
        parts.begin(_description(path, plan, request), resume=resume)
        source = _Checked(predictor, raster)
        for part, labels in predictor.label_parts(source, plan, parts.has):
            missing = raster.missing(*plan.writes(part))
            if missing is not None:
                labels[missing] = predictor.classes.ignore_label
            parts.write(part, labels)
            track(parts.num_done, len(plan.rows) * len(plan.columns))
        _write_geotiff(target, parts.read(), raster, predictor.classes)
        parts.remove()


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
        except (DataError, RequestError) as error:
            raise type(error)(f"{self.raster.path}: {error}") from error


@dataclass(slots=True)
class _Parts:
    """Labels of the parts of a plan, as files."""

    folder: Path
    plan: Plan
    dtype: type[np.generic]
    num_done: int = 0

    def begin(self, description: dict[str, Any], *, resume: bool) -> None:
        """Keeps what is there only if it was made for the same."""
        file = self.folder / "image.json"
        if not (resume and _read(file) == description):
            self.remove()
            write_atomically(file, json.dumps(description, sort_keys=True).encode())
        self.num_done = len(list(self.folder.glob("*.labels")))

    def has(self, part: Part) -> bool:
        return self._file(part).exists()

    def write(self, part: Part, labels: Array) -> None:
        self.num_done += not self.has(part)
        write_atomically(self._file(part), zlib.compress(labels.tobytes(), 1))

    def read(self) -> Iterator[Array]:
        """(h, W) each, from top to bottom."""
        for row, rows in enumerate(self.plan.rows):
            height = rows.write.stop - rows.write.start
            pieces = [self._file((row, column)).read_bytes() for column in range(len(self.plan.columns))]
            labels = [np.frombuffer(zlib.decompress(piece), self.dtype).reshape(height, -1) for piece in pieces]
            yield np.hstack(labels)

    def remove(self) -> None:
        if self.folder.exists():
            shutil.rmtree(self.folder)

    def _file(self, part: Part) -> Path:
        row, column = part
        return self.folder / f"{row:06d}-{column:04d}.labels"


def _read(file: Path) -> Any:
    try:
        return read_json(file)
    except DataError:
        return None


def _description(path: Path, plan: Plan, request: Mapping[str, Any]) -> dict[str, Any]:
    """What strips belong to."""
    found = path.stat()
    ends = {"rows": [span.write.stop for span in plan.rows], "columns": [span.write.stop for span in plan.columns]}
    return {"bytes": found.st_size, "changed": found.st_mtime_ns, **ends, "request": dict(request)}


def _write_geotiff(target: Path, rows: Iterable[Array], raster: Raster, classes: Classes) -> None:
    """The file appears complete or not at all."""
    temporary = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        with _new_geotiff(temporary, raster, classes) as geotiff:
            top = 0
            for piece in _in_blocks(rows):
                geotiff.write(piece, 1, window=((top, top + len(piece)), (0, raster.size[1])))
                top += len(piece)
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)


def _new_geotiff(path: Path, raster: Raster, classes: Classes) -> Any:
    import rasterio

    dataset = raster.dataset
    placed = {} if dataset.transform.is_identity else {"transform": dataset.transform}
    geotiff = rasterio.open(
        path,
        "w",
        driver="GTiff",
        height=dataset.height,
        width=dataset.width,
        count=1,
        dtype=np.dtype(classes.dtype).name,
        crs=dataset.crs,
        nodata=None if raster.nodata is None else classes.ignore_label,
        tiled=True,
        blockxsize=BLOCK,
        blockysize=BLOCK,
        compress="deflate",
        bigtiff="if_safer",
        **placed,
    )
    if classes.dtype is np.uint8:
        geotiff.write_colormap(1, _colormap(classes.colors))
    return geotiff


def _colormap(colors: Sequence[tuple[int, int, int]]) -> dict[int, tuple[int, int, int, int]]:
    return {index: (*color, 255) for index, color in enumerate(colors)}


def _in_blocks(strips: Iterable[Array]) -> Iterator[Array]:
    """Strips of any height → the same rows in whole blocks, so that each is compressed once."""
    waiting: list[Array] = []
    for strip in strips:
        waiting.append(strip)
        if sum(map(len, waiting)) >= BLOCK:
            rows = np.concatenate(waiting)
            whole = len(rows) // BLOCK * BLOCK
            yield rows[:whole]
            waiting = [rows[whole:]]
    if sum(map(len, waiting)):
        yield np.concatenate(waiting)
