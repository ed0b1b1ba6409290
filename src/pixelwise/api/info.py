"""`pixelwise info`: versions, devices and threads."""

import platform
import sys
from importlib.metadata import PackageNotFoundError, version

import torch
from torch import distributed

from pixelwise.devices import choose_device, has_fast_bf16
from pixelwise.ops import kernels
from pixelwise.version import __version__


def info() -> dict[str, str]:
    """Versions, devices and threads: what a bug report needs."""
    place = choose_device("auto")
    names = ("torch", "torchvision", "timm", "numpy", "pillow", "opencv-python-headless")
    return {
        "python": sys.version.split()[0],
        "platform": platform.platform(),
        "pixelwise": __version__,
        **{name: _installed(name) for name in names},
        "device": str(place),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else "none",
        "bf16": "native" if has_fast_bf16(place) else "not native",
        "threads": str(torch.get_num_threads()),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "distributed": ", ".join(_backends()) or "no",
        "kernels": kernels.describe(place),
    }


def _backends() -> list[str]:
    """Through which processes can train together."""
    there = {"gloo": distributed.is_gloo_available, "nccl": distributed.is_nccl_available}
    return [name for name, is_there in there.items() if distributed.is_available() and is_there()]


def _installed(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"
