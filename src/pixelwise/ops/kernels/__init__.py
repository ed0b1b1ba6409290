"""The loops behind `ops/pooling.py`: compiled C++ on the CPU, Triton on NVIDIA and AMD GPUs, plain
PyTorch where neither is there. They differ in speed alone.
"""

from typing import Protocol

import torch
from torch import Tensor

from pixelwise.ops.kernels import cpu, gpu, reference


class Kernels(Protocol):
    """What each of the three modules offers. All tensors come checked, dense, in one memory format;
    the last argument is written. On the CPU the result says whether a switch led astray."""

    def max_pool(self, full: Tensor, kernel: int, pooled: Tensor, switches: Tensor) -> None: ...
    def max_unpool(self, pooled: Tensor, switches: Tensor, kernel: int, full: Tensor) -> bool: ...
    def take(self, full: Tensor, switches: Tensor, kernel: int, pooled: Tensor) -> bool: ...


def choose(device: torch.device) -> Kernels:
    """The fastest kernels that are there for tensors on `device`."""
    if device.type == "cpu" and cpu.library():
        return cpu
    if device.type == "cuda" and gpu.is_available():
        return gpu
    return reference


def describe(device: torch.device) -> str:
    """Which kernels run on `device`, for bug reports: "C++ (avx512, openmp)", "Triton", "plain PyTorch"."""
    kernels = choose(device)
    if kernels is cpu:
        return cpu.describe()
    return "Triton" if kernels is gpu else "plain PyTorch"
