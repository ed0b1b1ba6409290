"""Decoding of TIFF: any number of bands and pages, planar or tiled, compressed or not, with GeoTIFF's nodata value.

`Georeference` is the affine transform of a GeoTIFF, or of the files next to an image, from pixels to map coordinates,
and its EPSG code. `read_geo_tags` copies everything that says where an image is, for files with labels of it.
"""

import html
import io
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import tifffile

from pixelwise.data.io.decoded_image import (
    ORIENTATION,
    Array,
    DecodedImage,
    add_channel_axis,
    apply_orientation,
    merge_masks,
    require_size,
)
from pixelwise.data.io.nodata import ALL_DATA, Nodata
from pixelwise.errors import DataError
from pixelwise.shapes import Size

TIFF_MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_GDAL_NODATA = 42113
_PIXEL_SCALE, _TIE_POINT, _TRANSFORMATION, _KEYS = 33550, 33922, 34264, 34735
_RATIONAL_POLYNOMIALS = 50844
_GEO_TAGS = (_PIXEL_SCALE, _TIE_POINT, _TRANSFORMATION, _KEYS, 34736, 34737, _RATIONAL_POLYNOMIALS)
"""Tags that say where an image is, with the numbers and texts of the keys."""
_IDENTITY = [(1, 0, 0), (0, 1, 0)]
"""Transform that GDAL writes for an image without a place."""
_MODEL_TYPE, _RASTER_TYPE, _GEOGRAPHIC, _PROJECTED = 1024, 1025, 2048, 3072
_PIXEL_IS_POINT = 2
_USER_DEFINED = 32767
"""From this code on, codes are not of EPSG."""


def decode_tiff(file: BinaryIO, *, page: int | None, as_stored: bool) -> DecodedImage:
    """Decode the image of a file, or a page of a stack.

    `as_stored` keeps palette indices and unscaled gray, as masks need.
    """
    with tifffile.TiffFile(file) as opened:
        planes, axes, first = _read_pixels(opened, page)
        pixels = stored = add_channel_axis(planes.transpose(_find_axis_order(axes)))
        nodata, masked = read_nodata(first), _read_inner_mask(opened) if page is None else None
        if not as_stored:
            pixels = _to_display_values(stored, first)
        if pixels is not stored:  # nodata is a value as stored
            nodata, masked = ALL_DATA, merge_masks(masked, nodata.find(stored))
        orientation = first.tags.valueof(ORIENTATION, 1)
        return DecodedImage(
            pixels=apply_orientation(pixels, orientation),
            alpha=any(int(sample) in (1, 2) for sample in first.extrasamples[-1:]),
            nodata=nodata,
            masked=None if masked is None else apply_orientation(masked, orientation),
        )


def _read_inner_mask(opened: tifffile.TiffFile) -> Array | None:
    """Read the mask that GDAL stores as a page of its own: (H, W, 1) bool, True at pixels without data."""
    size = opened.pages.first.imagelength, opened.pages.first.imagewidth
    for page in opened.pages:
        if isinstance(page, tifffile.TiffPage) and page.is_mask and page.shape == size:
            return np.asarray(page.asarray() == 0)[..., None]
    return None


def find_stack_axes(file: BinaryIO) -> tuple[tuple[str, int], ...]:
    """Find name and length of the axes along which a file is a stack of images: z, time, or pages."""
    with tifffile.TiffFile(file) as opened:
        series = _list_series(opened)
        if len(series) == 1:
            return _get_stack_axes(series[0])
        return (("I", sum(map(_count_pages, series))),)


def _list_series(opened: tifffile.TiffFile) -> list[tifffile.TiffPageSeries]:
    """List the images of a file without its reduced copies and masks of transparency, and without a slide's label."""
    first, *others = opened.series
    if first.kind not in ("generic", "uniform", "shaped", "ome"):
        return [first]
    return [first, *(s for s in others if not (s.keyframe.is_reduced or s.keyframe.is_mask))]


def _get_stack_axes(series: tifffile.TiffPageSeries) -> tuple[tuple[str, int], ...]:
    sizes = zip(series.axes, series.shape, strict=True)
    return tuple((axis, size) for axis, size in sizes if axis not in "YXSC")


def _count_pages(series: tifffile.TiffPageSeries) -> int:
    return prod(size for _, size in _get_stack_axes(series))


def _read_pixels(opened: tifffile.TiffFile, page: int | None) -> tuple[Array, str, tifffile.TiffPage]:
    """Read the image of a file or a page of a stack: its pixels, their axes, and the first directory with its tags."""
    if page is None:
        first = opened.pages.first
        require_size(first.imagelength, first.imagewidth)
        return opened.series[0].asarray(), opened.series[0].axes, first
    for series in _list_series(opened):
        if page < _count_pages(series):
            break
        page -= _count_pages(series)
    first = series.keyframe
    require_size(first.imagelength, first.imagewidth)
    planes = []
    for directory in _find_directories(series, page):
        if directory is None:
            raise DataError("The page is missing. Save the stack again.")
        if max(map(sum, zip(directory.dataoffsets, directory.databytecounts, strict=True))) > opened.filehandle.size:
            raise DataError("The file is truncated. Copy or download it again, or remove it.")
        planes.append(directory.asarray())
    return (planes[0], first.axes, first) if len(planes) == 1 else (np.stack(planes), f"C{first.axes}", first)


def _find_directories(series: tifffile.TiffPageSeries, page: int) -> list[Any]:
    """Find the directories of a page of a stack: several if its channels are stored apart."""
    axes = series.axes[: len(series.axes) - series.keyframe.ndim]
    shape = series.shape[: len(axes)]
    if prod(shape) != len(series.pages):
        raise DataError("Its pages do not have the order that it declares. Save it again as a plain stack.")
    position = iter(np.unravel_index(page, [size for _, size in _get_stack_axes(series)] or [1]))
    place = tuple(slice(None) if axis == "C" else int(next(position)) for axis in axes)
    return [series.pages[int(number)] for number in np.arange(prod(shape)).reshape(shape)[place].flat]


def _find_axis_order(axes: str) -> list[int]:
    """Return the order of axes that transposes a TIFF to (H, W) or (H, W, C)."""
    extra = [a for a in axes if a not in "YX"]
    if "Y" not in axes or "X" not in axes or any(a not in "SC" for a in extra) or len(extra) > 1:
        raise DataError(f"Its axes {axes} are not those of an image. Save it as height x width x channels.")
    return [axes.index("Y"), axes.index("X"), *(axes.index(a) for a in extra)]


def _to_display_values(pixels: Array, page: tifffile.TiffPage) -> Array:
    """Convert palette indices to colors, gray of less than 8 bits to 0..255, and inverted gray to 0 for black."""
    if page.photometric == tifffile.PHOTOMETRIC.PALETTE and page.colormap is not None:
        colors: Array = (page.colormap >> 8).astype(np.uint8).T
        return colors[pixels[..., 0]]
    if pixels.dtype.kind not in "bu":
        return pixels
    highest = 2**page.bitspersample - 1
    if pixels.dtype.kind == "b":
        pixels = pixels.astype(np.uint8)
    if page.photometric == tifffile.PHOTOMETRIC.MINISWHITE:
        pixels = (highest - pixels).astype(pixels.dtype)
    return pixels * (255 // highest) if highest < 255 else pixels


def read_nodata(page: tifffile.TiffPage) -> Nodata:
    """Read the nodata value that GDAL stores with the first page."""
    text = str(page.tags.valueof(_GDAL_NODATA, "")).strip(" \0")
    try:
        return Nodata(values=(float(text),)) if text else ALL_DATA
    except ValueError as error:
        raise DataError(f"Its nodata value {text!r} is not a number. Correct the tag GDAL_NODATA.") from error


@dataclass(frozen=True, slots=True, kw_only=True)
class Georeference:
    """An affine transform from pixel to map coordinates."""

    x: tuple[float, float, float]
    """(a, b, c): the corner of the pixel in column u and row v has the coordinate a u + b v + c."""
    y: tuple[float, float, float]
    epsg: int | None
    """Code of the coordinate reference system; None if the file has none."""

    def to_map(self, column: float, row: float) -> tuple[float, float]:
        """Return the map coordinates of a position in the image; (0, 0) is the outer corner of the first pixel."""
        x, y = (a * column + b * row + c for a, b, c in (self.x, self.y))
        return x, y

    @property
    def pixel_area(self) -> float:
        """Area of a pixel in squared units of the map: square meters or square degrees."""
        return abs(self.x[0] * self.y[1] - self.x[1] * self.y[0])

    def compute_corners(self, size: Size) -> tuple[tuple[float, float], ...]:
        """Compute the map coordinates of the corners of an image: upper left and right, lower left and right."""
        return tuple(self.to_map(column, row) for row in (0, size[0]) for column in (0, size[1]))

    def find_flips(self, other: "Georeference") -> tuple[int, ...]:
        """Find the axes along which another image of the same place is flipped: 0 for rows, 1 for columns.

        Most images are north-up. In south-up ones, the first row is the southernmost.
        """
        if self.x[1] or self.y[0] or other.x[1] or other.y[0]:  # rotated
            return ()
        return tuple(
            axis for axis, (a, b) in enumerate(((self.y, other.y), (self.x, other.x))) if a[1 - axis] * b[1 - axis] < 0
        )

    def flip(self, axes: Sequence[int], size: Size) -> "Georeference":
        """Return the georeference of an image of this size after it is flipped along some axes."""
        x, y = self.x, self.y
        if 0 in axes:
            x, y = ((a, -b, c + b * size[0]) for a, b, c in (x, y))
        if 1 in axes:
            x, y = ((-a, b, c + a * size[1]) for a, b, c in (x, y))
        return replace(self, x=x, y=y)


def find_mask_flips(image: Path, mask: Path) -> tuple[int, ...]:
    """Find the axes along which a mask is flipped against its image, as their georeferences say."""
    of_mask = find_georeference(mask)
    of_image = find_georeference(image) if of_mask else None
    return of_image.find_flips(of_mask) if of_image and of_mask else ()


def find_georeference(path: Path) -> Georeference | None:
    """Find the georeference of an image in its file or next to it; None if it has none, or is damaged."""
    try:
        return read_place(lambda: path.open("rb"), path)[0]
    except Exception:  # damaged files raise errors of any type, and are reported when they are decoded
        return None


GeoTag = tuple[int, int, int, Any, bool]
"""A tag as tifffile writes it: code, type, number of values, values, True to write it once."""


def read_georeference(file: BinaryIO) -> Georeference | None:
    """Read the georeference of an open TIFF; the file is seekable and at its start.

    Returns:
        None for other files, for images stored rotated, and for tie points without an affine transform.
    """
    tags = _read_upright_tags(file)
    if tags is None:
        return None
    rows, keys = _read_affine(tags), _parse_keys(tags.valueof(_KEYS, ()))
    if rows is None or rows == _IDENTITY:
        return None
    if keys.get(_RASTER_TYPE) == _PIXEL_IS_POINT:  # coordinates are of pixel centers: shift to the corner
        rows = [(a, b, c - (a + b) / 2) for a, b, c in rows]
    code = keys.get(_PROJECTED, keys.get(_GEOGRAPHIC, 0))
    return Georeference(x=rows[0], y=rows[1], epsg=code if 0 < code < _USER_DEFINED else None)


def read_geo_tags(file: BinaryIO) -> tuple[GeoTag, ...]:
    """Return the tags that say where an open TIFF is on the map, also by tie points; empty if it has none.

    The file is seekable and at its start. An image that is stored rotated has none.
    """
    found = _read_upright_tags(file)
    if found is None:
        return ()
    has_points = len(found.valueof(_TIE_POINT, ())) > 6 or _RATIONAL_POLYNOMIALS in found
    if (_read_affine(found) or _IDENTITY) == _IDENTITY and not has_points:
        return ()
    tags = [found[code] for code in _GEO_TAGS if code in found]
    return tuple((tag.code, int(tag.dtype), tag.count, tag.value, True) for tag in tags)


def _read_upright_tags(file: BinaryIO) -> Any:
    if file.read(4) not in TIFF_MAGIC:
        return None
    file.seek(0)
    with tifffile.TiffFile(file) as tiff:
        tags = tiff.pages.first.tags
        return None if tags.valueof(ORIENTATION, 1) != 1 else tags


Place = tuple[Georeference | None, tuple[GeoTag, ...]]
"""Position of an image on the map: its affine transform, if it has one, and all tags of a GeoTIFF that say it."""


def read_place(open_image: Callable[[], BinaryIO], path: Path | None) -> Place:
    """Read where an image is on the map, from its file or else from the files next to it.

    Args:
        open_image: Opens the image.
        path: Path of the image; None if it is behind a URL.
    """
    with open_image() as file:
        if tags := read_geo_tags(file):
            file.seek(0)
            return read_georeference(file), tags
    return read_sidecar(path) if path else (None, ())


def has_place(read: Callable[[], Place]) -> bool:
    """Return whether an image has a place on the map; also if a file next to it is damaged, which reading reports."""
    try:
        return bool(read()[1])
    except DataError:
        return True
    except Exception:  # of a damaged image, which decoding reports
        return False


def read_sidecar(image: Path) -> Place:
    """Read the georeference that GIS programs write next to an image: NAME.aux.xml, or a world file with its .prj.

    Returns:
        The georeference and its tags of a GeoTIFF; None and no tags if there are no such files.

    Raises:
        DataError: A world file does not have six numbers.
    """
    auxiliary = image.with_name(f"{image.name}.aux.xml")
    text = html.unescape(auxiliary.read_text(encoding="utf-8", errors="replace")) if auxiliary.is_file() else ""
    if found := re.search(r"<GeoTransform>([^<]*)</GeoTransform>", text):
        west, a, b, north, d, e = (float(number) for number in found[1].split(","))
        return _make_georeference((a, b, west), (d, e, north), text)
    letters = image.suffix[1:2] + image.suffix[-1:] + "w"  # .tif → .tfw, .jpeg → .jgw
    for suffix in (f".{letters}", f"{image.suffix}w", ".wld"):
        if (world := image.with_suffix(suffix)).is_file():
            try:
                a, d, b, e, x, y = (float(line) for line in world.read_text(encoding="utf-8").split())
            except ValueError as error:
                raise DataError(
                    f"{world}: The file is not a world file of six numbers. Correct or remove it."
                ) from error
            # They are the coordinates of the center of the first pixel.
            system = image.with_suffix(".prj")
            text += system.read_text(encoding="utf-8", errors="replace") if system.is_file() else ""
            return _make_georeference((a, b, x - (a + b) / 2), (d, e, y - (d + e) / 2), text)
    return None, ()


def _make_georeference(
    x: tuple[float, float, float], y: tuple[float, float, float], system: str
) -> tuple[Georeference, tuple[GeoTag, ...]]:
    """Return the georeference and its tags; `system` contains the coordinate system as WKT, if it is known."""
    codes = re.findall(r"(?:AUTHORITY|ID)\[\W*EPSG\W+(\d+)", system)  # the last one is that of the whole
    keys = [(_RASTER_TYPE, 1)]
    if codes:
        model, key = (1, _PROJECTED) if re.search(r"PROJC[RS]", system) else (2, _GEOGRAPHIC)
        keys = [(_MODEL_TYPE, model), (_RASTER_TYPE, 1), (key, int(codes[-1]))]
    directory = (1, 1, 0, len(keys), *(number for key, value in keys for number in (key, 0, 1, value)))
    matrix = (*x[:2], 0.0, x[2], *y[:2], 0.0, y[2], 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0)
    tags = ((_TRANSFORMATION, 12, 16, matrix, True), (_KEYS, 3, len(directory), directory, True))
    return Georeference(x=x, y=y, epsg=int(codes[-1]) if codes else None), tags


def encode_label_tiff(
    labels: Array, palette: Sequence[tuple[int, int, int]], tags: Sequence[GeoTag], nodata: int | None
) -> bytes:
    """Encode (H, W) uint8 or uint16 as a compressed GeoTIFF; `nodata` is declared as the value of missing pixels."""
    extra = [*tags, *([(_GDAL_NODATA, 2, 0, str(nodata), True)] if nodata is not None else [])]
    colors = np.zeros((3, 256), np.uint16)
    if palette:
        colors[:, : len(palette)] = np.array(palette, np.uint16).T * 257
    buffer = io.BytesIO()
    tifffile.imwrite(
        buffer,
        labels,
        photometric="palette" if palette else "minisblack",
        colormap=colors if palette else None,
        compression="zlib",
        extratags=extra,
        metadata=None,
    )
    return buffer.getvalue()


def _read_affine(tags: Any) -> list[tuple[float, float, float]] | None:
    if len(matrix := tags.valueof(_TRANSFORMATION, ())) == 16:
        return [(matrix[0], matrix[1], matrix[3]), (matrix[4], matrix[5], matrix[7])]
    scale, tie = tags.valueof(_PIXEL_SCALE, ()), tags.valueof(_TIE_POINT, ())
    if len(scale) < 2 or len(tie) != 6 or not all(scale[:2]):
        return None
    column, row, _, x, y, _ = tie
    width, height = scale[0], abs(scale[1])  # as in GDAL: the sign of the height says nothing about the direction
    return [(width, 0.0, x - column * width), (0.0, -height, y + row * height)]


def _parse_keys(directory: Sequence[int]) -> dict[int, int]:
    """Return the keys whose value is stored in the directory itself; other values are texts and real numbers."""
    entries = [directory[i : i + 4] for i in range(4, len(directory) - 3, 4)]
    return {key: value for key, location, _, value in entries if location == 0}
