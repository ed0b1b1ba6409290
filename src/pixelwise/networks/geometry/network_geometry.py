"""The geometry of a network: stride, receptive field, halo and sizes, as integers.

Found by following the image through the network itself (`tracing.py`), not declared by it: a network
that is changed cannot keep a geometry that is out of date.
"""

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from pixelwise.errors import InvalidArgumentError, PixelwiseError
from pixelwise.networks.geometry.op_rules import Map
from pixelwise.networks.geometry.receptive_field import ReceptiveField
from pixelwise.networks.geometry.tracer import Tracer, copy_to_meta
from pixelwise.shapes import Size, round_up

LARGEST_MINIMUM = 1024
"""Sides tried until a network takes one; the paper's U-Net starts at 188."""

TRACED_SIDE = 512
"""At least this large is the image that is traced: no map on the way shrinks to a single pixel."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Halo:
    """Pixels of the image beyond an output window that can influence it, at each side."""

    top: int
    bottom: int
    left: int
    right: int


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkGeometry:
    """What each output pixel of a network depends on, and which sizes the network takes.

    Rows and columns are counted in the input. The halo is that of an output window [a, b) with `a`,
    its first row or column, a multiple of `stride` and any `b`: it depends on the input rows
    [a + margin - halo.top, b + margin + halo.bottom), as far as the image has them. A tile that
    starts at a multiple of `stride` and holds these pixels gives the same values there as the whole
    image. `rows.reach(a, b)` is exact for any window. Behind a `Segmenter` the image is the padded one.
    """

    rows: ReceptiveField
    """What each output row depends on, phase by phase: `rows.at(i)` is the first and last input row."""
    columns: ReceptiveField
    local: bool
    """False: it sees the whole image, and the numbers below tell what it would see without the
    operators that do so."""
    global_operations: tuple[str, ...]
    """The operators that see the whole image, such as "aten::group_norm"."""
    size_minimum: int
    """Smallest legal height and width."""
    size_multiple: int
    """The legal ones are size_minimum + k * size_multiple: 188 + 16k for the paper's U-Net."""
    output_sizes: tuple[Size, ...]
    """Output sizes for the legal squares from the smallest on, until they repeat (see `output_size`)."""

    @property
    def stride(self) -> Size:
        """Shifting the image by this many rows, or columns, shifts the output by as many."""
        return self.rows.stride, self.columns.stride

    @property
    def resolution(self) -> Size:
        """Output rows, and columns, in one `stride` of the image; equal to it but for feature maps."""
        return len(self.rows.intervals), len(self.columns.intervals)

    @property
    def receptive_field(self) -> Size:
        """Rows and columns that one output pixel depends on, at its largest over the phases."""
        return self.rows.receptive_field, self.columns.receptive_field

    @property
    def margin(self) -> Size:
        """Input rows above, and columns left of, output pixel (0, 0): 92 for the paper's U-Net.

        0 where the output has the size of the input.
        """
        return _margin(self.rows, self.lost[0]), _margin(self.columns, self.lost[1])

    @property
    def halo(self) -> Halo:
        top, bottom = _halo(self.rows, self.margin[0], self.lost[0])
        left, right = _halo(self.columns, self.margin[1], self.lost[1])
        return Halo(top=top, bottom=bottom, left=left, right=right)

    @property
    def lost(self) -> Size:
        """By how many rows and columns the output is smaller than the input, at most."""
        sides = itertools.count(self.size_minimum, self.size_multiple)
        lost = [(side - height, side - width) for side, (height, width) in zip(sides, self.output_sizes, strict=False)]
        return max(rows for rows, _ in lost), max(columns for _, columns in lost)

    def legal_size(self, size: Size) -> Size:
        """The smallest (height, width) that the network takes and that holds `size`."""
        height, width = (
            self.size_minimum + round_up(max(side - self.size_minimum, 0), self.size_multiple) for side in size
        )
        return height, width

    def input_size(self, output: Size) -> Size:
        """The smallest (height, width) that the network takes and whose output holds `output`."""
        return self.legal_size((output[0] + self.lost[0], output[1] + self.lost[1]))

    def output_size(self, size: Size) -> Size:
        """(height, width) of the output for an input of `size`.

        Raises:
            InvalidArgumentError: the network does not take this size.
        """
        if self.legal_size(size) != size:
            raise InvalidArgumentError(
                f"this network takes sides of {self.size_minimum} + {self.size_multiple}k pixels "
                f"({self.size_minimum}, {self.size_minimum + self.size_multiple}, ...), not {size[0]}x{size[1]}; "
                "pad to the next legal size."
            )
        return self._output_side(size, 0), self._output_side(size, 1)

    def _output_side(self, size: Size, dimension: int) -> int:
        steps = (size[dimension] - self.size_minimum) // self.size_multiple
        turns, step = divmod(steps, len(self.output_sizes))
        axis = (self.rows, self.columns)[dimension]
        strides = turns * len(self.output_sizes) * self.size_multiple // axis.stride
        return self.output_sizes[step][dimension] + strides * len(axis.intervals)

    def output_frame(self, size: Size) -> tuple[slice, slice]:
        """Rows and columns of an input of `size` that the output covers: 92 to 480 of 572."""
        height, width = self.output_size(size)
        top, left = self.margin
        return slice(top, top + height), slice(left, left + width)


def trace_geometry(network: nn.Module, *, in_channels: int) -> NetworkGeometry:
    """The geometry of a network, traced in evaluation mode and without its weights.

    Args:
        network: maps (B, in_channels, H, W) to (B, K, H', W'). It is not changed.
        in_channels: C of its images.

    Raises:
        InvalidArgumentError: the network takes no size, resizes by a factor that is not whole, joins maps of
            different resolution, or uses an operator that geometry does not know.
    """
    skeleton = copy_to_meta(network)
    minimum, multiple = _legal_sides(skeleton, in_channels)
    found, tracer = _trace_all_sizes(skeleton, in_channels, minimum, multiple)
    rows, columns = found.axes
    repeat = math.lcm(multiple, rows.stride, columns.stride)
    return NetworkGeometry(
        rows=rows,
        columns=columns,
        local=not tracer.global_operations,
        global_operations=tuple(dict.fromkeys(tracer.global_operations)),
        size_minimum=minimum,
        size_multiple=multiple,
        output_sizes=_output_sizes(skeleton, in_channels, range(minimum, minimum + repeat, multiple)),
    )


def _output_size(skeleton: nn.Module, in_channels: int, side: int) -> Size:
    with torch.inference_mode():
        output = skeleton(torch.empty(1, in_channels, side, side, device="meta"))
    if not isinstance(output, Tensor) or output.dim() != 4:
        raise InvalidArgumentError("the network must give one tensor (B, K, H, W); wrap one that gives something else.")
    return output.shape[2], output.shape[3]


def _output_sizes(skeleton: nn.Module, in_channels: int, sides: range) -> tuple[Size, ...]:
    """Output sizes for squares of these sides.

    Most networks lose the same at every size, mostly nothing. Where a few sides lose the same, the
    others are not run: 32 runs of a deep encoder take seconds even without arithmetic.
    """
    few = {*sides[:3], sides[len(sides) // 2], sides[-1]}
    tried = {side: _output_size(skeleton, in_channels, side) for side in few}
    lost = {(side - height, side - width) for side, (height, width) in tried.items()}
    if len(lost) > 1:
        return tuple(tried.get(side) or _output_size(skeleton, in_channels, side) for side in sides)
    ((rows, columns),) = lost
    return tuple((side - rows, side - columns) for side in sides)


def _legal_sides(skeleton: nn.Module, in_channels: int) -> tuple[int, int]:
    """The smallest side of a square that the network takes, and the step to the next, by trying."""
    legal = _tried_sides(skeleton, in_channels)
    minimum = next(legal)
    return minimum, next(legal) - minimum


def _tried_sides(skeleton: nn.Module, in_channels: int) -> Iterator[int]:
    reason: Exception | None = None
    for side in range(1, LARGEST_MINIMUM + 1):
        try:
            _output_size(skeleton, in_channels, side)
        except (PixelwiseError, RuntimeError, ValueError, AssertionError) as error:
            reason = error
        else:
            yield side
    raise InvalidArgumentError(f"the network takes no two sizes up to {LARGEST_MINIMUM}x{LARGEST_MINIMUM}: {reason}")


def _trace_all_sizes(skeleton: nn.Module, in_channels: int, minimum: int, multiple: int) -> tuple[Map, Tracer]:
    """The dependence that holds for all legal sizes: traced at one, and at the next, which must agree."""
    start = minimum + round_up(max(TRACED_SIDE - minimum, 0), multiple)
    found, _ = _trace(skeleton, in_channels, start)
    stride = math.lcm(*(axis.stride for axis in found.axes))
    sides = range(start, start + math.lcm(stride, multiple), multiple)
    # Whole strides, where they are legal: no window is clipped at the bottom and right.
    side = next((side for side in sides if side % stride == 0), start)
    found, tracer = _trace(skeleton, in_channels, side)
    if _trace(skeleton, in_channels, side + multiple)[0] != found:
        raise InvalidArgumentError(
            f"what the network's outputs depend on differs between sides of {side} and {side + multiple} pixels, "
            "both of which it takes; let it refuse sizes that it cannot align."
        )
    return found, tracer


def _trace(skeleton: nn.Module, in_channels: int, side: int) -> tuple[Map, Tracer]:
    with torch.inference_mode():
        images = torch.empty(1, in_channels, side, side, device="meta")
        tracer = Tracer(images)
        with tracer:
            output = skeleton(images)
    found = tracer.map_of(output)
    if found is None or found.dims != (2, 3):
        seen = ", ".join(tracer.global_operations) or "no operator that reads the image"
        raise InvalidArgumentError(f"the network's output is no map that lies on the image (after {seen}).")
    return found, tracer


def _margin(axis: ReceptiveField, lost: int) -> int:
    """Where the middle of what output pixel 0 depends on lies, over the phases, rounded down."""
    if lost == 0 or len(axis.intervals) != axis.stride:
        return 0
    return sum(first + last - 2 * phase for phase, (first, last) in enumerate(axis.intervals)) // (2 * axis.stride)


def _halo(axis: ReceptiveField, margin: int, lost: int) -> Size:
    """Before a window that starts at a multiple of the stride, and behind one that ends anywhere.

    At least what an unpadded network loses there, even if nothing would depend on it.
    """
    period = len(axis.intervals)
    before = margin - min(first for first, _ in axis.intervals)
    # One pixel of a coarser map stands for several of the image, up to where the next one begins.
    ends = [(phase + 1) * axis.stride // period for phase in range(period)]
    behind = max(last + 1 - end for (_, last), end in zip(axis.intervals, ends, strict=True)) - margin
    return max(before, margin, 0), max(behind, lost - margin if period == axis.stride else 0, 0)
