"""The compiled CPU kernels, called through their C interface (cpp/pooling.h).

Two environment variables help to narrow down a fault. PIXELWISE_KERNELS is the path of another library, or `plain` for
none. PIXELWISE_INSTRUCTIONS is `avx512`, `avx2` or `baseline`.
"""

import ctypes
import functools
import os
import sys
from pathlib import Path

import torch
from torch import Tensor

DTYPES = {torch.float32: 0, torch.float64: 1, torch.bfloat16: 2, torch.float16: 3}

# New memory is filled five times as fast on huge pages. Smaller maps mostly reuse memory.
HUGE_PAGES_FROM_BYTES = 4 << 20

FIELDS = ("planes", "height", "width", "inner", "pooled_height", "pooled_width", "kernel", "dtype", "threads")


class PoolingSizes(ctypes.Structure):
    """The sizes of one call, `struct pixelwise_map` of cpp/pooling.h."""

    _fields_ = [(name, ctypes.c_int64) for name in FIELDS]


class ScoresSizes(ctypes.Structure):
    """The sizes and settings of one call, `struct pixelwise_scores` of cpp/soft_confusion.h."""

    _fields_ = [
        *((name, ctypes.c_int64) for name in ("images", "pixels", "classes", "channels_last", "dtype", "threads")),
        ("gamma", ctypes.c_double),
    ]


@functools.cache
def load_library() -> ctypes.CDLL | None:
    """Return the shared library, or None if it was not built or is for a different kind of processor."""
    # An editable install has two folders for the package: the one of the sources and the one of the build.
    paths = [Path(folder) / "pixelwise_pooling.so" for folder in sys.modules[__package__].__path__]
    if chosen := os.environ.get("PIXELWISE_KERNELS"):
        paths = [] if chosen == "plain" else [Path(chosen)]
    for path in paths:
        if path.exists():
            try:
                return _declare(ctypes.CDLL(str(path)))
            except (OSError, AttributeError):  # damaged, or built from older sources
                continue
    return None


def _declare(library: ctypes.CDLL) -> ctypes.CDLL:
    pointer = ctypes.c_void_p
    for name in ("pixelwise_max_pool", "pixelwise_max_unpool", "pixelwise_take"):
        getattr(library, name).argtypes = (ctypes.POINTER(PoolingSizes), pointer, pointer, pointer)
    library.pixelwise_max_pool.restype = None
    for name, count in (("pixelwise_soft_confusion", 4), ("pixelwise_soft_confusion_backward", 5)):
        getattr(library, name).argtypes = (ctypes.POINTER(ScoresSizes), *[pointer] * count)
        getattr(library, name).restype = None
    library.pixelwise_use_huge_pages.argtypes = (pointer, ctypes.c_int64)
    library.pixelwise_use_huge_pages.restype = None
    library.pixelwise_instructions.restype = ctypes.c_char_p
    library.pixelwise_threads.restype = ctypes.c_char_p
    return library


def describe() -> str:
    """Return the instruction set and the owner of the threads: "C++ (avx512, openmp)"."""
    library = _require_library()
    return f"C++ ({library.pixelwise_instructions().decode()}, {library.pixelwise_threads().decode()})"


def max_pool(full: Tensor, kernel: int, pooled: Tensor, switches: Tensor) -> None:
    """Write the maxima of (B, C, H, W) and their positions dy · kernel + dx, both (B, C, H', W')."""
    sizes = _collect_sizes(full, kernel, pooled)
    _require_library().pixelwise_max_pool(sizes, full.data_ptr(), pooled.data_ptr(), switches.data_ptr())


def max_unpool(pooled: Tensor, switches: Tensor, kernel: int, full: Tensor) -> bool:
    """Write each value to its switch and zeros elsewhere; return whether a switch was out of range."""
    sizes = _collect_sizes(full, kernel, pooled)
    pointers = full.data_ptr(), pooled.data_ptr(), switches.data_ptr()
    return bool(_require_library().pixelwise_max_unpool(sizes, *pointers))


def take(full: Tensor, switches: Tensor, kernel: int, pooled: Tensor) -> bool:
    """Write the values of (B, C, H, W) at the switches; return whether a switch was out of range."""
    sizes = _collect_sizes(full, kernel, pooled)
    return bool(_require_library().pixelwise_take(sizes, full.data_ptr(), pooled.data_ptr(), switches.data_ptr()))


def soft_confusion(scores: Tensor, classes: Tensor, weights: Tensor, gamma: float, sums: Tensor) -> None:
    """Write the four sums (4, K) of cpp/soft_confusion.h for (B, K, H, W); the weights are float32, all are dense."""
    pointers = (tensor.data_ptr() for tensor in (scores, classes, weights, sums))
    _require_library().pixelwise_soft_confusion(_collect_scores_sizes(scores, gamma), *pointers)


def soft_confusion_backward(
    scores: Tensor, classes: Tensor, weights: Tensor, gamma: float, slopes: Tensor, gradient: Tensor
) -> None:
    """Write the gradient with respect to the scores, for the gradients (4, K) of the sums."""
    pointers = (tensor.data_ptr() for tensor in (scores, classes, weights, slopes, gradient))
    _require_library().pixelwise_soft_confusion_backward(_collect_scores_sizes(scores, gamma), *pointers)


def _collect_scores_sizes(scores: Tensor, gamma: float) -> ScoresSizes:
    images, classes, height, width = scores.shape
    is_last, threads = not scores.is_contiguous(), torch.get_num_threads()
    return ScoresSizes(images, height * width, classes, is_last, DTYPES[scores.dtype], threads, gamma)


def use_huge_pages(tensor: Tensor) -> Tensor:
    """Request huge pages for a new, unwritten tensor and return it."""
    if tensor.nbytes >= HUGE_PAGES_FROM_BYTES:
        _require_library().pixelwise_use_huge_pages(tensor.data_ptr(), tensor.nbytes)
    return tensor


def _require_library() -> ctypes.CDLL:
    library = load_library()
    assert library is not None
    return library


def _collect_sizes(full: Tensor, kernel: int, pooled: Tensor) -> PoolingSizes:
    batch, channels, height, width = full.shape
    planes, inner = (batch * channels, 1) if full.is_contiguous() else (batch, channels)
    threads = torch.get_num_threads()
    return PoolingSizes(planes, height, width, inner, *pooled.shape[2:], kernel, DTYPES[full.dtype], threads)
