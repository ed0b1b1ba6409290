"""Describe the machine of a measurement, for every JSON file in `results/`."""

import json
import platform
import subprocess
from pathlib import Path
from typing import Any

import torch

import pixelwise


def describe_machine() -> dict[str, Any]:
    """Return processor, cores, memory, accelerator, versions and commit."""
    commit = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, cwd=Path(__file__).parent)
    return {
        "processor": _processor(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "versions": {**pixelwise.info(), "platform": f"{platform.system()} {platform.machine()}"},
        "commit": commit.stdout.strip(),
    }


def write_result(path: Path, values: dict[str, Any]) -> None:
    """Write one JSON file with the result and the machine."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({**values, "machine": describe_machine()}, indent=2) + "\n", encoding="utf-8")
    print(f"written: {path}")


def _processor() -> str:
    """Return model, family and number of cores, as far as the system reports them."""
    facts: dict[str, str] = {}
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text(encoding="utf-8").splitlines():
            key, _, value = line.partition(":")
            facts.setdefault(key.strip(), value.strip())
    name = facts.get("model name", platform.processor())
    return f"{name}, family {facts.get('cpu family', '?')}, {torch.get_num_threads()} threads"
