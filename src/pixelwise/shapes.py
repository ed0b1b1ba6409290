"""The shape legend, and the integer arithmetic of sizes.

    B batch   C channels   K classes   H, W height and width in pixels (always in this order)

`(B, C, H, W) float32` in a docstring is the logical order, whatever the memory format.
"""

Size = tuple[int, int]
"""(height, width) in pixels."""


def round_up(value: int, multiple: int) -> int:
    """The smallest multiple that is at least `value`: `round_up(45, 16) == 48`."""
    return -(-value // multiple) * multiple


def padding_to_multiple(size: Size, multiple: int) -> Size:
    """Rows to add at the bottom and columns at the right: `((360, 480), 16) → (8, 0)`."""
    height, width = size
    return round_up(height, multiple) - height, round_up(width, multiple) - width


def center_crop(size: Size, target: Size) -> tuple[slice, slice]:
    """Slices that cut `target` out of the middle: 64 → 56 drops 4 at each side."""
    top, left = (size[0] - target[0]) // 2, (size[1] - target[1]) // 2
    return slice(top, top + target[0]), slice(left, left + target[1])
