"""Predict an image in tiles: exact for networks that are local, blended for all others."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from pixelwise.data.io.images import Array
from pixelwise.inference.tiling.plan import Tile, TilePlan
from pixelwise.networks.segmenter import Segmenter
from pixelwise.shapes import Size


class PixelSource(Protocol):
    """Pixels that are read window by window, from an array or from a file larger than memory."""

    @property
    def size(self) -> Size:
        """(height, width)."""

    def read(self, rows: slice, columns: slice) -> Array:
        """Read a window (h, w, C); the slices are inside the image."""


@dataclass(frozen=True, slots=True)
class ArraySource:
    """A pixel source from an array in memory."""

    pixels: Array
    """(H, W, C)."""

    @property
    def size(self) -> Size:
        """(height, width)."""
        return self.pixels.shape[0], self.pixels.shape[1]

    def read(self, rows: slice, columns: slice) -> Array:
        """Return a window (h, w, C), which is a view."""
        return self.pixels[rows, columns]


def predict_tiles(
    segmenter: Segmenter,
    source: PixelSource,
    plan: TilePlan,
    infer: Callable[[Array], Tensor],
    is_done: Callable[[Tile], bool],
) -> Iterator[tuple[Tile, Tensor]]:
    """Yield each tile that is not done with its logits (K, h, w), which are those of the whole image.

    Args:
        segmenter: Defines how the image is padded.
        source: The image.
        plan: Its tiles, for this segmenter and this size.
        infer: Maps pixels (h, w, C) of a legal size to the network's own output (K, h', w').
        is_done: Whether to skip a tile.
    """
    rows, columns = (segmenter.compute_padded_indices(side).numpy() for side in source.size)
    for tile in plan:
        if not is_done(tile):
            pixels = _read_padded(source, rows[tile.rows.read], columns[tile.columns.read])
            yield tile, infer(pixels)[:, *tile.keep]


def _read_padded(source: PixelSource, rows: Array, columns: Array) -> Array:
    """Read these rows and columns of the image, which may repeat or be mirrored, as one window (h, w, C)."""
    top, left = int(rows.min()), int(columns.min())
    window = source.read(slice(top, int(rows.max()) + 1), slice(left, int(columns.max()) + 1))
    if _is_contiguous(rows) and _is_contiguous(columns):
        return window
    padded: Array = window[np.ix_(rows - top, columns - left)]
    return padded


def _is_contiguous(indices: Array) -> bool:
    """Return whether indices rise by 1; mirrored or repeated ones have steps of -1 or 0."""
    return int(indices[-1]) - int(indices[0]) == len(indices) - 1


def blend_tiles(pixels: Array, tile_size: Size, infer: Callable[[Array], Tensor]) -> Tensor:
    """Return the weighted mean of the logits of windows that overlap by half, (K, H, W) float32.

    Windows have twice the height and width of a tile. Their weight falls from their center to zero at their border, so
    that no border is visible.

    Args:
        pixels: (H, W, C).
        tile_size: (height, width).
        infer: Maps pixels (h, w, C) to logits (K, h, w).
    """
    size = (pixels.shape[0], pixels.shape[1])
    total = weights = torch.zeros(())
    for rows in plan_blend_windows(size[0], tile_size[0]):
        for columns in plan_blend_windows(size[1], tile_size[1]):
            logits = infer(pixels[rows, columns]).cpu()
            weight = torch.outer(_compute_hat(rows, tile_size[0]), _compute_hat(columns, tile_size[1]))
            if not total.ndim:
                total, weights = torch.zeros(len(logits), *size), torch.zeros(size)
            total[:, rows, columns] += logits * weight
            weights[rows, columns] += weight
    return total / weights


def plan_blend_windows(side: int, tile_side: int) -> list[slice]:
    """Plan windows of twice a tile's side, one for each tile, clipped to the image.

    Example:
        >>> plan_blend_windows(10, 4)
        [slice(0, 6, None), slice(2, 10, None), slice(6, 10, None)]
    """
    return [
        slice(max(start - tile_side // 2, 0), min(start + tile_side + (tile_side + 1) // 2, side))
        for start in range(0, side, tile_side)
    ]


def _compute_hat(window: slice, tile_side: int) -> Tensor:
    """Return weights that rise linearly from the ends of a window to 1 in its center."""
    length = window.stop - window.start
    centers = torch.arange(length) + 0.5
    return torch.minimum(centers, length - centers) / tile_side


def compute_seam_score(labels: npt.NDArray[np.generic], tile_size: Size) -> float | None:
    """Return how many times as often neighboring labels differ across tile borders as elsewhere.

    Args:
        labels: (H, W).
        tile_size: (height, width).

    Returns:
        About 1 where seams are invisible; None without borders, or if labels are constant elsewhere.
    """
    at_borders, elsewhere = np.zeros(2), np.zeros(2)
    for axis in (0, 1):
        differs = np.diff(labels.astype(np.int32), axis=axis) != 0
        counts = differs.sum(1 - axis)
        is_border = np.arange(1, labels.shape[axis]) % tile_size[axis] == 0
        across = labels.shape[1 - axis]
        at_borders += counts[is_border].sum(), is_border.sum() * across
        elsewhere += counts[~is_border].sum(), (~is_border).sum() * across
    if not at_borders[1] or not elsewhere[0]:
        return None
    return float(at_borders[0] / at_borders[1] / (elsewhere[0] / elsewhere[1]))
