"""The loops of `gpu.py` in Triton's language.

A program computes a tile of rows x elements. Rows are numbered over all planes. The elements of a row are its columns
(contiguous), or its columns and channels (channels_last).
"""

import triton
import triton.language as tl


@triton.jit
def _compute_tile(
    rows, inner, num_rows, elements, tile_rows: tl.constexpr, tile_elements: tl.constexpr, wide: tl.constexpr
):
    """Return plane, row, column, channel and offset of each element of the tile, and whether it exists."""
    row = tl.program_id(0) * tile_rows + tl.arange(0, tile_rows)[:, None]
    element = tl.program_id(1) * tile_elements + tl.arange(0, tile_elements)[None, :]
    exists = (row < num_rows) & (element < elements)
    if wide:
        row = row.to(tl.int64)
    return row // rows, row % rows, element // inner, element % inner, row * elements + element, exists


@triton.jit
def _to_comparable(values):
    return values.to(tl.float32) if values.dtype.primitive_bitwidth == 16 else values


@triton.jit
def max_pool(
    full,
    pooled,
    switches,
    height,
    width,
    rows,
    columns,
    inner,
    num_rows,
    kernel: tl.constexpr,
    tile_rows: tl.constexpr,
    tile_elements: tl.constexpr,
    wide: tl.constexpr,
):
    plane, row, column, channel, to, exists = _compute_tile(
        rows, inner, num_rows, columns * inner, tile_rows, tile_elements, wide
    )
    top, left = row * kernel, column * kernel
    start = full + ((plane * height + top) * width + left) * inner + channel
    best = _to_comparable(tl.load(start, mask=exists, other=0.0))
    positions = tl.zeros(best.shape, tl.int32)
    for position in tl.static_range(1, kernel * kernel):
        dy = position // kernel
        dx = position % kernel
        inside = exists & (top + dy < height) & (left + dx < width)
        candidate = _to_comparable(tl.load(start + (dy * width + dx) * inner, mask=inside, other=float("-inf")))
        wins = (candidate > best) | (candidate != candidate)
        best = tl.where(wins, candidate, best)
        positions = tl.where(wins, position, positions)
    tl.store(pooled + to, best, mask=exists)
    tl.store(switches + to, positions.to(tl.uint8), mask=exists)


@triton.jit
def max_unpool(
    pooled,
    switches,
    full,
    height,
    width,
    rows,
    columns,
    inner,
    num_rows,
    kernel: tl.constexpr,
    tile_rows: tl.constexpr,
    tile_elements: tl.constexpr,
    wide: tl.constexpr,
):
    plane, y, x, channel, to, exists = _compute_tile(
        height, inner, num_rows, width * inner, tile_rows, tile_elements, wide
    )
    row, column = y // kernel, x // kernel
    covered = exists & (row < rows) & (column < columns)
    source = ((plane * rows + row) * columns + column) * inner + channel
    position = (y % kernel) * kernel + x % kernel
    # The value is loaded only where the switch points here; elsewhere the masked load gives zero.
    chosen = covered & (tl.load(switches + source, mask=covered, other=255).to(tl.int32) == position)
    tl.store(full + to, tl.load(pooled + source, mask=chosen, other=0.0), mask=exists)


@triton.jit
def take(
    full,
    switches,
    pooled,
    height,
    width,
    rows,
    columns,
    inner,
    num_rows,
    kernel: tl.constexpr,
    tile_rows: tl.constexpr,
    tile_elements: tl.constexpr,
    wide: tl.constexpr,
):
    plane, row, column, channel, to, exists = _compute_tile(
        rows, inner, num_rows, columns * inner, tile_rows, tile_elements, wide
    )
    position = tl.load(switches + to, mask=exists, other=255).to(tl.int32)
    y, x = row * kernel + position // kernel, column * kernel + position % kernel
    inside = exists & (position < kernel * kernel) & (y < height) & (x < width)
    source = ((plane * height + y) * width + x) * inner + channel
    tl.store(pooled + to, tl.load(full + source, mask=inside, other=0.0), mask=exists)
