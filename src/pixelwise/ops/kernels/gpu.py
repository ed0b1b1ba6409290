"""The GPU kernels in Triton: one lane computes one element of the output.

Atomics are not used, so every run gives the same result, and no write can be out of bounds.
"""

import functools
import importlib.util

import torch
from torch import Tensor

_TILE = 1024


@functools.cache
def is_available() -> bool:
    """Return whether Triton is installed and can start a kernel.

    PyTorch installs it on Linux with CUDA or ROCm. Starting a kernel needs a C compiler, so one small pooling is tried.
    """
    if importlib.util.find_spec("triton") is None:
        return False
    try:
        full, pooled = (torch.zeros(1, 1, side, side, device="cuda") for side in (2, 1))
        max_pool(full, 2, pooled, torch.zeros_like(pooled, dtype=torch.uint8))
    except Exception:  # a missing compiler, header or driver can raise anything in Triton
        return False
    return True


def max_pool(full: Tensor, kernel: int, pooled: Tensor, switches: Tensor) -> None:
    """Write the maxima of (B, C, H, W) and their positions dy · kernel + dx, both (B, C, H', W')."""
    _launch("max_pool", pooled, (full, pooled, switches), full, pooled, kernel)


def max_unpool(pooled: Tensor, switches: Tensor, kernel: int, full: Tensor) -> bool:
    """Write each value to its switch and zeros elsewhere; values out of range are dropped. Return False."""
    _launch("max_unpool", full, (pooled, switches, full), full, pooled, kernel)
    return False


def take(full: Tensor, switches: Tensor, kernel: int, pooled: Tensor) -> bool:
    """Write the values of (B, C, H, W) at the switches, zero for switches out of range. Return False."""
    _launch("take", pooled, (full, switches, pooled), full, pooled, kernel)
    return False


def _launch(loops: str, written: Tensor, maps: tuple[Tensor, ...], full: Tensor, pooled: Tensor, kernel: int) -> None:
    # Imported here because Triton takes long to import, and CPU tensors do not need it.
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
    # 64-bit divisions are slow, so they are used only for maps that need them.
    wide = full.numel() >= 2**31
    with torch.cuda.device_of(written):  # type: ignore[no-untyped-call]
        getattr(triton_pooling, loops)[grid](*maps, *sizes, kernel, tile_rows, tile_elements, wide)
