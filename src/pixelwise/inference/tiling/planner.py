"""How a predictor's images are cut, so that memory is bounded: whole, in strips, in tiles, or not exactly at all."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

from torch import nn

from pixelwise.devices import Precision
from pixelwise.errors import InvalidArgumentError
from pixelwise.inference.tiling.op_recorder import record
from pixelwise.inference.tiling.peak_memory import peak_bytes, streamed_peak_bytes
from pixelwise.inference.tiling.plan import Plan, StripPlan, TilePlan, choose_tile, plan_strips, plan_tiles
from pixelwise.networks import Segmenter
from pixelwise.networks.geometry.network_geometry import NetworkGeometry
from pixelwise.networks.geometry.tracer import copy_to_meta
from pixelwise.shapes import Size, round_up

WHOLE_PIXELS = 1024 * 1024
"""Images up to this size are always taken whole."""
MAX_BYTES = 1 << 30
"""For the tensors that live at once while one image, strip or tile passes.

The process takes more, as the allocator leaves gaps between blocks of many sizes: measured on a CPU, a
U-Net of width 32 in bf16 took 2.8 GB for tiles counted as 1.04 GB. Strips take far less than this limit.
"""
WINDOWED_BYTES = 384 << 20
"""The same for images read window by window, whose promise is 2 GB for the whole process: 0.6 GB before the
first tile, and 2.2 times the tensors (1.74 GB in all for tiles counted as 512 MiB, a U-Net of width 2)."""
WINDOWED_SIZE = (1024, 2048)
"""Their tiles are chosen as for an image of at most this size: tiles of one shape, so one peak of memory, for
all. Low ones, as the labels of a whole row of tiles are held as they are compressed."""

BAND_WIDTHS = (4096, 2048, 1024, 512)
"""Tried in turn until memory suffices."""
STRIP_PIXELS = 1 << 19
"""Of one strip, about: few enough for little memory, enough for the operators to take far longer than
their calls, some milliseconds a strip."""
STRIPS_TRIED = 3
"""Until memory has been at its peak: the first fills all halos, the next frees what it left."""


@dataclass(frozen=True, kw_only=True)
class Cutting:
    """What decides how one predictor's images are cut."""

    module: Segmenter
    """Its network is what runs, or where an engine does not tell, what it was made from."""
    channels: int
    precision: Precision
    geometry: NetworkGeometry | None
    """None: the network sees the whole image, so that no tile is exact."""
    by_strips: bool
    """Whether the network that runs can be taken apart into its operators."""

    def plan(self, size: Size) -> Plan:
        """Exact parts of an image for which memory would not suffice as a whole; there is a field."""
        assert self.geometry is not None
        if size not in self._plans:
            self._plans[size] = self._strips(self.geometry, size, MAX_BYTES) or self._largest_tiles(self.geometry, size)
        return self._plans[size]

    @cached_property
    def _plans(self) -> dict[Size, Plan]:
        """Those made: images of a folder often have one size."""
        return {}

    def windows(self, size: Size) -> Plan:
        """Exact parts of an image that is never in memory as a whole.

        InvalidArgumentError for a network that sees the whole image.
        """
        if self.geometry is None:
            raise InvalidArgumentError(
                "the network sees the whole image, so it has no exact tiles and cannot take an image "
                "window by window; cut the image, or train a network with batch normalization or none."
            )
        return self._strips(self.geometry, size, WINDOWED_BYTES) or self._low_tiles(self.geometry, size)

    def tiles(self, tile: Size, size: Size) -> TilePlan:
        """Exact tiles of this height and width; there is a field."""
        assert self.geometry is not None
        return plan_tiles(self.geometry, size, self._framed(size), tile)

    def fits(self, size: Size) -> bool:
        """Whether an image is taken whole."""
        if math.prod(size) <= WHOLE_PIXELS:
            return True
        return math.prod(self._framed(size)) * self.bytes_per_pixel <= MAX_BYTES

    @property
    def blended_tile(self) -> Size:
        """Windows of twice its height and width are as large as memory allows."""
        return (math.isqrt(int(MAX_BYTES / self.bytes_per_pixel)) // 2,) * 2

    @cached_property
    def bytes_per_pixel(self) -> float:
        """Of memory that a pixel of a framed image takes, at most, on its way."""
        size = self._framed((512, 512))
        return peak_bytes(self._skeleton, size, channels=self.channels) / math.prod(size) * self._share

    def _strips(self, field: NetworkGeometry, size: Size, max_bytes: int) -> StripPlan | None:
        """Strips in bands as wide as memory allows; None: the network cannot be streamed, or not so small."""
        if not self.by_strips:
            return None
        framed = self._framed(size)
        try:
            return next(
                (plan for plan in self._tried(field, size, framed) if self._bytes(plan, framed) <= max_bytes), None
            )
        except InvalidArgumentError:  # an operator that is not run on some rows
            return None

    def _tried(self, field: NetworkGeometry, size: Size, framed: Size) -> Iterator[StripPlan]:
        widths = [round_up(-(-size[1] // -(-size[1] // most)), field.stride[1]) for most in BAND_WIDTHS]
        for width in dict.fromkeys(widths):  # all of one height: narrower ones shall take less memory
            height = round_up(-(-STRIP_PIXELS // widths[0]), field.stride[0])
            yield plan_strips(field, size, framed, (height, width))

    def _bytes(self, plan: StripPlan, framed: Size) -> float:
        """At the peak, of the widest band."""
        width = max(band.read.stop - band.read.start for band in plan.columns)
        program = record(self._skeleton, (framed[0], width), channels=self.channels)
        strips = [(span.write.start, span.write.stop) for span in plan.rows[:STRIPS_TRIED]]
        return streamed_peak_bytes(program, strips, channels=self.channels) * self._share

    def _largest_tiles(self, field: NetworkGeometry, size: Size) -> TilePlan:
        return self.tiles(choose_tile(field, size, self._framed(size), int(MAX_BYTES / self.bytes_per_pixel)), size)

    def _low_tiles(self, field: NetworkGeometry, size: Size) -> TilePlan:
        sample = min(size[0], WINDOWED_SIZE[0]), min(size[1], WINDOWED_SIZE[1])
        most = int(WINDOWED_BYTES / self.bytes_per_pixel)
        for share in (1.0, 0.9, 0.8, 0.6, 0.4, 0.2):
            plan = self.tiles(choose_tile(field, sample, self._framed(sample), int(share * most)), size)
            if math.prod(plan.largest) <= most:  # tiles at the sample's border see less than those inside
                break
        return plan

    def _framed(self, size: Size) -> Size:
        return len(self.module.compute_padded_indices(size[0])), len(self.module.compute_padded_indices(size[1]))

    @cached_property
    def _skeleton(self) -> nn.Module:
        return copy_to_meta(self.module.network)

    @property
    def _share(self) -> float:
        """Of the bytes that tensors would take in float32."""
        return 0.5 if self.precision == "bf16" else 1.0
