"""Images larger than memory: windows in, a label GeoTIFF out, stopped and continued at any row of tiles.

Labels of finished rows of tiles lie as small files in a folder beside the result, each complete or not
there at all. The GeoTIFF is made from them in one pass at the end, so an interruption changes no byte of it.
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
from pixelwise.data.images import Array, unfinished, write_atomically
from pixelwise.data.layouts.documents import read_json
from pixelwise.data.pixels import MAX_PIXELS
from pixelwise.data.raster import JPEG_2000, TIFF, Raster, has_rasterio, num_pixels, open_raster
from pixelwise.errors import DataError, RequestError
from pixelwise.inference.predictor import Predictor
from pixelwise.inference.tiling import Span, TilePlan

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
        plan = predictor.plan_windows(raster.size)
        strips = _Strips(_folder_of_rows(target), raster.size[1], predictor.classes.dtype)
        strips.begin(_description(path, plan, request), resume=resume)
        source = _Checked(predictor, raster)
        # One for all rows, taken before the first tile: later it would lie where a tile's tensors were,
        # and these be put behind it.
        room = np.empty((max(rows.write.stop - rows.write.start for rows in plan.rows), raster.size[1]), strips.dtype)
        for index, rows in enumerate(plan.rows):
            if not strips.has(index):
                strips.write(index, _labels_of(rows, plan, predictor, source, room))
            track((index + 1) * len(plan.columns), len(plan.rows) * len(plan.columns))
        _write_geotiff(target, strips.read(len(plan.rows)), raster, predictor.classes)
        strips.remove()


def forget_rows(target: Path) -> None:
    """Removes the rows of tiles that an interrupted `predict_raster` has left."""
    folder = _folder_of_rows(target)
    if folder.exists():
        shutil.rmtree(folder)


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


def _labels_of(rows: Span, plan: TilePlan, predictor: Predictor, source: _Checked, room: Array) -> Array:
    """(h, W) labels of one row of tiles, written into the first rows of `room`."""
    classes = predictor.classes
    strip: Array = room[: rows.write.stop - rows.write.start]
    one_row = TilePlan(rows=(rows,), columns=plan.columns)
    for tile, labels in predictor.label_tiles(source, one_row):
        part = strip[:, tile.columns.write]
        part[:] = labels
        missing = source.raster.missing(*tile.write)
        if missing is not None:
            part[missing] = classes.ignore_label
    return strip


@dataclass(frozen=True, slots=True)
class _Strips:
    """Labels of rows of tiles, as files."""

    folder: Path
    width: int
    dtype: type[np.generic]

    def begin(self, description: dict[str, Any], *, resume: bool) -> None:
        """Keeps what is there only if it was made for the same."""
        file = self.folder / "image.json"
        if not (resume and _read(file) == description):
            self.remove()
            write_atomically(file, json.dumps(description, sort_keys=True).encode())

    def has(self, index: int) -> bool:
        return self._file(index).exists()

    def write(self, index: int, strip: Array) -> None:
        write_atomically(self._file(index), zlib.compress(strip.tobytes(), 1))

    def read(self, count: int) -> Iterator[Array]:
        """(h, width) each, in order."""
        for index in range(count):
            content = zlib.decompress(self._file(index).read_bytes())
            yield np.frombuffer(content, self.dtype).reshape(-1, self.width)

    def remove(self) -> None:
        if self.folder.exists():
            shutil.rmtree(self.folder)

    def _file(self, index: int) -> Path:
        return self.folder / f"{index:06d}.labels"


def _folder_of_rows(target: Path) -> Path:
    return target.with_name(f".{target.name}.part")


def _read(file: Path) -> Any:
    try:
        return read_json(file)
    except DataError:
        return None


def _description(path: Path, plan: TilePlan, request: Mapping[str, Any]) -> dict[str, Any]:
    """What strips belong to."""
    found = path.stat()
    rows = [span.write.stop for span in plan.rows]
    return {"bytes": found.st_size, "changed": found.st_mtime_ns, "rows": rows, "request": dict(request)}


def _write_geotiff(target: Path, strips: Iterable[Array], raster: Raster, classes: Classes) -> None:
    """The file appears complete or not at all."""
    temporary = unfinished(target)
    try:
        with _new_geotiff(temporary, raster, classes) as geotiff:
            top = 0
            for piece in _in_blocks(strips):
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
