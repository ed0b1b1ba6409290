"""Device, precision, random state and free memory of the computation."""

import ctypes
import os
import platform
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import torch

from pixelwise.errors import InvalidArgumentError

Precision = Literal["fp32", "bf16", "int8"]
"""int8 is for prediction only, with engines that support it."""


def choose_device(name: str = "auto") -> torch.device:
    """Return a device by name; `auto` prefers CUDA, then MPS, then the CPU.

    Raises:
        InvalidArgumentError: The name is unknown, or the device is not available.
    """
    counts = {
        "cuda": torch.cuda.device_count() if torch.cuda.is_available() else 0,
        "mps": int(torch.backends.mps.is_available()),
        "cpu": 1,
    }
    kind, colon, index = name.lower().partition(":")
    if kind == "auto" and not colon:
        kind = name = next(kind for kind, count in counts.items() if count)
    if kind not in counts or (colon and not index.isdecimal()):
        raise InvalidArgumentError(f"Unknown device {name!r}. Choose auto, cpu, cuda, cuda:1 or mps.")
    if int(index or 0) >= counts[kind]:
        raise InvalidArgumentError(f"Device {name!r} is not available on this computer. Use --device auto or cpu.")
    if kind == "cpu":
        limit_threads()
    return torch.device(name.lower())


def has_fast_bf16(device: torch.device) -> bool:
    """Return whether the device has instructions for bfloat16 convolutions, without emulation."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    # oneDNN can be limited to older instructions, by ONEDNN_MAX_CPU_ISA. Its bfloat16 is then a hundred times slower.
    has_instructions = device.type == "cpu" and torch.cpu._is_avx512_bf16_supported()
    return has_instructions and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def choose_precision(name: str, device: torch.device) -> Precision:
    """Return a precision by name; `auto` is bf16 where the device has instructions for it, else fp32."""
    if name == "auto":
        return "bf16" if has_fast_bf16(device) else "fp32"
    if name not in ("fp32", "bf16"):
        raise InvalidArgumentError(f"Unknown precision {name!r}. Choose auto, fp32 or bf16.")
    return "bf16" if name == "bf16" else "fp32"


def autocast(device: torch.device, precision: Precision) -> torch.autocast:
    """Return the context of a forward pass; it changes nothing for fp32."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == "bf16")


def describe_device(device: torch.device) -> str:
    """Return the name of the GPU, or that of the processor with the number of PyTorch's threads."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    name, cpuinfo = platform.processor(), Path("/proc/cpuinfo")
    if cpuinfo.exists():
        lines = (line.partition(":") for line in cpuinfo.read_text(encoding="utf-8").splitlines())
        name = next((value.strip() for key, _, value in lines if key.strip() == "model name"), name)
    return f"{name}, {torch.get_num_threads()} threads"


def choose_loader_threads(device: torch.device) -> int:
    """Return the number of loader threads: 2 next to a network on the CPU, else all cores except one, at most 8."""
    if device.type == "cpu":
        return 2
    return max(2, min(8, count_cpus() - 1))


def count_cpus(root: Path = Path("/")) -> int:
    """Return the number of processors that this process may use, by its affinity and the quota of its container.

    `root` is the directory that contains /proc and /sys.
    """
    cpus = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
    return max(1, min([cpus, *(round(quota) for quota in _read_cpu_quotas(root))]))


def are_threads_chosen_by_user() -> bool:
    """Return whether the user has set the number of threads, which then is not changed."""
    return "OMP_NUM_THREADS" in os.environ


def limit_threads() -> None:
    """Use no more threads than processors: PyTorch counts all of the computer, also where a container may use fewer."""
    if not are_threads_chosen_by_user() and torch.get_num_threads() > count_cpus():
        torch.set_num_threads(count_cpus())


@contextmanager
def use_threads(count: int) -> Iterator[None]:
    """Compute with this number of threads inside the block."""
    before = torch.get_num_threads()
    if count == before:
        yield
        return
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def enable_deterministic_algorithms(enabled: bool) -> Iterator[None]:
    """Use torch's deterministic algorithms inside the block, if `enabled`."""
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(enabled or before)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)


def keep_freed_memory() -> None:
    """Let the C allocator keep freed memory (Linux, glibc). Call it once before training on the CPU.

    Otherwise activations of tens of megabytes are returned to the system at every free, and faulted in page by page at
    the next allocation, which takes longer than filling them.
    """
    if not sys.platform.startswith("linux"):
        return
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):
        mmap_max, trim_threshold, never = -4, -1, 2**31 - 1
        libc.mallopt(mmap_max, 0)
        libc.mallopt(trim_threshold, never)


def synchronize(device: torch.device) -> None:
    """Wait for queued work, so that the clock can be read."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


def get_random_state(device: torch.device) -> dict[str, torch.Tensor]:
    """Return the states of the random generators that a run on `device` uses, by type of device."""
    states = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        states["cuda"] = torch.cuda.get_rng_state(device)
    return states


def set_random_state(states: Mapping[str, torch.Tensor], device: torch.device) -> None:
    """Restore the states from `get_random_state`; those of a different type of device are ignored."""
    torch.set_rng_state(states["cpu"])
    if device.type == "cuda" and "cuda" in states:
        torch.cuda.set_rng_state(states["cuda"], device)


def measure_free_memory(device: torch.device, root: Path = Path("/")) -> int | None:
    """Return the bytes that this process can still allocate on the GPU or in main memory; None if unknown.

    In main memory a control group (a container, a batch system) can have a lower limit than the computer. `root` is the
    directory that contains /proc and /sys.
    """
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    free, meminfo = list(_read_free_memory(root)), root / "proc" / "meminfo"
    if meminfo.exists():
        facts = dict(line.split(":", 1) for line in meminfo.read_text(encoding="ascii").splitlines() if ":" in line)
        if "MemAvailable" in facts:  # without swapping, according to Linux
            free.append(int(facts["MemAvailable"].split()[0]) * 1024)
    return min(free, default=None)


def measure_resident_memory() -> int:
    """Return the bytes of this process in main memory; 0 if unknown."""
    try:
        pages = Path("/proc/self/statm").read_text(encoding="ascii").split()[1]
    except OSError:
        return 0
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


def _read_cpu_quotas(root: Path) -> Iterator[float]:
    """Yield the processors that each control group of this process may use, as a fraction of time."""
    for group, version in _list_control_groups(root, "cpu"):
        files = ("cpu.max",) if version == 2 else ("cpu.cfs_quota_us", "cpu.cfs_period_us")
        try:
            quota, period = " ".join((group / file).read_text() for file in files).split()
        except OSError:
            continue  # inside a container the path can be that of the host
        if quota not in ("max", "-1"):
            yield int(quota) / int(period)


def _read_free_memory(root: Path) -> Iterator[int]:
    """Yield limit minus use of the memory of each control group of this process."""
    for group, version in _list_control_groups(root, "memory"):
        limit, usage, cache = (
            ("memory.max", "memory.current", "inactive_file")
            if version == 2
            else ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
        )
        try:
            most, used = (group / limit).read_text().strip(), int((group / usage).read_text())
            facts = dict(fact.split() for fact in (group / "memory.stat").read_text().splitlines())
        except OSError:
            continue  # inside a container the path can be that of the host
        if most != "max":
            # Files that were read stay in memory until it is needed.
            yield max(int(most) - used + int(facts.get(cache, 0)), 0)


def _list_control_groups(root: Path, controller: str) -> Iterator[tuple[Path, int]]:
    """Yield the folders of the control groups of this process and of their parents, with their version, 1 or 2."""
    membership = root / "proc" / "self" / "cgroup"
    if not membership.exists():
        return
    for line in membership.read_text(encoding="utf-8").splitlines():
        number, controllers, path = line.split(":", 2)
        is_second = number == "0" and not controllers
        if is_second or controller in controllers.split(","):
            mount = root / "sys" / "fs" / "cgroup" / ("" if is_second else controller)
            own = mount / path.strip("/")
            for group in (own, *(parent for parent in own.parents if parent.is_relative_to(mount))):
                yield group, 2 if is_second else 1
