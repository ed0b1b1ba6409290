"""The loops of `ops/pooling.py`: compiled C++ on the CPU, Triton on NVIDIA and AMD GPUs, plain PyTorch elsewhere.

All three give the same results and differ only in speed. The compiled library also has the sums of
`losses/soft_confusion.py`, which are plain PyTorch elsewhere.
"""

from typing import Protocol

import torch
from torch import Tensor

from pixelwise.ops.kernels import cpu, gpu, reference


class Kernels(Protocol):
    """The interface of the three modules.

    All tensors are checked, dense and in one memory format; the last argument is written. On the CPU, the result says
    whether a switch was out of range.
    """

    def max_pool(self, full: Tensor, kernel: int, pooled: Tensor, switches: Tensor) -> None: ...
    def max_unpool(self, pooled: Tensor, switches: Tensor, kernel: int, full: Tensor) -> bool: ...
    def take(self, full: Tensor, switches: Tensor, kernel: int, pooled: Tensor) -> bool: ...


def choose(device: torch.device) -> Kernels:
    """Return the fastest available kernels for tensors on `device`."""
    if device.type == "cpu" and cpu.load_library():
        return cpu
    if device.type == "cuda" and gpu.is_available():
        return gpu
    return reference


def describe(device: torch.device) -> str:
    """Return the name of the kernels for bug reports: "C++ (avx512, openmp)", "Triton" or "plain PyTorch"."""
    kernels = choose(device)
    if kernels is cpu:
        return cpu.describe()
    return "Triton" if kernels is gpu else "plain PyTorch"
