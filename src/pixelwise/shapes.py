"""The notation of shapes, and integer arithmetic on sizes.

    B batch   C channels   K classes   H, W height and width in pixels, always in this order

`(B, C, H, W) float32` in a docstring is the logical order of the axes, independent of the memory format.
"""

from pixelwise.arguments import Count

Size = tuple[Count, Count]
"""(height, width) in pixels."""


def round_up(value: int, multiple: int) -> int:
    """Return the smallest multiple that is at least `value`: `round_up(45, 16) == 48`."""
    # Not -(-value // multiple): in an exported graph the division rounds negative numbers toward zero.
    return (value + multiple - 1) // multiple * multiple


def center_crop(size: Size, target: Size) -> tuple[slice, slice]:
    """Return the slices that cut `target` out of the middle: 64 → 56 drops 4 pixels at each side."""
    top, left = (size[0] - target[0]) // 2, (size[1] - target[1]) // 2
    return slice(top, top + target[0]), slice(left, left + target[1])


def to_pair(value: int | Size) -> Size:
    """Return (height, width) from one number for both, or from a pair: `to_pair(2) == (2, 2)`."""
    return value if isinstance(value, tuple) else (value, value)


def compute_conv_side(side: int, kernel_size: int, *, stride: int = 1, padding: int = 0, dilation: int = 1) -> int:
    """Return the output side of a convolution: `compute_conv_side(224, 7, stride=2, padding=3) == 112`.

    The result is zero or negative where the kernel does not fit.
    """
    return (side + 2 * padding - dilation * (kernel_size - 1) - 1) // stride + 1


def compute_transposed_conv_side(
    side: int, kernel_size: int, *, stride: int = 1, padding: int = 0, output_padding: int = 0, dilation: int = 1
) -> int:
    """Return s(i - 1) + d(k - 1) + 1 - 2p + a: `compute_transposed_conv_side(16, 64, stride=32) == 544`.

    This inverts `compute_conv_side` if `output_padding` is `compute_output_padding` of the convolved side.
    """
    return stride * (side - 1) + dilation * (kernel_size - 1) + 1 - 2 * padding + output_padding


def compute_output_padding(side: int, kernel_size: int, *, stride: int = 1, padding: int = 0, dilation: int = 1) -> int:
    """Return the rows that a convolution of `side` pixels leaves unused at the end, 0 to stride - 1.

    A 3x3 kernel with stride 2 maps 7 and 8 pixels to 3. The transposed convolution gives 7, or 8 with one added row.
    """
    return (side + 2 * padding - dilation * (kernel_size - 1) - 1) % stride


def compute_pooled_size(size: Size, kernel_size: int, ceil_mode: bool = False) -> Size:
    """Return the size after pooling non-overlapping windows: `((45, 60), 2) → (22, 30)`, in ceil mode (23, 30)."""
    height, width = (round_up(side, kernel_size) if ceil_mode else side for side in size)
    return height // kernel_size, width // kernel_size


def compute_unpooled_sides(pooled: int, kernel_size: int) -> range:
    """Return the sides that floor or ceil pooling maps to `pooled`: `(23, 2) → 45 to 47`."""
    return range(max((pooled - 1) * kernel_size + 1, 0), (pooled + 1) * kernel_size)
