import subprocess
import sys
from pathlib import Path

import pytest
import torch

from pixelwise import devices
from pixelwise.devices import autocast, choose_device, describe_device, has_fast_bf16, synchronize
from pixelwise.errors import InvalidArgumentError

CPU = torch.device("cpu")


def test_cpu_description_has_threads() -> None:
    assert describe_device(CPU).endswith(f", {torch.get_num_threads()} threads")


def pretend_devices(monkeypatch: pytest.MonkeyPatch, *, cuda: int = 0, mps: bool = False) -> None:
    """Pretend that the computer has these devices."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: cuda)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)


@pytest.mark.parametrize(
    ("cuda", "mps", "expected"),
    [(0, False, "cpu"), (0, True, "mps"), (2, False, "cuda"), (1, True, "cuda")],
)
def test_auto_prefers_the_fastest_device(monkeypatch: pytest.MonkeyPatch, cuda: int, mps: bool, expected: str) -> None:
    pretend_devices(monkeypatch, cuda=cuda, mps=mps)
    assert choose_device() == torch.device(expected)


def test_devices_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend_devices(monkeypatch, cuda=2)
    assert choose_device("cpu") == CPU
    assert choose_device("cuda:1") == torch.device("cuda", 1)


@pytest.mark.parametrize("name", ["gpu", "", "cuda:x", "cuda:", ":0", "meta"])
def test_unknown_device_raises(name: str) -> None:
    with pytest.raises(InvalidArgumentError, match=r"Unknown device .* Choose auto, cpu"):
        choose_device(name)


@pytest.mark.parametrize("name", ["mps", "cuda:2", "cpu:1"])
def test_unavailable_device_raises(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    pretend_devices(monkeypatch, cuda=2)
    with pytest.raises(InvalidArgumentError, match=f"'{name}' is not available on this computer. Use --device auto"):
        choose_device(name)


@pytest.mark.parametrize(("fast", "expected"), [(True, "bf16"), (False, "fp32")])
def test_auto_precision_follows_the_hardware(monkeypatch: pytest.MonkeyPatch, fast: bool, expected: str) -> None:
    monkeypatch.setattr(devices, "has_fast_bf16", lambda device: fast)
    assert devices.choose_precision("auto", CPU) == expected
    assert devices.choose_precision("fp32", CPU) == "fp32"
    assert devices.choose_precision("bf16", CPU) == "bf16"


def test_unknown_precision_raises() -> None:
    with pytest.raises(InvalidArgumentError, match=r"Unknown precision 'fp16'. Choose auto, fp32 or bf16"):
        devices.choose_precision("fp16", CPU)


def test_fast_bf16_depends_on_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: False)
    assert has_fast_bf16(CPU) is True
    assert has_fast_bf16(torch.device("cuda")) is False
    assert has_fast_bf16(torch.device("mps")) is False


@pytest.mark.parametrize(("precision", "dtype"), [("fp32", torch.float32), ("bf16", torch.bfloat16)])
def test_autocast_computes_in_the_precision(precision: devices.Precision, dtype: torch.dtype) -> None:
    values = torch.ones(2, 2)
    with autocast(CPU, precision):
        assert (values @ values).dtype == dtype


@pytest.mark.parametrize("kind", ["cuda", "mps"])
def test_synchronize_waits_for_the_device(monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    waited: list[str] = []
    monkeypatch.setattr(torch.cuda, "synchronize", lambda device: waited.append("cuda"))
    monkeypatch.setattr(torch.mps, "synchronize", lambda: waited.append("mps"))
    synchronize(CPU)
    assert waited == []
    synchronize(torch.device(kind))
    assert waited == [kind]


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the allocator of Linux")
@pytest.mark.parametrize(
    ("kind", "cores", "expected"),
    [("cpu", 64, 2), ("cuda", 16, 8), ("cuda", 6, 5), ("mps", 1, 2)],
)
def test_loader_threads(monkeypatch: pytest.MonkeyPatch, kind: str, cores: int, expected: int) -> None:
    monkeypatch.setattr(devices, "count_cpus", lambda: cores)
    assert devices.choose_loader_threads(torch.device(kind)) == expected


def test_freed_memory_is_kept() -> None:
    """The setting is permanent, so it needs its own process."""
    script = """
from pathlib import Path
import torch
from pixelwise.devices import keep_freed_memory

def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096

keep_freed_memory()
keep_freed_memory()
block = torch.ones(64 * 2**20, dtype=torch.uint8)
full = resident()
del block
print(full - resident())
"""
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert int(result.stdout) < 2**20


def test_other_systems_keep_their_allocator(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setattr("ctypes.CDLL", lambda name: pytest.fail("a C library is loaded"))
    devices.keep_freed_memory()


# The files of Linux about memory, in a folder.

MEMINFO = "MemTotal: 8000 kB\nMemFree: 100 kB\nMemAvailable: 4000 kB\n"


def write(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def group(folder: str, limit: str, *, used: int = 1000, cache: int = 200) -> dict[str, str]:
    """Return the files of a control group of version 2."""
    return {
        f"sys/fs/cgroup/{folder}memory.max": limit,
        f"sys/fs/cgroup/{folder}memory.current": f"{used}\n",
        f"sys/fs/cgroup/{folder}memory.stat": f"anon 5\ninactive_file {cache}\n",
    }


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, None),  # not Linux
        ({"proc/meminfo": MEMINFO}, 4_096_000),
        ({"proc/meminfo": MEMINFO, "proc/self/cgroup": "0::/\n"}, 4_096_000),  # no limit to read
        ({"proc/meminfo": MEMINFO, "proc/self/cgroup": "0::/job\n", **group("job/", "max\n")}, 4_096_000),
        ({"proc/meminfo": MEMINFO, "proc/self/cgroup": "0::/job\n", **group("job/", "3000\n")}, 2200),
        # A limit of a parent group; the inner path is that of the host.
        ({"proc/meminfo": MEMINFO, "proc/self/cgroup": "0::/docker/abc\n", **group("", "5000\n")}, 4200),
        (
            {"proc/meminfo": MEMINFO, "proc/self/cgroup": "0::/a/b\n", **group("a/", "900\n"), **group("a/b/", "max")},
            100,
        ),
        ({"proc/meminfo": MEMINFO, "proc/self/cgroup": "0::/a\n", **group("a/", "700", used=2000)}, 0),
        (
            {
                "proc/meminfo": MEMINFO,
                "proc/self/cgroup": "5:cpu,cpuacct:/x\n4:memory:/job\n0::/\n",
                "sys/fs/cgroup/memory/job/memory.limit_in_bytes": "3000",
                "sys/fs/cgroup/memory/job/memory.usage_in_bytes": "1000",
                "sys/fs/cgroup/memory/job/memory.stat": "inactive_file 7\ntotal_inactive_file 300\n",
            },
            2300,
        ),
    ],
)
def test_free_memory_is_the_lowest_limit(tmp_path: Path, files: dict[str, str], expected: int | None) -> None:
    assert devices.measure_free_memory(CPU, write(tmp_path, files)) == expected


V1 = "2:cpu,cpuacct:/job\n0::/\n"


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, 8),  # no control groups
        ({"proc/self/cgroup": "0::/\n"}, 8),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "max 100000\n"}, 8),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "250000 100000\n"}, 2),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "20000 100000\n"}, 1),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "6400000 100000\n"}, 8),
        ({"proc/self/cgroup": "0::/a/b\n", "sys/fs/cgroup/a/cpu.max": "300000 100000\n"}, 3),  # of the parent
        (
            {
                "proc/self/cgroup": V1,
                "sys/fs/cgroup/cpu/job/cpu.cfs_quota_us": "150000\n",
                "sys/fs/cgroup/cpu/job/cpu.cfs_period_us": "50000\n",
            },
            3,
        ),
        (
            {
                "proc/self/cgroup": V1,
                "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1\n",
                "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
            },
            8,
        ),
    ],
)
def test_cpus_are_limited_by_the_quota_of_a_container(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, files: dict[str, str], expected: int
) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: range(8), raising=False)
    monkeypatch.setattr(sys, "platform", "linux")
    assert devices.count_cpus(write(tmp_path, files)) == expected


def test_other_systems_count_all_cpus(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setattr("os.cpu_count", lambda: None)
    assert devices.count_cpus(tmp_path) == 1


@pytest.mark.parametrize(("cpus", "variable", "expected"), [(1, None, 1), (1, "2", 2), (64, None, 2)])
def test_threads_are_limited_by_the_processors_unless_the_user_chose(
    monkeypatch: pytest.MonkeyPatch, cpus: int, variable: str | None, expected: int
) -> None:
    monkeypatch.setattr(devices, "count_cpus", lambda: cpus)
    if variable is None:
        monkeypatch.delenv("OMP_NUM_THREADS")
    with devices.use_threads(2):
        choose_device("cpu")
        assert torch.get_num_threads() == expected
        torch.set_num_threads(2)


def test_a_block_uses_its_number_of_threads() -> None:
    with devices.use_threads(1):
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == 2


def test_free_memory_of_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (5, 9))
    assert devices.measure_free_memory(torch.device("cuda")) == 5


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_resident_memory_of_this_process() -> None:
    assert 2**24 < devices.measure_resident_memory() < 2**40
    assert (devices.measure_free_memory(CPU) or 0) > 0
