"""The geometry of a network: stride, receptive field, halo and legal input sizes, as integers.

It is traced through the network itself (`tracer.py`), not declared, so it cannot be out of date.
"""

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from pixelwise.arguments import Count, check_arguments
from pixelwise.errors import InvalidArgumentError, PixelwiseError
from pixelwise.networks.geometry.receptive_field import ReceptiveField
from pixelwise.networks.geometry.tracer import FeatureMap, Tracer, copy_to_meta
from pixelwise.shapes import Size, round_up

MAX_MIN_SIZE = 1024
"""Largest side that is tried in the search for the smallest legal one; the paper's U-Net starts at 188."""

MIN_TRACED_SIZE = 512
"""Smallest side of the traced image: large enough that no feature map shrinks to a single pixel."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Halo:
    """Pixels of the image outside an output window that can influence it, on each side."""

    top: int
    bottom: int
    left: int
    right: int


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkGeometry:
    """The receptive field of each output pixel of a network, and the input sizes that it accepts.

    All numbers are input pixels; (rows, columns) where there are two. `halo` applies to an output window [a, b) where
    `a`, its first row or column, is a multiple of `stride`, and b is any number. The window depends on the input rows
    [a + offset - halo.top, b + offset + halo.bottom), clipped to the image. A tile that starts at a multiple of
    `stride` and contains these rows gives the same values there as the whole image. `rows.get_range(a, b)` is exact
    for any window. Behind a `Segmenter` the image is the padded one.

    Example:
        >>> geometry = trace_geometry(nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.MaxPool2d(2)), in_channels=3)
        >>> geometry.stride, geometry.receptive_field, geometry.halo
        ((2, 2), (4, 4), Halo(top=1, bottom=1, left=1, right=1))
        >>> geometry.compute_output_size((360, 480))
        (180, 240)
    """

    rows: ReceptiveField
    columns: ReceptiveField
    is_local: bool
    """False: some operator depends on the whole image; the other numbers then ignore these operators."""
    global_ops: tuple[str, ...]
    """The operators that depend on the whole image, such as "aten::group_norm"."""
    min_size: int
    """Smallest legal height and width."""
    size_multiple: int
    """Legal sides are min_size + k * size_multiple: 188 + 16k for the paper's U-Net."""
    output_sizes: tuple[Size, ...]
    """Output sizes for the legal squares, from the smallest to where the pattern repeats; see `compute_output_size`."""

    @property
    def stride(self) -> Size:
        """Shifting the image by this number of rows, or columns, shifts the output by a whole number of pixels."""
        return self.rows.stride, self.columns.stride

    @property
    def output_stride(self) -> Size:
        """Output rows, and columns, for one `stride` of the image; equal to `stride` at full resolution."""
        return len(self.rows.intervals), len(self.columns.intervals)

    @property
    def receptive_field(self) -> Size:
        """Rows and columns that influence one output pixel, the largest over all output pixels."""
        return self.rows.size, self.columns.size

    @property
    def offset(self) -> Size:
        """Input row and column at output pixel (0, 0): 92 for the paper's U-Net, 0 for padded networks."""
        return _compute_offset(self.rows, self.size_loss[0]), _compute_offset(self.columns, self.size_loss[1])

    @property
    def halo(self) -> Halo:
        """Pixels that a tile needs on each side."""
        top, bottom = _compute_halo(self.rows, self.offset[0], self.size_loss[0])
        left, right = _compute_halo(self.columns, self.offset[1], self.size_loss[1])
        return Halo(top=top, bottom=bottom, left=left, right=right)

    @property
    def size_loss(self) -> Size:
        """Rows and columns by which the output is smaller than the input, at most."""
        sides = itertools.count(self.min_size, self.size_multiple)
        losses = [
            (side - height, side - width) for side, (height, width) in zip(sides, self.output_sizes, strict=False)
        ]
        return max(rows for rows, _ in losses), max(columns for _, columns in losses)

    @check_arguments
    def compute_legal_size(self, size: Size) -> Size:
        """Return the smallest legal (height, width) of at least `size`."""
        height, width = (self.min_size + round_up(max(side - self.min_size, 0), self.size_multiple) for side in size)
        return height, width

    @check_arguments
    def compute_input_size(self, output_size: Size) -> Size:
        """Return the smallest legal (height, width) whose output is at least `output_size`."""
        return self.compute_legal_size((output_size[0] + self.size_loss[0], output_size[1] + self.size_loss[1]))

    @check_arguments
    def compute_output_size(self, size: Size) -> Size:
        """Return the (height, width) of the output for an input of `size`.

        Raises:
            InvalidArgumentError: The network does not accept this size.
        """
        if self.compute_legal_size(size) != size:
            first, second = self.min_size, self.min_size + self.size_multiple
            raise InvalidArgumentError(
                f"size is {size[0]}x{size[1]}, but must have sides of {first} + {self.size_multiple}k pixels ({first}, "
                f"{second}, ...). Pad the image to the next legal size."
            )
        height, width = (self._compute_output_side(size[axis], axis) for axis in (0, 1))
        return height, width

    def _compute_output_side(self, side: int, axis: int) -> int:
        repeats, index = divmod((side - self.min_size) // self.size_multiple, len(self.output_sizes))
        field = (self.rows, self.columns)[axis]
        strides = repeats * len(self.output_sizes) * self.size_multiple // field.stride
        return self.output_sizes[index][axis] + strides * len(field.intervals)


@check_arguments
def trace_geometry(network: nn.Module, *, in_channels: Count) -> NetworkGeometry:
    """Trace the geometry of a network in evaluation mode, without its weights.

    Args:
        network: Maps (B, in_channels, H, W) to (B, K, H', W'). It is not changed.
        in_channels: C of its images.

    Returns:
        The geometry, which holds for all legal sizes.

    Raises:
        InvalidArgumentError: The network accepts no size, resizes by a factor that is not an integer, joins maps of
            different resolution, or uses an operator without a rule in `tracer.py`.
    """
    meta_network = copy_to_meta(network)
    min_size, second_size = itertools.islice(_iterate_legal_sides(meta_network, in_channels), 2)
    multiple = second_size - min_size
    feature_map, global_ops = _trace_all_sizes(meta_network, in_channels, min_size, multiple)
    rows, columns = feature_map.fields
    repeat = math.lcm(multiple, rows.stride, columns.stride)
    return NetworkGeometry(
        rows=rows,
        columns=columns,
        is_local=not global_ops,
        global_ops=tuple(dict.fromkeys(global_ops)),
        min_size=min_size,
        size_multiple=multiple,
        output_sizes=_run_output_sizes(meta_network, in_channels, range(min_size, min_size + repeat, multiple)),
    )


def _run_output_size(meta_network: nn.Module, in_channels: int, side: int) -> Size:
    with torch.inference_mode():
        output = meta_network(torch.empty(1, in_channels, side, side, device="meta"))
    if not isinstance(output, Tensor) or output.dim() != 4:
        raise InvalidArgumentError(
            "The network must return one tensor (B, K, H, W). Wrap it in a module that returns only this."
        )
    return output.shape[2], output.shape[3]


def _run_output_sizes(meta_network: nn.Module, in_channels: int, sides: range) -> tuple[Size, ...]:
    """Return the output sizes for squares of these sides.

    Most networks lose the same number of pixels at every size, mostly none. If a few sides lose the same, the others
    are not run: 32 runs of a deep encoder take seconds, even without arithmetic.
    """
    sampled = {*sides[:3], sides[len(sides) // 2], sides[-1]}
    sizes = {side: _run_output_size(meta_network, in_channels, side) for side in sampled}
    losses = {(side - height, side - width) for side, (height, width) in sizes.items()}
    if len(losses) > 1:
        return tuple(sizes.get(side) or _run_output_size(meta_network, in_channels, side) for side in sides)
    ((rows, columns),) = losses
    return tuple((side - rows, side - columns) for side in sides)


def _iterate_legal_sides(meta_network: nn.Module, in_channels: int) -> Iterator[int]:
    """Yield the sides of the squares that the network accepts, and raise InvalidArgumentError after the last one."""
    reason: Exception | None = None
    for side in range(1, MAX_MIN_SIZE + 1):
        try:
            _run_output_size(meta_network, in_channels, side)
        except (PixelwiseError, RuntimeError, ValueError, AssertionError) as error:
            reason = error
        else:
            yield side
    raise InvalidArgumentError(
        f"The network accepts no two sizes up to {MAX_MIN_SIZE}x{MAX_MIN_SIZE} with in_channels={in_channels}: {reason}"
    )


def _trace_all_sizes(
    meta_network: nn.Module, in_channels: int, min_size: int, multiple: int
) -> tuple[FeatureMap, list[str]]:
    """Return the feature map of the output and the global operators, traced at two legal sizes that must agree."""
    start = min_size + round_up(max(MIN_TRACED_SIZE - min_size, 0), multiple)
    feature_map, _ = _trace(meta_network, in_channels, start)
    stride = math.lcm(*(field.stride for field in feature_map.fields))
    sides = range(start, start + math.lcm(stride, multiple), multiple)
    # A multiple of the stride, if one is legal: no window is clipped at the bottom and right.
    side = next((side for side in sides if side % stride == 0), start)
    feature_map, global_ops = _trace(meta_network, in_channels, side)
    if _trace(meta_network, in_channels, side + multiple)[0] != feature_map:
        raise InvalidArgumentError(
            f"The receptive fields of the network differ between sides of {side} and {side + multiple} pixels, both "
            "of which it accepts. Let it refuse sizes that it cannot align."
        )
    return feature_map, global_ops


def _trace(meta_network: nn.Module, in_channels: int, side: int) -> tuple[FeatureMap, list[str]]:
    images = torch.empty(1, in_channels, side, side, device="meta")
    with torch.inference_mode(), Tracer(images) as tracer:
        output = meta_network(images)
    feature_map = tracer.get_map(output)
    if feature_map is None or feature_map.dims != (2, 3):
        ops = ", ".join(tracer.global_ops) or "no operator that reads the image"
        raise InvalidArgumentError(f"The network's output has no rows and columns of the image (after {ops}).")
    return feature_map, tracer.global_ops


def _compute_offset(field: ReceptiveField, size_loss: int) -> int:
    """Return the middle of the receptive field of output pixel 0, the mean over the phases rounded down."""
    if size_loss == 0 or len(field.intervals) != field.stride:
        return 0
    middles = sum(first + last - 2 * phase for phase, (first, last) in enumerate(field.intervals))
    return middles // (2 * field.stride)


def _compute_halo(field: ReceptiveField, offset: int, size_loss: int) -> tuple[int, int]:
    """Return the halo before a window that starts at a multiple of the stride, and after one that ends anywhere.

    It is at least what an unpadded network loses there, even if no output depends on it.
    """
    period = len(field.intervals)
    before = offset - min(first for first, _ in field.intervals)
    # One pixel of a coarser map covers several pixels of the image, up to the start of the next one.
    ends = [(phase + 1) * field.stride // period for phase in range(period)]
    after = max(last + 1 - end for (_, last), end in zip(field.intervals, ends, strict=True)) - offset
    return max(before, offset, 0), max(after, size_loss - offset if period == field.stride else 0, 0)
