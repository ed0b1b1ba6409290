"""The compiled CPU kernels, called through their C interface (cpp/pooling.h).

Two environment variables help to narrow a fault down: PIXELWISE_KERNELS names another library to
load, or is `plain` for none; PIXELWISE_INSTRUCTIONS is `avx512`, `avx2` or `baseline`.
"""

import ctypes
import functools
import os
import sys
from pathlib import Path

import torch
from torch import Tensor

DTYPES = {torch.float32: 0, torch.float64: 1, torch.bfloat16: 2, torch.float16: 3}

# Fresh memory is filled five times as fast on huge pages. Smaller maps mostly get used memory.
HUGE_PAGES_FROM_BYTES = 4 << 20

_FIELDS = ("planes", "height", "width", "inner", "pooled_height", "pooled_width", "kernel", "dtype", "threads")


class Map(ctypes.Structure):
    """`struct pixelwise_map`: the sizes."""

    _fields_ = tuple((name, ctypes.c_int64) for name in _FIELDS)


@functools.cache
def library() -> ctypes.CDLL | None:
    """The shared library, or None where it was not built or is for another kind of processor."""
    for path in _places():
        if path.exists():
            try:
                return _declare(ctypes.CDLL(str(path)))
            except OSError:
                continue
    return None


def _places() -> list[Path]:
    chosen = os.environ.get("PIXELWISE_KERNELS")
    if chosen:
        return [] if chosen == "plain" else [Path(chosen)]
    # In an editable install the package has two folders: the sources', and the one built into.
    return [Path(folder) / "pixelwise_pooling.so" for folder in sys.modules[__package__].__path__]


def _declare(loaded: ctypes.CDLL) -> ctypes.CDLL:
    pointer = ctypes.c_void_p
    for name in ("pixelwise_max_pool", "pixelwise_max_unpool", "pixelwise_take"):
        getattr(loaded, name).argtypes = (ctypes.POINTER(Map), pointer, pointer, pointer)
    loaded.pixelwise_max_pool.restype = None
    loaded.pixelwise_use_huge_pages.argtypes = (pointer, ctypes.c_int64)
    loaded.pixelwise_use_huge_pages.restype = None
    loaded.pixelwise_instructions.restype = ctypes.c_char_p
    loaded.pixelwise_threads.restype = ctypes.c_char_p
    return loaded


def describe() -> str:
    """ "C++ (avx512, openmp)": the instruction set, and whose threads."""
    loaded = _loaded()
    return f"C++ ({loaded.pixelwise_instructions().decode()}, {loaded.pixelwise_threads().decode()})"


def max_pool(full: Tensor, kernel: int, pooled: Tensor, switches: Tensor) -> None:
    """(B, C, H, W) → maxima and their places dy · kernel + dx, both (B, C, H', W')."""
    sizes = _sizes(full, kernel, pooled)
    _loaded().pixelwise_max_pool(sizes, full.data_ptr(), pooled.data_ptr(), switches.data_ptr())


def max_unpool(pooled: Tensor, switches: Tensor, kernel: int, full: Tensor) -> bool:
    """Zeros, and each value at its switch. Whether a switch led out of its window or map."""
    sizes = _sizes(full, kernel, pooled)
    return bool(_loaded().pixelwise_max_unpool(sizes, full.data_ptr(), pooled.data_ptr(), switches.data_ptr()))


def take(full: Tensor, switches: Tensor, kernel: int, pooled: Tensor) -> bool:
    """The values of (B, C, H, W) at the switches. Returns as `max_unpool` does."""
    sizes = _sizes(full, kernel, pooled)
    return bool(_loaded().pixelwise_take(sizes, full.data_ptr(), pooled.data_ptr(), switches.data_ptr()))


def use_huge_pages(fresh: Tensor) -> Tensor:
    """The same tensor; called before it is first written."""
    if fresh.nbytes >= HUGE_PAGES_FROM_BYTES:
        _loaded().pixelwise_use_huge_pages(fresh.data_ptr(), fresh.nbytes)
    return fresh


def _loaded() -> ctypes.CDLL:
    loaded = library()
    assert loaded is not None
    return loaded


def _sizes(full: Tensor, kernel: int, pooled: Tensor) -> Map:
    batch, channels, height, width = full.shape
    planes, inner = (batch * channels, 1) if full.is_contiguous() else (batch, channels)
    return Map(planes, height, width, inner, *pooled.shape[2:], kernel, DTYPES[full.dtype], torch.get_num_threads())
