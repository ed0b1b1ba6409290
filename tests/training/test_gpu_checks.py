"""`benchmarks/gpu_checks.py` on a machine without GPUs, and its comparison of weights."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "gpu_checks.py"


def run_script(*arguments: object) -> "subprocess.CompletedProcess[str]":
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
    command = [sys.executable, str(SCRIPT), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300, check=False)


def test_without_a_gpu_every_check_is_listed_as_not_run(tmp_path: Path) -> None:
    ended = run_script("--output", tmp_path / "checks.json")
    assert ended.returncode == 0, ended.stderr
    written = json.loads((tmp_path / "checks.json").read_text())
    assert written["num_gpus"] == 0
    names = [row["check"] for row in written["checks"]]
    assert {"nccl", "fsdp", "bf16", "sync-batch-norm", "resume", "resume-two-gpus"} <= set(names)
    assert {row["result"] for row in written["checks"]} == {"not run"}
    assert all(row["expected"] for row in written["checks"])
    for name in names:
        assert any(line.split()[:3] == [name, "not", "run"] for line in ended.stdout.splitlines())


def test_weights_that_differ_fail_a_check(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(SCRIPT.parent))
    import gpu_checks
    import torch

    from pixelwise.training.checkpoint import Checkpoint

    def make(value: float) -> Checkpoint:
        tensors = {"weight": torch.tensor([value]), "count": torch.tensor([3])}
        return Checkpoint(
            step=1,
            seconds=0.0,
            model=tensors,
            average={},
            optimizer={},
            random={},
            parts=1,
            best_score=0.0,
            evaluations=0,
            finished=True,
        )

    assert gpu_checks.require_close(make(1.0), make(1.0005)) == "weights differ by 0.0005"
    with pytest.raises(gpu_checks.CheckFailedError, match=r"weights differ by 0\.5, more than 0\.001"):
        gpu_checks.require_close(make(1.0), make(1.5))
    with pytest.raises(gpu_checks.CheckFailedError, match="weights differ by nan"):
        gpu_checks.require_close(make(1.0), make(float("nan")))
