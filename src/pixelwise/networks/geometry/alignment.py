"""Where the cells of a map lie on the image, in exact fractions: FCN's offset algebra.

A *cell* is one position of a map. Its center lies over a point of the image, the middle of all pixels
it depends on. For each map a line says which cell lies over pixel x:

    cell = scale · x + offset

A window moves that line, a transposed convolution moves it back, and two maps may be added only
where both have the same line. The released FCN prototxts hold the results as constants, the
offsets of their Crop layers: 19 for FCN-32s, 5 and 27 for 16s, 5, 9 and 31 for 8s, 18 for AlexNet
(Long, Shelhamer, Darrell, "Fully Convolutional Networks for Semantic Segmentation", CVPR 2015).
"""

from collections.abc import Iterable, Sequence
from fractions import Fraction
from typing import NamedTuple

from pixelwise.errors import InvalidArgumentError
from pixelwise.shapes import compute_transposed_conv_side


class SlidingWindow(NamedTuple):
    """One side of the square window of a convolution or a pooling."""

    kernel: int
    stride: int = 1
    padding: int = 0
    dilation: int = 1
    ceil_mode: bool = False
    end_padding: int = 0
    """Cells added behind the map only, on top of `padding`."""

    @property
    def first_center(self) -> Fraction:
        """Middle of the first window, in cells of its input; 0 where the padding is symmetric."""
        return Fraction(self.dilation * (self.kernel - 1), 2) - self.padding

    def size(self, side: int) -> int:
        """Cells of the output for `side` cells of input; 0 or less where no window fits."""
        padded = side + 2 * self.padding + self.end_padding
        room = padded - self.dilation * (self.kernel - 1) - 1
        count = (-(-room // self.stride) if self.ceil_mode else room // self.stride) + 1
        # In ceil mode a window that would start in the padding behind the map is left out.
        outside = self.ceil_mode and (count - 1) * self.stride >= side + self.padding
        return count - int(outside)


WindowPath = tuple[SlidingWindow, ...]
"""The windows between the image and a map, in order. Parallel branches that agree count once."""


class Alignment(NamedTuple):
    """Over pixel x lies cell `scale · x + offset`."""

    scale: Fraction = Fraction(1)
    offset: Fraction = Fraction(0)


IMAGE = Alignment()

_NOT_COVERED = (
    "the last map of this encoder does not reach the borders of the image: pad its first convolution, "
    "as FCN's release does (first_padding=100), or fc6 by half its kernel."
)


def compute_alignment(path: Iterable[SlidingWindow]) -> Alignment:
    """The line of a map. Five 2x2 poolings: `scale 1/32, offset -31/64`, so cell 0 lies over 15.5."""
    scale, offset = IMAGE
    for window in path:
        scale, offset = scale / window.stride, (offset - window.first_center) / window.stride
    return Alignment(scale, offset)


def compute_map_size(path: Iterable[SlidingWindow], side: int) -> int:
    """Cells of the map, in one direction, for an image of `side` pixels; 0 where nothing is left."""
    for window in path:
        if (side := window.size(side)) < 1:
            return 0
    return side


class AlignedUpsampling(NamedTuple):
    """A transposed convolution that brings a map exactly onto a finer one.

    `offset` counts the upsampled cells that lie before the finer map's first cell. Where it is
    negative, as many cells of the finer map lie before the first upsampled one. They are cut off
    on whichever side they are: FCN's Crop layers.
    """

    factor: int
    kernel: int
    offset: int
    output_padding: int = 0

    @property
    def padding(self) -> int:
        return max(self.offset, 0)

    @property
    def finer_crop(self) -> int:
        return max(-self.offset, 0)

    def size(self, side: int) -> int:
        """Upsampled cells for `side` cells, after the crop."""
        return compute_transposed_conv_side(
            side, self.kernel, stride=self.factor, padding=self.padding, output_padding=self.output_padding
        )


def align_upsampling(coarse: Alignment, fine: Alignment = IMAGE) -> AlignedUpsampling:
    """The upscaling from one map onto another.

    The kernel is 2 · factor where that aligns the two, and 2 · factor - 1 where only an odd kernel
    can: behind AlexNet (63 for factor 32, as released), behind convolutions centered on every second
    pixel (ResNet). Both are bilinear interpolation, between cell corners or between cell centers.

    >>> align_upsampling(compute_alignment([SlidingWindow(2, 2)] * 3))
    AlignedUpsampling(factor=8, kernel=16, offset=4, output_padding=0)

    Raises:
        InvalidArgumentError: the scales are not a whole factor apart, or no kernel aligns the maps.
    """
    ratio = fine.scale / coarse.scale
    if ratio.denominator == 1:
        factor = int(ratio)
        for kernel in (2 * factor, 2 * factor - 1):
            offset = coarse.offset * factor + Fraction(kernel - 1, 2) - fine.offset
            if offset.denominator == 1:
                return AlignedUpsampling(factor, kernel, int(offset))
    raise InvalidArgumentError(
        f"a map of cells at {coarse.scale} · x + {coarse.offset} cannot be brought onto one at "
        f"{fine.scale} · x + {fine.offset}: they are no whole number of half cells apart. "
        "Pad the windows between them symmetrically."
    )


def plan_upsampling(paths: Sequence[WindowPath]) -> tuple[tuple[AlignedUpsampling, ...], int]:
    """The upscalings from each map to the next finer one, and from the last to the image.

    A sum lies where the smaller of its two maps lies: of released networks, where the upsampled one does.

    Args:
        paths: of the maps, coarse to fine.

    Returns:
        The upscalings, and what the image's sides must be multiples of for the maps to cover each
        other and the image: 1, or the coarsest map's stride.

    Raises:
        InvalidArgumentError: maps that cannot be aligned, or that do not reach the image's borders.
    """
    stride = int(1 / compute_alignment(paths[0]).scale)
    for multiple in (1, stride):
        # The sizes of all maps repeat, one cell larger, every `stride` pixels.
        plan = _plan(paths, range(16 * stride, 17 * stride, multiple))
        if all(_covers(side, paths, plan) for side in range(multiple, 2 * stride + 1, multiple)):
            return plan, multiple
    raise InvalidArgumentError(
        "the last map of this encoder does not reach the borders of the image: pad its first convolution, "
        "as FCN's release does (first_padding=100), or fc6 by half its kernel."
    )


def _plan(paths: Sequence[WindowPath], sides: Sequence[int]) -> tuple[AlignedUpsampling, ...]:
    """Upscalings that leave nothing uncovered of images of these sides, as far as they can."""
    here, sizes = compute_alignment(paths[0]), [compute_map_size(paths[0], side) for side in sides]
    plan = []
    for path in (*paths[1:], ()):
        finer, finer_sizes = compute_alignment(path), [compute_map_size(path, side) for side in sides]
        up = align_upsampling(here, finer)
        if not up.finer_crop:
            missing = max(wanted - up.size(size) for wanted, size in zip(finer_sizes, sizes, strict=True))
            up = up._replace(output_padding=max(missing, 0))
        plan.append(up)
        here = Alignment(finer.scale, finer.offset - up.finer_crop)
        sizes = [up.size(size) for size in sizes] if up.finer_crop else finer_sizes
    return tuple(plan)


def _covers(side: int, paths: Sequence[WindowPath], plan: Sequence[AlignedUpsampling]) -> bool:
    """Whether, for an image of `side` pixels, each map is grown to all of the next, and to the image."""
    here, *finer_sizes = (*(compute_map_size(path, side) for path in paths), side)
    for up, finer in zip(plan, finer_sizes, strict=True):
        grown = up.size(here)
        enough = grown <= finer - up.finer_crop if up.finer_crop else grown >= finer
        if here < 1 or not enough or up.output_padding >= up.factor:
            return False
        here = grown if up.finer_crop else finer
    return not plan[-1].finer_crop
