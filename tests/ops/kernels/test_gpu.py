"""Test the Triton kernels with Triton's interpreter on the CPU, and on a GPU if there is one."""

import importlib.util
import os
import subprocess
import sys

import pytest
import torch

from pixelwise.ops import kernels, max_pool_with_switches, max_unpool
from pixelwise.ops.kernels import gpu, reference

# In a process of its own: Triton decides on the interpreter when it is imported.
SCRIPT = """
import contextlib, itertools
import torch
from pixelwise.ops.kernels import gpu, reference

torch.cuda.device_of = lambda tensor: contextlib.nullcontext()
torch.manual_seed(0)

def new(shape, dtype, memory_format):
    return torch.full(shape, 9, dtype=dtype).to(memory_format=memory_format)

def same(a, b):
    torch.testing.assert_close(a, b, rtol=0, atol=0, equal_nan=True)

cases = 0
for dtype, shape, (kernel, ceil_mode), memory_format in itertools.product(
    (torch.float64, torch.float32, torch.bfloat16, torch.float16),
    ((2, 3, 7, 9), (1, 1, 3, 2500), (0, 2, 4, 4)),
    ((2, False), (2, True), (3, True)),
    (torch.contiguous_format, torch.channels_last),
):
    x = torch.randn(shape).mul(2).round()
    x[torch.rand(shape) < 0.05] = torch.nan
    x = x.to(dtype).contiguous(memory_format=memory_format)
    size = [-(-side // kernel) if ceil_mode else side // kernel for side in shape[2:]]
    results = []
    for kernels in (gpu, reference):
        pooled = new((*shape[:2], *size), dtype, memory_format)
        switches = new((*shape[:2], *size), torch.uint8, memory_format)
        kernels.max_pool(x, kernel, pooled, switches)
        full, taken = new(shape, dtype, memory_format), new(pooled.shape, dtype, memory_format)
        kernels.max_unpool(pooled, switches, kernel, full)
        kernels.take(x, switches, kernel, taken)
        results.append((pooled, switches, full, taken))
    for ours, theirs in zip(*results):
        same(ours, theirs)
    same(results[0][3], results[0][0])
    cases += 1

# Switches that lead out of their windows or out of the map: dropped, and nothing else is written.
pooled, switches = torch.ones(1, 1, 2, 2), torch.tensor([[[[0, 200], [2, 3]]]], dtype=torch.uint8)
guarded = torch.full((1, 1, 5, 3), 7.0)
gpu.max_unpool(pooled, switches, 2, guarded[:, :, 1:4])
assert guarded.flatten().tolist() == [7, 7, 7, 1, 0, 0, 0, 0, 0, 0, 0, 0, 7, 7, 7], guarded
gpu.take(guarded[:, :, 1:4], switches, 2, pooled)
assert pooled.flatten().tolist() == [1, 0, 0, 0], pooled
print(cases, "cases")
"""


@pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="Triton comes with PyTorch for GPUs only")
def test_kernels_under_the_interpreter() -> None:
    environment = {**os.environ, "TRITON_INTERPRET": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, env=environment, check=False)
    assert done.stdout == "72 cases\n", done.stderr


def test_triton_that_cannot_run_falls_back_to_plain(monkeypatch: pytest.MonkeyPatch) -> None:
    """This is the case without a GPU, and with a GPU but without a C compiler."""
    monkeypatch.setattr(gpu, "is_available", gpu.is_available.__wrapped__)

    def fail(*arguments: object) -> None:
        raise RuntimeError("no C compiler")

    monkeypatch.setattr(gpu, "max_pool", fail)
    monkeypatch.setattr(torch, "zeros", lambda *shape, device=None: torch.ones(shape))
    monkeypatch.setattr(gpu.importlib.util, "find_spec", lambda name: object())
    assert kernels.choose(torch.device("cuda")) is reference
    monkeypatch.setattr(gpu, "max_pool", lambda *arguments: None)
    assert kernels.choose(torch.device("cuda")) is gpu
    monkeypatch.setattr(gpu.importlib.util, "find_spec", lambda name: None)
    assert kernels.choose(torch.device("cuda")) is reference


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_gpu_equals_cpu(dtype: torch.dtype, memory_format: torch.memory_format) -> None:
    x = torch.randn(2, 5, 45, 61).to(dtype).contiguous(memory_format=memory_format)
    results = []
    for device in ("cpu", "cuda"):
        y = x.to(device).requires_grad_()
        pooled, switches = max_pool_with_switches(y, 2, True)
        full = max_unpool(pooled * 2, switches, (45, 61))
        full.sum().backward()
        results.append([tensor.detach().cpu() for tensor in (pooled, switches, full, y.grad)])
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=0)
