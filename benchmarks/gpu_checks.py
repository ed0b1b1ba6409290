"""Checks of training on one and on several GPUs: NCCL, bf16, FSDP, batch statistics, resuming, equal weights.

Each check trains a small network on generated street scenes with `pixelwise train` and compares checkpoints. The
results are printed as a table and written to results/gpu-checks.json. A check that needs more GPUs than there are is
listed as "not run".

    python benchmarks/gpu_checks.py [--checks NAME ...] [--output FILE]
"""

import argparse
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from machine import write_result

from pixelwise.config import Config
from pixelwise.data.synthetic import write_dataset
from pixelwise.training.checkpoint import Checkpoint, load_checkpoint
from pixelwise.training.run_dir import RunFolder

HERE = Path(__file__).resolve().parent
STEPS = 20
TOLERANCE = 1e-3
"""Largest difference of weights between 1 and 2 GPUs: sums in another order, over 20 steps of SGD in float32."""

SETTINGS: Mapping[str, Any] = {
    "data.crop_size": [64, 96],
    "network.base_channels": 8,
    "network.depth": 2,
    "network.normalization": "group",
    "optimizer.name": "sgd",
    "optimizer.lr": 0.05,
    "training.batch_size": 4,
    "training.num_evaluations": 2,
    "training.loggers": [],
}


class CheckFailedError(Exception):
    """A result is not as expected."""


@dataclass
class Lab:
    """A folder with a dataset and the runs on it; equal runs are trained once."""

    folder: Path

    def train(self, num_gpus: int, run: str = "", resume: bool = False, **settings: Any) -> Checkpoint:
        """Train on a number of GPUs; return the last checkpoint."""
        name = run or f"{num_gpus}-" + "-".join(f"{key}={value}" for key, value in sorted(settings.items()))
        folder = RunFolder(self.folder / "runs" / name)
        if resume or not folder.report.exists():
            finish(self.start(num_gpus, folder, resume=resume, **settings))
        return read_checkpoint(folder)

    def start(self, num_gpus: int, folder: RunFolder, resume: bool = False, **settings: Any) -> "subprocess.Popen[str]":
        """Start a training command."""
        config = self.folder / f"{folder.path.name}.yaml"
        changes = {key.replace("__", "."): value for key, value in settings.items()}
        config.write_text(Config().replace({**SETTINGS, **changes}).to_yaml(), encoding="utf-8")
        command = ["train", self.folder / "data", "-o", folder.path, "--config", config, "--steps", STEPS]
        command += ["--device", "cuda", "--devices", num_gpus, *(["--resume"] if resume else [])]
        words = [sys.executable, "-m", "pixelwise", *map(str, command)]
        return subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def finish(process: "subprocess.Popen[str]") -> str:
    """Wait for a command; return its output."""
    output, _ = process.communicate(timeout=600)
    if process.returncode:
        raise CheckFailedError(f"exit code {process.returncode}: {output[-500:]}")
    return output


def read_checkpoint(folder: RunFolder) -> Checkpoint:
    checkpoint = load_checkpoint(folder)
    if checkpoint is None:
        raise CheckFailedError(f"{folder.path} has no checkpoint")
    return checkpoint


def compare(first: Checkpoint, second: Checkpoint) -> float:
    """Return the largest difference of two checkpoints' weights."""
    if first.step != second.step:
        raise CheckFailedError(f"{first.step} and {second.step} steps")
    floats = [name for name, tensor in first.model.items() if tensor.is_floating_point()]
    return max(float((first.model[name] - second.model[name]).abs().max()) for name in floats)


def require_close(first: Checkpoint, second: Checkpoint, tolerance: float = TOLERANCE) -> str:
    difference = compare(first, second)
    if not difference <= tolerance:
        raise CheckFailedError(f"weights differ by {difference:.2g}, more than {tolerance:g}")
    return f"weights differ by {difference:.2g}"


def check_one_gpu(lab: Lab) -> str:
    """One GPU trains, evaluates and reports."""
    return f"{lab.train(1).step} steps"


def check_bf16(lab: Lab) -> str:
    """bf16 on one GPU gives finite weights near those of float32."""
    return require_close(lab.train(1), lab.train(1, training__precision="bf16"), tolerance=0.1)


def check_compile(lab: Lab) -> str:
    """A compiled network learns the same."""
    return require_close(lab.train(1), lab.train(1, training__compile=True), tolerance=1e-2)


def check_resume(lab: Lab) -> str:
    """A run that is stopped by SIGTERM continues to the weights of an uninterrupted one."""
    return resume_after_stop(lab, 1)


def check_nccl(lab: Lab) -> str:
    """Two GPUs come to the weights of one."""
    return require_close(lab.train(1), lab.train(2))


def check_nccl_bf16(lab: Lab) -> str:
    """Two GPUs in bf16 come to the weights of one in bf16."""
    bf16: dict[str, Any] = {"training__precision": "bf16"}
    return require_close(lab.train(1, **bf16), lab.train(2, **bf16), tolerance=0.1)


def check_fsdp(lab: Lab) -> str:
    """Two GPUs with sharded weights come to the weights of one."""
    return require_close(lab.train(1), lab.train(2, training__sharding="fsdp"))


def check_sync_batch_norm(lab: Lab) -> str:
    """With synchronized batch statistics, two GPUs come to the weights of one."""
    batch: dict[str, Any] = {"network__normalization": "batch"}
    return require_close(lab.train(1, **batch), lab.train(2, training__sync_batch_norm=True, **batch))


def check_two_gpu_resume(lab: Lab) -> str:
    """A run on two GPUs that is stopped continues to the weights of an uninterrupted one."""
    return resume_after_stop(lab, 2)


def check_fsdp_resume(lab: Lab) -> str:
    """A sharded run that is stopped continues to the weights of an uninterrupted one."""
    return resume_after_stop(lab, 2, training__sharding="fsdp")


def resume_after_stop(lab: Lab, num_gpus: int, **settings: Any) -> str:
    """Stop a run after its first metrics, resume it, and compare it with an uninterrupted one."""
    folder = RunFolder(lab.folder / "runs" / f"stopped-{num_gpus}-{len(settings)}")
    process = lab.start(num_gpus, folder, **settings)
    while process.poll() is None and not (folder.metrics.exists() and folder.metrics.read_text()):
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=600)
    stopped = load_checkpoint(folder)
    resumed = lab.train(num_gpus, run=folder.path.name, resume=True, **settings)
    at = stopped.step if stopped else 0
    return f"stopped after step {at}, {require_close(lab.train(num_gpus, **settings), resumed, tolerance=1e-4)}"


class Check(NamedTuple):
    """A check and the number of GPUs that it needs."""

    function: Callable[[Lab], str]
    num_gpus: int


CHECKS: Mapping[str, Check] = {
    "one-gpu": Check(check_one_gpu, 1),
    "bf16": Check(check_bf16, 1),
    "compile": Check(check_compile, 1),
    "resume": Check(check_resume, 1),
    "nccl": Check(check_nccl, 2),
    "nccl-bf16": Check(check_nccl_bf16, 2),
    "fsdp": Check(check_fsdp, 2),
    "sync-batch-norm": Check(check_sync_batch_norm, 2),
    "resume-two-gpus": Check(check_two_gpu_resume, 2),
    "resume-fsdp": Check(check_fsdp_resume, 2),
}


def run_check(name: str, lab: Lab, num_gpus: int) -> dict[str, Any]:
    """Run one check; return a row of the table."""
    check = CHECKS[name]
    row = {"check": name, "expected": (check.function.__doc__ or "").strip(), "gpus": check.num_gpus}
    if num_gpus < check.num_gpus:
        return {**row, "result": "not run", "detail": f"needs {check.num_gpus} GPU(s), found {num_gpus}"}
    start = time.monotonic()
    try:
        result, detail = "passed", check.function(lab)
    except (CheckFailedError, subprocess.TimeoutExpired) as error:
        result, detail = "failed", str(error)
    return {**row, "result": result, "detail": detail, "seconds": round(time.monotonic() - start, 1)}


def main(arguments: list[str] | None = None) -> int:
    """Run the checks; return 1 if one fails."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checks", nargs="+", choices=CHECKS, default=list(CHECKS), help="default: all")
    parser.add_argument("--output", type=Path, default=HERE / "results" / "gpu-checks.json", help="JSON file to write")
    options = parser.parse_args(arguments)
    num_gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        lab = Lab(Path(folder))
        if num_gpus:
            write_dataset(lab.folder / "data", "streets", num_train=16, num_val=4, num_test=1, size=(64, 96), seed=0)
        for name in options.checks:
            rows.append(run_check(name, lab, num_gpus))
            print(f"{name:16} {rows[-1]['result']:8} {rows[-1]['detail']}", flush=True)
    write_result(options.output, {"num_gpus": num_gpus, "checks": rows})
    return 1 if any(row["result"] == "failed" for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
