"""Receptive fields along one axis, in integers.

An operator reads a pattern of input positions that repeats along each axis. A convolution with stride 2 reads two
positions further for each output, an upsampling by 2 reads one position further for every two outputs. Composing
these patterns gives the first and the last image pixel that can influence each output pixel. All numbers are
integers, so the result is exact. A bound from kernel sizes and strides is too wide after an upsampling.
"""

import functools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from pixelwise.errors import InvalidArgumentError

Interval = tuple[int, int]
"""The first and the last position, both inclusive."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadPattern:
    """The input positions that an operator reads along one axis.

    Output `len(positions) * q + phase` reads the inputs `step * q + p` for each p of `positions[phase]`.

    Example:
        >>> pattern = ReadPattern.for_window(3, stride=2, padding=1)
        >>> pattern.get_inputs(0), pattern.get_inputs(5)
        ([-1, 0, 1], [9, 10, 11])
    """

    step: int
    positions: tuple[tuple[int, ...], ...]

    @classmethod
    def for_window(cls, kernel: int, *, stride: int = 1, padding: int = 0, dilation: int = 1) -> "ReadPattern":
        """Return the pattern of a convolution, a pooling or a crop (which has a negative padding)."""
        return cls(step=stride, positions=(tuple(dilation * tap - padding for tap in range(kernel)),))

    @classmethod
    def for_transposed_window(cls, kernel: int, *, stride: int, padding: int = 0, dilation: int = 1) -> "ReadPattern":
        """Return the pattern of a transposed convolution.

        Input i is written to outputs stride * i + dilation * tap - padding. A kernel smaller than the stride leaves
        some outputs empty. They count as reading the input before them.
        """
        phases = []
        for phase in range(stride):
            written = [phase + padding - dilation * tap for tap in range(kernel)]
            inputs = sorted(position // stride for position in written if position % stride == 0)
            phases.append(tuple(inputs) or ((phase + padding) // stride,))
        return cls(step=1, positions=tuple(phases))

    @classmethod
    def for_repetition(cls, factor: int) -> "ReadPattern":
        """Return the pattern of nearest upsampling, unpooling and pixel shuffle: output i reads i // factor."""
        return cls.for_transposed_window(factor, stride=factor)

    @classmethod
    def for_interpolation(cls, factor: int, radius: int = 1) -> "ReadPattern":
        """Return the pattern of an upsampling with `align_corners=False`.

        The center of output i is at input (i + 1/2) / factor - 1/2. It reads `radius` inputs on each side (bilinear 1,
        bicubic 2), or a single input whose center is at the same point.
        """
        phases = []
        for phase in range(factor):
            position, remainder = divmod(2 * phase + 1 - factor, 2 * factor)
            phases.append(tuple(range(position + 1 - radius, position + radius + 1)) if remainder else (position,))
        return cls(step=1, positions=tuple(phases))

    def get_inputs(self, output: int) -> list[int]:
        """Return the input positions that `output` reads."""
        turns, phase = divmod(output, len(self.positions))
        return [position + turns * self.step for position in self.positions[phase]]


@dataclass(frozen=True, slots=True)
class ReceptiveField:
    """The image pixels that influence the positions of a feature map, along one axis.

    Position `len(intervals) * q + phase` depends on the image pixels `stride * q + first` to `stride * q + last`,
    where (first, last) is `intervals[phase]`.

    Example:
        A map of the size of the image, after a pooling by 2, an upsampling by 2 and a 3x3 convolution:

        >>> field = ReceptiveField(2, ((-2, 1), (0, 3)))
        >>> field.get_interval(4), field.get_interval(5), field.get_range(4, 6), field.size
        ((2, 5), (4, 7), (2, 8), 4)
    """

    stride: int
    """Shifting the image by this many pixels shifts the map by `len(intervals)` positions."""
    intervals: tuple[Interval, ...]

    def get_interval(self, position: int) -> Interval:
        """Return the first and the last pixel that influence `position`, which may be negative."""
        turns, phase = divmod(position, len(self.intervals))
        first, last = self.intervals[phase]
        return first + turns * self.stride, last + turns * self.stride

    def get_range(self, start: int, stop: int) -> tuple[int, int]:
        """Return the half-open range of pixels that influence positions start to stop - 1.

        The range is not clipped to the image.
        """
        period = len(self.intervals)
        if period == 1:
            ((first, last),) = self.intervals
            return first + start * self.stride, last + (stop - 1) * self.stride + 1
        # The intervals repeat, so the extremes are among the first and the last `period` positions.
        ends = {*range(start, min(start + period, stop)), *range(max(start, stop - period), stop)}
        first, last = _compute_hull(map(self.get_interval, ends))
        return first, last + 1

    @property
    def size(self) -> int:
        """Pixels from the first to the last that influence one position; the largest over the phases."""
        return max(last - first + 1 for first, last in self.intervals)


IDENTITY = ReceptiveField(1, ((0, 0),))
"""The receptive field of the image itself."""


@functools.lru_cache(maxsize=4096)
def compose(field: ReceptiveField, pattern: ReadPattern) -> ReceptiveField:
    """Return the receptive field of an operator's output, given that of its input.

    Example:
        >>> pooled = compose(IDENTITY, ReadPattern.for_window(2, stride=2))
        >>> compose(pooled, ReadPattern.for_window(3, padding=1))
        ReceptiveField(stride=2, intervals=((-2, 3),))
    """
    period = len(field.intervals)
    turns = period // math.gcd(period, pattern.step)
    outputs = range(turns * len(pattern.positions))
    intervals = tuple(_compute_hull(map(field.get_interval, pattern.get_inputs(output))) for output in outputs)
    return ReceptiveField(field.stride * turns * pattern.step // period, intervals)


def merge_fields(fields: Sequence[ReceptiveField]) -> ReceptiveField:
    """Return the receptive field of a sum or concatenation of maps.

    Raises:
        InvalidArgumentError: The maps differ in resolution.
    """
    return functools.reduce(_merge_two_fields, fields)


@functools.lru_cache(maxsize=4096)
def _merge_two_fields(first: ReceptiveField, second: ReceptiveField) -> ReceptiveField:
    periods = len(first.intervals), len(second.intervals)
    if first.stride * periods[1] != second.stride * periods[0]:
        raise InvalidArgumentError(
            f"joins maps of different resolution: {periods[0]} positions per {first.stride} pixels and "
            f"{periods[1]} per {second.stride}. Upsample one of them by an integer factor first."
        )
    period = math.lcm(*periods)
    intervals = tuple(
        _compute_hull((first.get_interval(position), second.get_interval(position))) for position in range(period)
    )
    return ReceptiveField(first.stride * period // periods[0], intervals)


def is_border_outside_image(
    field: ReceptiveField, pattern: ReadPattern, *, image_size: int, input_size: int, output_size: int
) -> bool:
    """Return whether all padding that an operator reads depends only on pixels outside the image.

    If so, a position that padding influences is known by its interval, and a tile whose halo holds the intervals
    gives the result of the whole image. Padding a map that was cropped breaks this: the border of the crop is inside
    the image, at another position for each tile.

    Args:
        field: Receptive field of the operator's input.
        pattern: What the operator reads.
        image_size: Pixels of the image along the axis.
        input_size: Positions of the operator's input.
        output_size: Positions of the operator's output.

    Example:
        >>> pattern = ReadPattern.for_window(3, padding=1)
        >>> is_border_outside_image(IDENTITY, pattern, image_size=8, input_size=8, output_size=8)
        True
        >>> cropped = ReceptiveField(1, ((1, 1),))
        >>> is_border_outside_image(cropped, pattern, image_size=8, input_size=7, output_size=7)
        False
    """
    lowest, highest = min(map(min, pattern.positions)), max(map(max, pattern.positions))
    period = len(pattern.positions)
    head = range(min(period * -(lowest // pattern.step), output_size))
    tail = range(max(period * -((highest - input_size) // pattern.step), 0), output_size)
    read = {position for output in (*head, *tail) for position in pattern.get_inputs(output)}
    return all(field.get_interval(position)[0] < 0 for position in read if position < 0) and all(
        field.get_interval(position)[1] >= image_size for position in read if position >= input_size
    )


def _compute_hull(intervals: Iterable[Interval]) -> Interval:
    firsts, lasts = zip(*intervals, strict=True)
    return min(firsts), max(lasts)
