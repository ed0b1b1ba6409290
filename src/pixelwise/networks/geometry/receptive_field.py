"""Which pixels of the image each value inside a network depends on, in integers.

An operation on maps reads, along each axis, a fixed pattern of positions that repeats: a convolution
with stride 2 reads two positions further for each of its outputs, an upsampling by 2 reads one
position further for each two. Composing these patterns gives, for each output pixel, the first and
the last image pixel that can influence it. Fractions and rounding never enter, so the result is
exact where a bound from kernel sizes and strides alone is too wide after upsampling.

Read from the top down: the pattern of one operation, the dependence it makes of its input's.
"""

import functools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from pixelwise.errors import InvalidArgumentError

Interval = tuple[int, int]
"""The first and the last position, both included."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reads:
    """What an operation reads along one axis.

    Output `len(positions) * q + phase` reads the inputs `step * q + p` for each p of `positions[phase]`.
    """

    step: int
    positions: tuple[tuple[int, ...], ...]

    def of(self, output: int) -> list[int]:
        turns, phase = divmod(output, len(self.positions))
        return [position + turns * self.step for position in self.positions[phase]]


def window(kernel: int, *, stride: int = 1, padding: int = 0, dilation: int = 1) -> Reads:
    """A convolution, a pooling, a crop (negative padding): `window(3, padding=1)` reads -1, 0, 1."""
    return Reads(step=stride, positions=(tuple(dilation * tap - padding for tap in range(kernel)),))


def transposed(kernel: int, *, stride: int, padding: int = 0, dilation: int = 1) -> Reads:
    """A transposed convolution: input i is written to stride * i + dilation * tap - padding.

    Outputs that a kernel smaller than the stride leaves empty count as reading the input before them.
    """
    phases = []
    for phase in range(stride):
        places = [phase + padding - dilation * tap for tap in range(kernel)]
        inputs = sorted(place // stride for place in places if place % stride == 0)
        phases.append(tuple(inputs) or ((phase + padding) // stride,))
    return Reads(step=1, positions=tuple(phases))


def repeated(factor: int) -> Reads:
    """Nearest upsampling, unpooling, pixel shuffle: output i reads i // factor."""
    return transposed(factor, stride=factor)


def interpolated(factor: int, reach: int = 1) -> Reads:
    """Upsampling with pixel areas aligned: output i lies at (i + 1/2) / factor - 1/2.

    It reads `reach` inputs to each side, 1 if bilinear and 2 if bicubic, but one alone where it lies on it.
    """
    phases = []
    for phase in range(factor):
        place, rest = divmod(2 * phase + 1 - factor, 2 * factor)
        phases.append(tuple(range(place + 1 - reach, place + reach + 1)) if rest else (place,))
    return Reads(step=1, positions=tuple(phases))


@dataclass(frozen=True, slots=True)
class ReceptiveField:
    """What the values of a map depend on along one axis of the image.

    Value `len(intervals) * q + phase` depends on image pixels `stride * q + first` to
    `stride * q + last`, where (first, last) is `intervals[phase]`.

    `ReceptiveField(2, ((-1, 1), (0, 2)))`: of the size of the image, and shifts with it by whole 2 pixels.
    """

    stride: int
    """Shifting the image by this many pixels shifts the map by one turn of `intervals`."""
    intervals: tuple[Interval, ...]

    def at(self, position: int) -> Interval:
        """The interval of the value at `position`, which may be negative."""
        turns, phase = divmod(position, len(self.intervals))
        first, last = self.intervals[phase]
        return first + turns * self.stride, last + turns * self.stride

    def reach(self, start: int, stop: int) -> tuple[int, int]:
        """The image pixels [start', stop') that the values [start, stop) depend on, in the whole plane."""
        turn = len(self.intervals)
        if turn == 1:
            ((first, last),) = self.intervals
            return first + start * self.stride, last + (stop - 1) * self.stride + 1
        # Intervals repeat: the ends of the window are where its extremes are.
        ends = {*range(start, min(start + turn, stop)), *range(max(start, stop - turn), stop)}
        first, last = _hull(map(self.at, ends))
        return first, last + 1

    @property
    def receptive_field(self) -> int:
        """Pixels from the first to the last that influence one value, at its largest over the phases."""
        return max(last - first + 1 for first, last in self.intervals)


IMAGE = ReceptiveField(1, ((0, 0),))
"""Every pixel depends on itself."""


@functools.lru_cache(maxsize=4096)
def through(axis: ReceptiveField, reads: Reads) -> ReceptiveField:
    """The dependence of an operation's outputs on the image, given that of its inputs."""
    period = len(axis.intervals)
    turns = period // math.gcd(period, reads.step)
    outputs = range(turns * len(reads.positions))
    intervals = tuple(_hull(map(axis.at, reads.of(output))) for output in outputs)
    return ReceptiveField(axis.stride * turns * reads.step // period, intervals)


@functools.lru_cache(maxsize=4096)
def joined(first: ReceptiveField, second: ReceptiveField) -> ReceptiveField:
    """The dependence of a sum or concatenation. Both maps must have the same resolution."""
    periods = len(first.intervals), len(second.intervals)
    if first.stride * periods[1] != second.stride * periods[0]:
        raise InvalidArgumentError(
            f"joins maps of different resolution: {periods[0]} values to {first.stride} pixels, and "
            f"{periods[1]} to {second.stride}; upsample one of them by a whole factor first."
        )
    period = math.lcm(*periods)
    intervals = tuple(_hull((first.at(position), second.at(position))) for position in range(period))
    return ReceptiveField(first.stride * period // periods[0], intervals)


def merge_fields(axes: Sequence[ReceptiveField]) -> ReceptiveField:
    return functools.reduce(joined, axes)


def is_border_outside_image(axis: ReceptiveField, reads: Reads, sizes: tuple[int, int, int]) -> bool:
    """Whether all that is read beyond the border of a map depends on pixels beyond the image's.

    Then a value that padding has touched can be told by its interval, and a tile whose halo holds
    the intervals gives what the whole image gives. Padding a map that was cropped breaks this: the
    crop's border lies inside the image, at another place for each tile.

    Args:
        axis: of the map that is read.
        sizes: of the image, of the map that is read, and of the result.
    """
    image, size, outputs = sizes
    lowest, highest = min(map(min, reads.positions)), max(map(max, reads.positions))
    turn = len(reads.positions)
    head = range(min(turn * -(lowest // reads.step), outputs))
    tail = range(max(turn * -((highest - size) // reads.step), 0), outputs)
    read = {position for output in (*head, *tail) for position in reads.of(output)}
    return all(axis.at(position)[0] < 0 for position in read if position < 0) and all(
        axis.at(position)[1] >= image for position in read if position >= size
    )


def _hull(intervals: Iterable[Interval]) -> Interval:
    firsts, lasts = zip(*intervals, strict=True)
    return min(firsts), max(lasts)
