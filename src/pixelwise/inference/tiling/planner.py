"""Choose how a predictor's images are tiled, so that memory is bounded."""

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import nn
from torch._ops import OpOverload
from torch.multiprocessing.reductions import StorageWeakRef

from pixelwise.devices import Precision
from pixelwise.errors import InvalidArgumentError
from pixelwise.inference.tiling.plan import TilePlan, choose_tile_size, plan_tiles
from pixelwise.networks import Segmenter
from pixelwise.networks.geometry import NetworkGeometry, trace_geometry
from pixelwise.networks.geometry.tracer import OpObserver, copy_to_meta, find_tensors
from pixelwise.shapes import Size

WHOLE_PIXELS = 1024 * 1024
"""Images up to this number of pixels are never tiled."""
MAX_BYTES = 1 << 30
"""Limit of the tensors that exist at once while one image or tile is predicted.

The process takes two to three times as much, because the allocator leaves gaps between blocks of many sizes.
"""
WINDOWED_BYTES = 384 << 20
"""The limit for images that are read window by window, where the whole process stays below 2 GB.

Measured for a U-Net with 2 base channels and tiles of 512 MiB: 0.6 GB before the first tile, 1.74 GB in all.
"""
WINDOWED_SIZE = (1024, 2048)
"""Tiles of windowed images are chosen as for an image of at most this size.

All tiles then have the same shape and the same peak memory. They are low, because the labels of a whole row of tiles
are in memory when they are compressed.
"""


@dataclass(frozen=True, kw_only=True)
class TilePlanner:
    """Plans the tiles of one predictor's images."""

    module: Segmenter
    """Its network is the one that runs, or the one from which an engine's network was made."""
    channels: int
    precision: Precision

    def is_whole(self, size: Size) -> bool:
        """Return whether an image of `size` is predicted without tiles."""
        if math.prod(size) <= WHOLE_PIXELS:
            return True
        return math.prod(self._pad(size)) * self.bytes_per_pixel <= MAX_BYTES

    def plan(self, size: Size, tile_size: Size | None = None) -> TilePlan:
        """Plan exact tiles of an image in memory; `geometry` must not be None.

        Args:
            size: (height, width) of the image.
            tile_size: (height, width) that a tile writes; None: as large as memory allows.
        """
        assert self.geometry is not None
        if tile_size is None:
            tile_size = choose_tile_size(self.geometry, size, self._pad(size), int(MAX_BYTES / self.bytes_per_pixel))
        return plan_tiles(self.geometry, size, self._pad(size), tile_size)

    def plan_windowed(self, size: Size) -> TilePlan:
        """Plan exact tiles of an image that is never in memory as a whole.

        Raises:
            InvalidArgumentError: The network depends on the whole image.
        """
        if self.geometry is None:
            raise InvalidArgumentError(
                "The network depends on the whole image, so it has no exact tiles and cannot predict an image window "
                "by window. Cut the image, or train a network with batch normalization or without normalization."
            )
        sample = min(size[0], WINDOWED_SIZE[0]), min(size[1], WINDOWED_SIZE[1])
        max_pixels = int(WINDOWED_BYTES / self.bytes_per_pixel)
        for share in (1.0, 0.9, 0.8, 0.6, 0.4, 0.2):
            tile_size = choose_tile_size(self.geometry, sample, self._pad(sample), int(share * max_pixels))
            plan = self.plan(size, tile_size)
            if math.prod(plan.max_input_size) <= max_pixels:  # tiles at the sample's border read less than inner ones
                break
        return plan

    @cached_property
    def geometry(self) -> NetworkGeometry | None:
        """Geometry of the network; None if its receptive field is global, so that no tile is exact."""
        try:
            geometry = trace_geometry(self.module.network, in_channels=self.channels)
        except InvalidArgumentError:  # an operator without a geometry rule
            return None
        return geometry if geometry.is_local else None

    @property
    def blend_tile_size(self) -> Size:
        """(height, width) of blended tiles, whose windows have twice these sides and fill the memory limit."""
        return (math.isqrt(int(MAX_BYTES / self.bytes_per_pixel)) // 2,) * 2

    @cached_property
    def bytes_per_pixel(self) -> float:
        """Peak memory for a pixel of the padded image."""
        size = self._pad((512, 512))
        bytes_float32 = measure_peak_bytes(copy_to_meta(self.module.network), size, channels=self.channels)
        return bytes_float32 / math.prod(size) * (0.5 if self.precision == "bf16" else 1.0)

    def _pad(self, size: Size) -> Size:
        return len(self.module.compute_padded_indices(size[0])), len(self.module.compute_padded_indices(size[1]))


def measure_peak_bytes(meta_network: nn.Module, size: Size, *, channels: int) -> int:
    """Return the peak bytes of all tensors while the network runs on one float32 image.

    Weights are not counted, nor memory that libraries allocate inside an operator.

    Args:
        meta_network: A network on the meta device, see `copy_to_meta`.
        size: A legal (height, width).
        channels: C of the image.
    """
    counter = _TensorMemory()
    with torch.inference_mode(), counter:
        meta_network(torch.empty(1, channels, *size, device="meta"))
    return counter.peak


class _TensorMemory(OpObserver):
    """Counts the bytes of the tensors that exist while it is active."""

    def __init__(self) -> None:
        super().__init__()
        self.peak: int = 0
        self._blocks: dict[int, tuple[StorageWeakRef, int]] = {}

    def on_op(self, func: OpOverload, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any) -> None:
        for tensor in find_tensors(result):
            block = tensor.untyped_storage()
            self._blocks[block._cdata] = StorageWeakRef(block), block.nbytes()  # type: ignore[no-untyped-call]
        self._blocks = {key: entry for key, entry in self._blocks.items() if not entry[0].expired()}  # type: ignore[no-untyped-call]
        self.peak = max(self.peak, sum(num_bytes for _, num_bytes in self._blocks.values()))
