"""The shape legend, and the integer arithmetic of sizes.

    B batch   C channels   K classes   H, W height and width in pixels (always in this order)

`(B, C, H, W) float32` in a docstring is the logical order, whatever the memory format.
"""

Size = tuple[int, int]
"""(height, width) in pixels."""


def round_up(value: int, multiple: int) -> int:
    """The smallest multiple that is at least `value`: `round_up(45, 16) == 48`."""
    # Not -(-value // multiple): the division of an exported graph drops the sign's half of rounding down.
    return (value + multiple - 1) // multiple * multiple


def padding_to_multiple(size: Size, multiple: int) -> Size:
    """Rows to add at the bottom and columns at the right: `((360, 480), 16) → (8, 0)`."""
    height, width = size
    return round_up(height, multiple) - height, round_up(width, multiple) - width


def center_crop(size: Size, target: Size) -> tuple[slice, slice]:
    """Slices that cut `target` out of the middle: 64 → 56 drops 4 at each side."""
    top, left = (size[0] - target[0]) // 2, (size[1] - target[1]) // 2
    return slice(top, top + target[0]), slice(left, left + target[1])


def pair(value: int | Size) -> Size:
    """(height, width) of what may be given once for both: `pair(2) == (2, 2)`."""
    return value if isinstance(value, tuple) else (value, value)


def compute_conv_side(side: int, kernel: int, *, stride: int = 1, padding: int = 0, dilation: int = 1) -> int:
    """Positions of a kernel along `side` pixels: `compute_conv_side(224, 7, stride=2, padding=3) == 112`.

    Zero or less where the kernel does not fit once.
    """
    return (side + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1


def compute_transposed_conv_side(
    side: int, kernel: int, *, stride: int = 1, padding: int = 0, output_padding: int = 0, dilation: int = 1
) -> int:
    """s(i - 1) + d(k - 1) + 1 - 2p + a: `compute_transposed_conv_side(16, 64, stride=32) == 544`.

    Inverts `compute_conv_side` where `output_padding` is `compute_output_padding` the side that was convolved.
    """
    return stride * (side - 1) + dilation * (kernel - 1) + 1 - 2 * padding + output_padding


def compute_output_padding(side: int, kernel: int, *, stride: int = 1, padding: int = 0, dilation: int = 1) -> int:
    """Rows that a convolution of `side` pixels leaves unused at the end, 0 to stride - 1.

    Strides of 2 take 7 and 8 pixels to 3 with a 3x3 kernel; the way back gives 7, or 8 with one added.
    """
    return (side + 2 * padding - dilation * (kernel - 1) - 1) % stride


def compute_pooled_size(size: Size, kernel: int, ceil_mode: bool = False) -> Size:
    """Size after windows that do not overlap: `((45, 60), 2) → (22, 30)`, in ceil mode (23, 30)."""
    height, width = (round_up(side, kernel) if ceil_mode else side for side in size)
    return height // kernel, width // kernel


def compute_unpooled_sides(pooled: int, kernel: int) -> range:
    """The sides that pooling takes to `pooled`, by floor or by ceil: `(23, 2) → 45 to 47`."""
    return range(max((pooled - 1) * kernel + 1, 0), (pooled + 1) * kernel)
