"""Commands about the installation: info, config."""

import platform
import sys
from typing import Annotated, Any

from pixelwise.api.options import Option
from pixelwise.arguments import check_arguments
from pixelwise.config import Config, ConfigKey, describe_keys
from pixelwise.version import __version__


def info() -> dict[str, str]:
    """Return versions, kernels, devices and threads, for bug reports.

    Returns:
        Name → value.

    Example:
        >>> sorted(pw.info())[:3]
        ['bf16', 'device', 'distributed']
    """
    import torch
    from torch import distributed

    from pixelwise.devices import choose_device, has_fast_bf16
    from pixelwise.ops import kernels

    device = choose_device("auto")
    backends = {"gloo": distributed.is_gloo_available, "nccl": distributed.is_nccl_available}
    available = [name for name, is_there in backends.items() if distributed.is_available() and is_there()]
    packages = ("torch", "torchvision", "timm", "numpy", "pillow", "opencv-python-headless")
    return {
        "python": sys.version.split()[0],
        "platform": platform.platform(),
        "pixelwise": __version__,
        **{name: _find_version(name) for name in packages},
        "device": str(device),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else "none",
        "bf16": "native" if has_fast_bf16(device) else "not native",
        "threads": str(torch.get_num_threads()),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "distributed": ", ".join(available) or "no",
        "kernels": kernels.describe(device),
    }


def _find_version(package: str) -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


@check_arguments
def describe_config(
    *, json_schema: Annotated[bool, Option(help="JSON schema of config.yaml instead of a table.")] = False
) -> list[ConfigKey] | dict[str, Any]:
    """Return the keys of a config with default, legal values and documentation.

    Args:
        json_schema: Return a JSON schema instead, as `Config.json_schema`.
    """
    return Config.json_schema() if json_schema else describe_keys()
