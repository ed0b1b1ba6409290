"""An image predicted part by part, in strips or tiles: exactly where the network is local, blended where it is not."""

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from pixelwise.data.io.images import Array
from pixelwise.inference.tiling.plan import Part, StripPlan, TilePlan
from pixelwise.inference.tiling.row_ops import Rows
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


Done = Callable[[Part], bool]
"""Whether a part need not be given any more."""


def exact_tiles(
    module: Segmenter, source: PixelSource, plan: TilePlan, infer: Callable[[Array], Tensor], done: Done
) -> Iterator[tuple[Part, Tensor]]:
    """Each part of the plan that is not done with its part (K, h, w) of the logits of the whole image.

    Args:
        plan: for this module and the source's size.
        infer: (h, w, C) pixels of a size that the network takes → its own output (K, h', w').
    """
    rows, columns = (module.compute_padded_indices(side).numpy() for side in source.size)
    parts = itertools.product(range(len(plan.rows)), range(len(plan.columns)))
    for part, tile in zip(parts, plan, strict=True):
        if not done(part):
            seen = _framed(source, rows[tile.rows.read], columns[tile.columns.read])
            yield part, infer(seen)[:, *tile.keep]


def exact_strips(
    module: Segmenter,
    source: PixelSource,
    plan: StripPlan,
    stream: Callable[[Size, Callable[[Rows], Array], Sequence[Rows]], Iterator[Tensor]],
    done: Done,
) -> Iterator[tuple[Part, Tensor]]:
    """The same of strips, band by band; in each from the first that is not done on.

    Args:
        stream: a size that the network takes, what reads (h, w, C) of its rows in order, and strips of its
            rows → its own output (K, h, w) for each strip.
    """
    rows, columns = (module.compute_padded_indices(side).numpy() for side in source.size)
    for column, band in enumerate(plan.columns):
        first = next((row for row in range(len(plan.rows)) if not done((row, column))), None)
        if first is None:
            continue
        seen, places = rows[plan.rows[first].read], columns[band.read]
        begin = plan.rows[first].read.start
        strips = [(span.write.start - begin, span.write.stop - begin) for span in plan.rows[first:]]

        def read(part: Rows, seen: Array = seen, places: Array = places) -> Array:
            return _framed(source, seen[slice(*part)], places)

        answers = stream((len(seen), len(places)), read, strips)
        for row in range(first, len(plan.rows)):
            yield (row, column), next(answers)[:, :, band.keep]


def _framed(source: PixelSource, rows: Array, columns: Array) -> Array:
    """(h, w, C) of what these rows and columns of the framed image show, read as one window."""
    top, left = int(rows.min()), int(columns.min())
    window = source.read(slice(top, int(rows.max()) + 1), slice(left, int(columns.max()) + 1))
    if _is_run(rows) and _is_run(columns):
        return window
    framed: Array = window[np.ix_(rows - top, columns - left)]
    return framed


def _is_run(places: Array) -> bool:
    """Whether each place is the one after the place before: neither mirrored nor repeated, which takes steps
    of -1 or 0 in between."""
    return int(places[-1]) - int(places[0]) == len(places) - 1


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
