"""Test finding, loading and describing the compiled kernels; test_pooling.py tests their results."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from pixelwise.ops import kernels, max_pool_with_switches, max_unpool
from pixelwise.ops.kernels import cpu, reference

CPU = torch.device("cpu")
built = pytest.mark.skipif(cpu.load_library() is None, reason="the compiled kernels were not built")


@pytest.fixture
def _forget(monkeypatch: pytest.MonkeyPatch) -> None:
    """Load the library without the cache, so that other tests do not see the result."""
    monkeypatch.setattr(cpu, "load_library", cpu.load_library.__wrapped__)


@pytest.mark.usefixtures("_forget")
def test_plain_by_request(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIXELWISE_KERNELS", "plain")
    assert kernels.choose(CPU) is reference
    assert kernels.describe(CPU) == "plain PyTorch"


@pytest.mark.usefixtures("_forget")
def test_missing_or_broken_library_falls_back_to_plain(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    broken = tmp_path / "pixelwise_pooling.so"
    for _ in range(2):
        monkeypatch.setenv("PIXELWISE_KERNELS", str(broken))
        assert kernels.choose(CPU) is reference
        broken.write_bytes(b"for another kind of processor")


@built
def test_threads_of_pytorch_are_used() -> None:
    """A second OpenMP runtime would compete with that of PyTorch for the cores."""
    description = kernels.describe(CPU)
    assert description.startswith("C++ (")
    if sys.platform == "linux":
        assert description.endswith(", openmp)")


@built
@pytest.mark.parametrize("threads", [1, 2, 5])
def test_any_number_of_threads(threads: int) -> None:
    before = torch.get_num_threads()
    x = torch.randn(3, 7, 121, 163)
    expected = torch.nn.functional.max_pool2d(x, 2)
    try:
        torch.set_num_threads(threads)
        pooled, switches = max_pool_with_switches(x)
        assert torch.equal(pooled, expected)
        assert torch.equal(torch.ops.pixelwise.take_at_switches(x, switches, 2), expected)
    finally:
        torch.set_num_threads(before)


@built
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("width", [256, 255, 250])
def test_maps_large_enough_to_bypass_the_caches(
    dtype: torch.dtype, memory_format: torch.memory_format, width: int
) -> None:
    x = torch.randn(3, 64, 192, width).to(dtype).contiguous(memory_format=memory_format)
    pooled, switches = max_pool_with_switches(x, ceil_mode=True)
    full = max_unpool(pooled, switches, (192, width))
    assert full.nbytes >= 8 << 20
    assert torch.equal(pooled, torch.nn.functional.max_pool2d(x, 2, ceil_mode=True))
    assert torch.equal(full, torch.where(full != 0, x, 0))
    assert torch.equal(max_pool_with_switches(full.abs(), ceil_mode=True)[0], pooled.abs())


@built
@pytest.mark.parametrize("instructions", ["avx512", "avx2", "baseline"])
def test_every_instruction_set(instructions: str) -> None:
    """The choice is made once, so it needs its own process. Without the instruction set, baseline runs."""
    script = """
import itertools, torch
from pixelwise.ops.kernels import cpu, reference
print(cpu.describe())
for dtype, channels, memory_format, kernel in itertools.product(
    cpu.DTYPES, (1, 2, 5, 8, 16, 31, 64), (torch.contiguous_format, torch.channels_last), (2, 3)
):
    x = torch.randn(1, channels, 13, 71).mul(2).round()
    x[torch.rand(x.shape) < 0.1] = torch.nan
    x = x.to(dtype).to(memory_format=memory_format)
    results = []
    for kernels in (cpu, reference):
        pooled = torch.empty(1, channels, 13 // kernel, -(-71 // kernel), dtype=dtype).to(memory_format=memory_format)
        switches = torch.empty_like(pooled, dtype=torch.uint8)
        full, taken = torch.empty_like(x), torch.empty_like(pooled)
        kernels.max_pool(x, kernel, pooled, switches)
        assert not kernels.max_unpool(pooled, switches, kernel, full)
        assert not kernels.take(x, switches, kernel, taken)
        switches[0, 0, 0, 0] = kernel**2
        assert kernels.max_unpool(pooled, switches, kernel, full) and kernels.take(x, switches, kernel, taken)
        switches[0, 0, 0, 0] = 0
        results.append((pooled, switches, full, taken))
    for ours, theirs in zip(*results):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=0, equal_nan=True)
"""
    environment = {**os.environ, "PIXELWISE_INSTRUCTIONS": instructions, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    has_it = instructions in ("baseline", torch.backends.cpu.get_cpu_capability().lower())
    assert f"({instructions if has_it else ''}" in done.stdout


@built
def test_own_threads_without_openmp() -> None:
    """Load the library without an OpenMP runtime, as with PyTorch for macOS."""
    script = """
import ctypes, os, sys
library = ctypes.CDLL(sys.argv[1])
library.pixelwise_threads.restype = ctypes.c_char_p
assert library.pixelwise_threads() == b"own"
class Map(ctypes.Structure):
    _fields_ = [(name, ctypes.c_int64) for name in (
        "planes height width inner rows columns kernel dtype threads".split()
    )]
side = 512
full = (ctypes.c_float * side**2)(*range(side**2))
pooled, switches = (ctypes.c_float * (side // 2)**2)(), (ctypes.c_uint8 * (side // 2)**2)()
library.pixelwise_max_pool(ctypes.byref(Map(1, side, side, 1, side // 2, side // 2, 2, 0, 3)), full, pooled, switches)
assert list(pooled[:3]) == [side + 1, side + 3, side + 5], pooled[:3]
assert pooled[-1] == side**2 - 1 and set(switches) == {3}
"""
    library = cpu.load_library()
    assert library is not None
    subprocess.run([sys.executable, "-c", script, library._name], check=True)
