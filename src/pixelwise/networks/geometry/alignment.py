"""Alignment of feature maps with the image, in exact fractions: FCN's offset algebra.

A *cell* is one position of a map. Its center is the middle of all pixels in its receptive field. For each map, a line
gives the cell at pixel x:

    cell = scale · x + offset

A sliding window moves that line, a transposed convolution moves it back, and two maps may only be added if both have
the same line. The released FCN prototxts contain the results as constants, the offsets of their Crop layers: 19 for
FCN-32s, 5 and 27 for 16s, 5, 9 and 31 for 8s, 18 for AlexNet (Long, Shelhamer, Darrell, "Fully Convolutional Networks
for Semantic Segmentation", CVPR 2015).
"""

from collections.abc import Iterable, Sequence
from fractions import Fraction
from typing import NamedTuple

from pixelwise.errors import InvalidArgumentError
from pixelwise.shapes import compute_transposed_conv_side


class SlidingWindow(NamedTuple):
    """The square window of a convolution or a pooling, along one axis."""

    kernel_size: int
    stride: int = 1
    padding: int = 0
    dilation: int = 1
    ceil_mode: bool = False
    end_padding: int = 0
    """Cells added only after the map, in addition to `padding`."""

    @property
    def first_center(self) -> Fraction:
        """Middle of the first window, in cells of its input; 0 if the padding keeps the map's size."""
        return Fraction(self.dilation * (self.kernel_size - 1), 2) - self.padding

    def compute_output_size(self, side: int) -> int:
        """Return the cells of the output for `side` cells of input; 0 or less if no window fits."""
        padded = side + 2 * self.padding + self.end_padding
        steps = padded - self.dilation * (self.kernel_size - 1) - 1
        count = (-(-steps // self.stride) if self.ceil_mode else steps // self.stride) + 1
        # In ceil mode, a window that would start in the padding after the map is dropped.
        is_outside = self.ceil_mode and (count - 1) * self.stride >= side + self.padding
        return count - int(is_outside)


WindowPath = tuple[SlidingWindow, ...]
"""The windows between the image and a map, in order. Parallel branches that agree count once."""


class Alignment(NamedTuple):
    """The line of a map: at pixel x is the cell `scale · x + offset`."""

    scale: Fraction = Fraction(1)
    offset: Fraction = Fraction(0)


IMAGE = Alignment()
"""The alignment of the image with itself."""


def compute_alignment(path: Iterable[SlidingWindow]) -> Alignment:
    """Return the alignment of the map after a path.

    Example:
        Cell 0 of five 2x2 poolings is at pixel 15.5:

        >>> compute_alignment([SlidingWindow(2, 2)] * 5)
        Alignment(scale=Fraction(1, 32), offset=Fraction(-31, 64))
    """
    scale, offset = IMAGE
    for window in path:
        scale, offset = scale / window.stride, (offset - window.first_center) / window.stride
    return Alignment(scale, offset)


def compute_map_size(path: Iterable[SlidingWindow], side: int) -> int:
    """Return the cells of the map after a path, along one axis, for an image of `side` pixels; 0 if none are left."""
    for window in path:
        if (side := window.compute_output_size(side)) < 1:
            return 0
    return side


class AlignedUpsampling(NamedTuple):
    """A transposed convolution that brings a map exactly onto a finer one.

    `offset` is the number of upsampled cells before the finer map's first cell. If it is negative, this number of
    cells of the finer map come before the first upsampled one. They are cropped from whichever map has them, like
    FCN's Crop layers do.
    """

    factor: int
    kernel_size: int
    offset: int
    output_padding: int = 0

    @property
    def padding(self) -> int:
        """Padding of the transposed convolution, which crops its output."""
        return max(self.offset, 0)

    @property
    def finer_crop(self) -> int:
        """Cells to crop at the start of the finer map."""
        return max(-self.offset, 0)

    def compute_output_size(self, side: int) -> int:
        """Return the upsampled cells for `side` cells, after the crop."""
        return compute_transposed_conv_side(
            side, self.kernel_size, stride=self.factor, padding=self.padding, output_padding=self.output_padding
        )


def align_upsampling(coarse: Alignment, fine: Alignment = IMAGE) -> AlignedUpsampling:
    """Return the upsampling from one map onto another.

    The kernel size is 2 · factor if that aligns the maps, and 2 · factor - 1 where only an odd kernel can: after
    AlexNet (63 for factor 32, as released) and after convolutions centered on every second pixel (ResNet). Both are
    bilinear interpolation, between cell corners or between cell centers.

    Args:
        coarse: Alignment of the map to upsample.
        fine: Alignment of the finer map.

    Raises:
        InvalidArgumentError: The scales do not differ by an integer factor, or no kernel aligns the maps.

    Example:
        >>> align_upsampling(compute_alignment([SlidingWindow(2, 2)] * 3))
        AlignedUpsampling(factor=8, kernel_size=16, offset=4, output_padding=0)
    """
    ratio = fine.scale / coarse.scale
    if ratio.denominator == 1:
        factor = int(ratio)
        for kernel_size in (2 * factor, 2 * factor - 1):
            offset = coarse.offset * factor + Fraction(kernel_size - 1, 2) - fine.offset
            if offset.denominator == 1:
                return AlignedUpsampling(factor, kernel_size, int(offset))
    raise InvalidArgumentError(
        f"A map with cells at {coarse.scale} · x + {coarse.offset} cannot be aligned with one at {fine.scale} · x + "
        f"{fine.offset}: their distance is not a multiple of half a cell. Pad the windows between them symmetrically."
    )


def plan_upsampling(paths: Sequence[WindowPath]) -> tuple[tuple[AlignedUpsampling, ...], int]:
    """Plan the upsamplings from each map to the next finer one, and from the last map to the image.

    A sum is aligned with the smaller of its two maps, which in released networks is the upsampled one.

    Args:
        paths: Of the maps, coarse to fine.

    Returns:
        The upsamplings, and the number of which the image's sides must be multiples so that the maps cover each other
        and the image: 1, or the coarsest map's stride.

    Raises:
        InvalidArgumentError: The maps cannot be aligned, or do not reach the image's borders.
    """
    stride = int(1 / compute_alignment(paths[0]).scale)
    for multiple in (1, stride):
        # The sizes of all maps repeat, one cell larger, every `stride` pixels.
        plan = _plan_for_sides(paths, range(16 * stride, 17 * stride, multiple))
        if all(_is_covered(side, paths, plan) for side in range(multiple, 2 * stride + 1, multiple)):
            return plan, multiple
    raise InvalidArgumentError(
        "The last map of this encoder does not reach the borders of the image. Pad its first convolution, as FCN's "
        "release does (first_padding=100), or fc6 by half its kernel."
    )


def _plan_for_sides(paths: Sequence[WindowPath], sides: Sequence[int]) -> tuple[AlignedUpsampling, ...]:
    """Plan upsamplings that cover images of these sides, as far as possible."""
    current, sizes = compute_alignment(paths[0]), [compute_map_size(paths[0], side) for side in sides]
    plan = []
    for path in (*paths[1:], ()):
        finer, finer_sizes = compute_alignment(path), [compute_map_size(path, side) for side in sides]
        up = align_upsampling(current, finer)
        if not up.finer_crop:
            missing = max(fine - up.compute_output_size(size) for fine, size in zip(finer_sizes, sizes, strict=True))
            up = up._replace(output_padding=max(missing, 0))
        plan.append(up)
        current = Alignment(finer.scale, finer.offset - up.finer_crop)
        sizes = [up.compute_output_size(size) for size in sizes] if up.finer_crop else finer_sizes
    return tuple(plan)


def _is_covered(side: int, paths: Sequence[WindowPath], plan: Sequence[AlignedUpsampling]) -> bool:
    """Return whether, for an image of `side` pixels, each upsampled map covers the next map, and the last the image."""
    size, *finer_sizes = (*(compute_map_size(path, side) for path in paths), side)
    for up, finer in zip(plan, finer_sizes, strict=True):
        upsampled = up.compute_output_size(size)
        is_enough = upsampled <= finer - up.finer_crop if up.finer_crop else upsampled >= finer
        if size < 1 or not is_enough or up.output_padding >= up.factor:
            return False
        size = upsampled if up.finer_crop else finer
    return not plan[-1].finer_crop
