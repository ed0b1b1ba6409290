"""Decoding of TIFF: any number of bands, planar or tiled, compressed or not, with GeoTIFF's nodata value."""

import io

import numpy as np
import tifffile

from pixelwise.data.io.decoded_image import (
    ORIENTATION,
    Array,
    DecodedImage,
    add_channel_axis,
    apply_orientation,
    require_size,
)
from pixelwise.errors import DataError

TIFF_MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_GDAL_NODATA = 42113


def decode_tiff(content: bytes, *, as_stored: bool) -> DecodedImage:
    """Decode the first image of a file; `as_stored` keeps palette indices and unscaled gray, as masks need."""
    with tifffile.TiffFile(io.BytesIO(content)) as file:
        page = file.pages.first
        require_size(page.imagelength, page.imagewidth)
        order = _find_axis_order(file.series[0].axes)
        pixels = add_channel_axis(file.series[0].asarray().transpose(order))
        if not as_stored:
            pixels = _to_display_values(pixels, page)
        return DecodedImage(
            pixels=apply_orientation(pixels, page.tags.valueof(ORIENTATION, 1)),
            alpha=any(int(sample) in (1, 2) for sample in page.extrasamples[-1:]),
            nodata=None if as_stored else _read_nodata(page),
        )


def _find_axis_order(axes: str) -> list[int]:
    """Return the order of axes that transposes a TIFF to (H, W) or (H, W, C)."""
    extra = [a for a in axes if a not in "YX"]
    if "Y" not in axes or "X" not in axes or any(a not in "SC" for a in extra) or len(extra) > 1:
        raise DataError(f"the TIFF is a stack (axes {axes}). Save one image per file.")
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


def _read_nodata(page: tifffile.TiffPage) -> float | None:
    text = str(page.tags.valueof(_GDAL_NODATA, "")).strip(" \0")
    try:
        return float(text) if text else None
    except ValueError as error:
        raise DataError(f"its nodata value {text!r} is not a number. Correct the tag GDAL_NODATA.") from error
