"""An image predicted tile by tile: exactly where the network is local, blended where it is not."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from pixelwise.data.images import Array
from pixelwise.inference.tiling import Tile, TilePlan, plan_tiles
from pixelwise.networks.geometry import Field
from pixelwise.networks.segmenter import Segmenter
from pixelwise.shapes import Size


class PixelSource(Protocol):
    """Pixels that are read window by window: an array, or a file larger than memory."""

    @property
    def size(self) -> Size:
        """Height and width."""

    def read(self, rows: slice, columns: slice) -> Array:
        """(h, w, C); the slices lie within the image."""


@dataclass(frozen=True, slots=True)
class Whole:
    """The source that an array is."""

    pixels: Array
    """(H, W, C)."""

    @property
    def size(self) -> Size:
        return self.pixels.shape[0], self.pixels.shape[1]

    def read(self, rows: slice, columns: slice) -> Array:
        return self.pixels[rows, columns]


def plan_for(module: Segmenter, field: Field, size: Size, tile: Size) -> TilePlan:
    """The exact tiles of an image of this size as the module frames it.

    Args:
        field: of the module's network, which is local.
        tile: height and width of what one tile answers for.
    """
    return plan_tiles(field, size, (len(module.frame(size[0])), len(module.frame(size[1]))), tile)


def exact_tiles(
    module: Segmenter, source: PixelSource, tiles: Iterable[Tile], infer: Callable[[Array], Tensor]
) -> Iterator[tuple[Tile, Tensor]]:
    """Each tile with its part of the logits of the whole image.

    Args:
        tiles: of the plan for this module and the source's size; all of it or some.
        infer: (h, w, C) pixels of a size that the network takes → its own output (K, h', w').

    Yields (K, h, w) for the image's rows and columns `tile.write`.
    """
    rows, columns = (module.frame(side).numpy() for side in source.size)
    for part in tiles:
        yield part, infer(_framed(source, rows[part.rows.read], columns[part.columns.read]))[:, *part.keep]


def _framed(source: PixelSource, rows: Array, columns: Array) -> Array:
    """(h, w, C) of what these rows and columns of the framed image show, read as one window."""
    top, left = int(rows.min()), int(columns.min())
    window = source.read(slice(top, int(rows.max()) + 1), slice(left, int(columns.max()) + 1))
    framed: Array = window[np.ix_(rows - top, columns - left)]
    return framed


def blended(pixels: Array, tile: Size, infer: Callable[[Array], Tensor]) -> Tensor:
    """(K, H, W) float32 logits: the mean over windows of twice the tile, that overlap by half.

    A window counts most in its middle and nothing at its border, so that nothing changes at once.

    Args:
        infer: (h, w, C) pixels → (K, h, w) logits.
    """
    size = (pixels.shape[0], pixels.shape[1])
    total = weights = torch.zeros(())
    for rows in windows(size[0], tile[0]):
        for columns in windows(size[1], tile[1]):
            logits = infer(pixels[rows, columns]).cpu()
            weight = torch.outer(_hat(rows, tile[0]), _hat(columns, tile[1]))
            if not total.ndim:
                total, weights = torch.zeros(len(logits), *size), torch.zeros(size)
            total[:, rows, columns] += logits * weight
            weights[rows, columns] += weight
    return total / weights


def windows(side: int, tile: int) -> list[slice]:
    """Windows of twice the tile, one every tile, cut at the image: `windows(10, 4)` are 0:6, 2:10 and 6:10."""
    return [
        slice(max(start - tile // 2, 0), min(start + tile + (tile + 1) // 2, side)) for start in range(0, side, tile)
    ]


def _hat(window: slice, tile: int) -> Tensor:
    """Weights along a window: from next to nothing at its ends to 1 in its middle."""
    length = window.stop - window.start
    places = torch.arange(length) + 0.5
    return torch.minimum(places, length - places) / tile


def seam_score(labels: npt.NDArray[np.generic], tile: Size) -> float | None:
    """How many times as often neighboring labels differ across the borders of tiles as elsewhere.

    None where there is no border, or no label differs elsewhere.
    """
    at_borders, elsewhere = np.zeros(2), np.zeros(2)
    for axis in (0, 1):
        differs = np.diff(labels.astype(np.int32), axis=axis) != 0
        counts = differs.sum(1 - axis)
        borders = np.arange(1, labels.shape[axis]) % tile[axis] == 0
        across = labels.shape[1 - axis]
        at_borders += counts[borders].sum(), borders.sum() * across
        elsewhere += counts[~borders].sum(), (~borders).sum() * across
    if not at_borders[1] or not elsewhere[0]:
        return None
    return float(at_borders[0] / at_borders[1] / (elsewhere[0] / elsewhere[1]))
