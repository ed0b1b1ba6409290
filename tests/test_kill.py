"""A run that is killed at any instant and resumed ends as if it had never been stopped."""

import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pixelwise.api import train
from pixelwise.model_file import MODEL_FILE_NAME
from pixelwise.training.run_dir import RunFolder
from support.processes import waiting

Instant = dict[str, Any]
Kill = Callable[..., tuple[int, str]]

KILLED, TERMINATED, INTERRUPTED = -9, 143, 130

INSTANTS: list[Instant] = [
    {"call": "step", "number": 4, "when": "after"},
    {"call": "rename", "name": "last.checkpoint", "number": 3},
    {"call": "write", "name": MODEL_FILE_NAME, "when": "half"},
]
MORE_INSTANTS: list[Instant] = [
    {"call": "step", "number": 1},
    {"call": "step", "number": 6, "when": "after"},
    {"call": "average", "number": 2},
    {"call": "log", "number": 1},
    {"call": "log", "number": 1, "when": "after"},
    {"call": "log", "number": 2, "when": "after"},
    {"call": "evaluate", "number": 1},
    {"call": "evaluate", "number": 2, "when": "after"},
    {"call": "save", "number": 1},
    {"call": "save", "number": 4, "when": "after"},
    {"call": "write", "name": "config.yaml"},
    {"call": "rename", "name": "config.yaml", "when": "after"},
    {"call": "write", "name": "next.checkpoint", "number": 1, "when": "half"},
    {"call": "write", "name": "next.checkpoint", "number": 3, "when": "half"},
    {"call": "rename", "name": "next.checkpoint", "number": 2},
    {"call": "rename", "name": "next.checkpoint", "number": 2, "when": "after"},
    {"call": "rename", "name": "previous.checkpoint", "number": 1},
    {"call": "rename", "name": "last.checkpoint", "number": 1},
    {"call": "rename", "name": "last.checkpoint", "number": 6, "when": "after"},
    {"call": "rename", "name": MODEL_FILE_NAME, "number": 1, "when": "after"},
    {"call": "write", "name": "metrics.jsonl", "when": "half"},
    {"call": "finish"},
    {"call": "finish", "when": "after"},
    {"call": "write", "name": "report.html", "when": "half"},
]


def name_of(instant: Instant) -> str:
    return "-".join(str(value) for value in instant.values())


@pytest.fixture(scope="session")
def victim() -> Iterator[subprocess.Popen[str]]:
    """`victim.py`, waiting for requests."""
    with waiting("victim.py") as process:
        yield process


@pytest.fixture
def kill(victim: subprocess.Popen[str], streets: Path, tiny: dict[str, Any], tmp_path: Path) -> Kill:
    """`kill(run, instant)`: a `pixelwise train` that ends at an instant; its exit code and what it said."""

    def act(run: Path, instant: Instant, *more: str) -> tuple[int, str]:
        values = {**tiny["settings"], "training.checkpoint_interval_seconds": 1e-6}
        settings = [word for key, value in values.items() for word in ("--set", f"{key}={value}")]
        options = ["--steps", str(tiny["steps"]), "--deterministic", "--device", "cpu", "--precision", "fp32"]
        arguments = ["train", str(streets), "-o", str(run), *options, *settings, *more]
        request = {"arguments": arguments, "instant": instant, "output": str(tmp_path / "said.txt")}
        assert victim.stdin
        assert victim.stdout
        victim.stdin.write(json.dumps(request) + "\n")
        victim.stdin.flush()
        return int(victim.stdout.readline()), (tmp_path / "said.txt").read_text()

    return act


def require_as_never_stopped(run: Path, trained: Path, streets: Path, tiny: dict[str, Any]) -> None:
    settings = {**tiny["settings"], "training.checkpoint_interval_seconds": 1e-6}
    train(streets, run, **{**tiny, "settings": settings}, resume=True)
    assert (run / MODEL_FILE_NAME).read_bytes() == (trained / MODEL_FILE_NAME).read_bytes()
    assert validations(run) == validations(trained)
    steps = [line["step"] for line in RunFolder(run).read_metrics()]
    assert steps == sorted(steps)
    assert not list(run.glob(".*.part"))


def validations(run: Path) -> list[Any]:
    return [(line["step"], line["val"]) for line in RunFolder(run).read_metrics() if "val" in line]


@pytest.mark.parametrize(
    "instant", [*INSTANTS, *(pytest.param(one, marks=pytest.mark.slow) for one in MORE_INSTANTS)], ids=name_of
)
def test_a_run_killed_and_resumed_ends_in_the_same_model(
    kill: Kill, trained: Path, streets: Path, tiny: dict[str, Any], tmp_path: Path, instant: Instant
) -> None:
    code, said = kill(tmp_path / "run", instant)
    assert code == KILLED, said
    require_as_never_stopped(tmp_path / "run", trained, streets, tiny)


@pytest.mark.slow
def test_a_run_killed_again_and_again_ends_in_the_same_model(
    kill: Kill, trained: Path, streets: Path, tiny: dict[str, Any], tmp_path: Path
) -> None:
    """Each kill is in the sitting that the one before has made necessary."""
    kill(tmp_path / "run", INSTANTS[0])
    for _ in range(2):
        code, said = kill(tmp_path / "run", {"call": "rename", "name": "last.checkpoint"}, "--resume")
        assert code == KILLED, said
    require_as_never_stopped(tmp_path / "run", trained, streets, tiny)


@pytest.mark.parametrize(("signal", "expected"), [(15, TERMINATED), (2, INTERRUPTED)])
def test_a_run_that_is_asked_to_stop_saves_and_leaves(
    kill: Kill, trained: Path, streets: Path, tiny: dict[str, Any], tmp_path: Path, signal: int, expected: int
) -> None:
    run = tmp_path / "run"
    code, said = kill(run, {"call": "step", "number": 3, "signal": signal})
    assert code == expected, said
    words = " ".join(said.split())
    assert "stopped; resume with: pixelwise train" in words
    assert "Traceback" not in said
    assert RunFolder(run).last_checkpoint.exists()
    assert not RunFolder(run).model.exists()
    require_as_never_stopped(run, trained, streets, tiny)
