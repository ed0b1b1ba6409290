"""The GPU kernels, written in Triton. Each element of the output is computed by one lane that reads what
it needs: no atomics, the same result in every run, and nothing can be written out of bounds.
"""

import functools
import importlib.util

import torch
from torch import Tensor

_TILE = 1024


@functools.cache
def is_available() -> bool:
    """Whether Triton is there and works. PyTorch brings it along on Linux, with CUDA or ROCm; to start a
    kernel it needs the machine's C compiler, so one is tried.
    """
    if importlib.util.find_spec("triton") is None:
        return False
    try:
        full, pooled = (torch.zeros(1, 1, side, side, device="cuda") for side in (2, 1))
        max_pool(full, 2, pooled, torch.zeros_like(pooled, dtype=torch.uint8))
    except Exception:  # whatever a missing compiler, header or driver makes Triton raise
        return False
    return True


def max_pool(full: Tensor, kernel: int, pooled: Tensor, switches: Tensor) -> None:
    """(B, C, H, W) → maxima and their places dy · kernel + dx, both (B, C, H', W')."""
    _launch("max_pool", pooled, (full, pooled, switches), full, pooled, kernel)


def max_unpool(pooled: Tensor, switches: Tensor, kernel: int, full: Tensor) -> bool:
    """Zeros, and each value at its switch. A value whose switch leads astray is dropped: always False."""
    _launch("max_unpool", full, (pooled, switches, full), full, pooled, kernel)
    return False


def take(full: Tensor, switches: Tensor, kernel: int, pooled: Tensor) -> bool:
    """The values of (B, C, H, W) at the switches, zero where one leads astray: always False."""
    _launch("take", pooled, (full, switches, pooled), full, pooled, kernel)
    return False


def _launch(loops: str, written: Tensor, maps: tuple[Tensor, ...], full: Tensor, pooled: Tensor, kernel: int) -> None:
    # Here, not above: where tensors are on the CPU nobody should wait for Triton's import.
    from pixelwise.ops.kernels import triton_pooling

    if not written.numel():
        return
    batch, channels, rows, columns = written.shape
    planes, inner = (batch * channels, 1) if full.is_contiguous() else (batch, channels)
    elements = columns * inner
    tile_elements = min(1 << (elements - 1).bit_length(), _TILE)
    tile_rows = _TILE // tile_elements
    grid = (-(-planes * rows // tile_rows), -(-elements // tile_elements))
    sizes = (*full.shape[2:], *pooled.shape[2:], inner, planes * rows)
    # 64-bit divisions cost much, so only maps that need them pay.
    wide = full.numel() >= 2**31
    with torch.cuda.device_of(written):  # type: ignore[no-untyped-call]
        getattr(triton_pooling, loops)[grid](*maps, *sizes, kernel, tile_rows, tile_elements, wide)
