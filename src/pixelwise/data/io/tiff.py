"""TIFF: any number of bands, planar or tiled, compressed or not; GeoTIFF's nodata value."""

import io

import numpy as np
import tifffile

from pixelwise.data.io.decoded import ORIENTATION, Array, Decoded, oriented, require_size, with_channels
from pixelwise.errors import DataError

MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_GDAL_NODATA = 42113


def decode_tiff(content: bytes, *, as_stored: bool) -> Decoded:
    """The first image of a file. Stored values are those of a mask: palette indices, gray not stretched."""
    with tifffile.TiffFile(io.BytesIO(content)) as file:
        page = file.pages.first
        require_size(page.imagelength, page.imagewidth)
        order = _bands_last(file.series[0].axes)
        pixels = with_channels(file.series[0].asarray().transpose(order))
        if not as_stored:
            pixels = _shown(pixels, page)
        return Decoded(
            pixels=oriented(pixels, page.tags.valueof(ORIENTATION, 1)),
            alpha=any(int(sample) in (1, 2) for sample in page.extrasamples[-1:]),
            nodata=None if as_stored else _nodata(page),
        )


def _bands_last(axes: str) -> list[int]:
    """How to transpose a TIFF of some order of rows, columns and bands → (H, W) or (H, W, C)."""
    extra = [a for a in axes if a not in "YX"]
    if "Y" not in axes or "X" not in axes or any(a not in "SC" for a in extra) or len(extra) > 1:
        raise DataError(f"the TIFF is a stack (axes {axes}); save one image per file.")
    return [axes.index("Y"), axes.index("X"), *(axes.index(a) for a in extra)]


def _shown(pixels: Array, page: tifffile.TiffPage) -> Array:
    """Palette indices as colors; gray stored in less than 8 bit, or with 0 for white, as usual."""
    if page.photometric == tifffile.PHOTOMETRIC.PALETTE and page.colormap is not None:
        colors: Array = (page.colormap >> 8).astype(np.uint8).T
        return colors[pixels[..., 0]]
    return _stretched(pixels, page.bitspersample, page.photometric)


def _stretched(pixels: Array, bits: int, photometric: int) -> Array:
    if pixels.dtype.kind not in "bu":
        return pixels
    top = 2**bits - 1
    if pixels.dtype.kind == "b":
        pixels = pixels.astype(np.uint8)
    if photometric == tifffile.PHOTOMETRIC.MINISWHITE:
        pixels = (top - pixels).astype(pixels.dtype)
    return pixels * (255 // top) if top < 255 else pixels


def _nodata(page: tifffile.TiffPage) -> float | None:
    text = str(page.tags.valueof(_GDAL_NODATA, "")).strip(" \0")
    try:
        return float(text) if text else None
    except ValueError as error:
        raise DataError(f"its nodata value {text!r} is no number; write the tag GDAL_NODATA anew.") from error
