import errno
import os
from pathlib import Path
from typing import Any

import pytest
import torch

from pixelwise.errors import CheckpointError
from pixelwise.progress import use_reporter
from pixelwise.training.checkpoint import (
    FORMAT,
    Checkpoint,
    compute_checkpoint_interval,
    load_checkpoint,
    save_checkpoint,
)
from pixelwise.training.run_dir import RunFolder
from support.folders import read_contents
from support.recorder import Recorder


def at(step: int) -> Checkpoint:
    return Checkpoint(
        step=step,
        seconds=1.5,
        model={"w": torch.full((2,), float(step))},
        average={"w": torch.zeros(2)},
        optimizer={"state": {0: {"step": torch.tensor(3.0)}}, "param_groups": [{"lr": 0.1, "betas": (0.9, 0.99)}]},
        random={"cpu": torch.get_rng_state()},
        parts=2,
        best_score=0.25,
        evaluations=1,
        finished=False,
    )


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    return RunFolder(tmp_path)


def test_without_a_checkpoint_there_is_none(run: RunFolder) -> None:
    assert load_checkpoint(run) is None


def test_a_saved_checkpoint_is_loaded(run: RunFolder) -> None:
    saved = at(7)
    save_checkpoint(run, saved)
    loaded = load_checkpoint(run)
    assert loaded is not None
    for name in Checkpoint.__dataclass_fields__:
        if name not in ("model", "average", "random", "optimizer"):
            assert getattr(loaded, name) == getattr(saved, name)
    assert torch.equal(loaded.model["w"], saved.model["w"])
    assert torch.equal(loaded.random["cpu"], saved.random["cpu"])
    assert loaded.optimizer == saved.optimizer


def test_the_last_two_are_kept(run: RunFolder) -> None:
    for step in (1, 2, 3):
        save_checkpoint(run, at(step))
    assert step_of(run) == 3
    run.last_checkpoint.unlink()
    assert step_of(run) == 2
    assert sorted(path.name for path in run.path.iterdir()) == ["previous.checkpoint"]


def step_of(run: RunFolder) -> int:
    checkpoint = load_checkpoint(run)
    assert checkpoint is not None
    return checkpoint.step


def test_a_kill_between_the_two_renames_loses_no_finished_checkpoint(
    run: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_checkpoint(run, at(1))

    def replace(path: Path, target: Path) -> None:
        if target == run.last_checkpoint:
            raise KeyboardInterrupt
        os.replace(path, target)

    monkeypatch.setattr(Path, "replace", replace)
    with pytest.raises(KeyboardInterrupt):
        save_checkpoint(run, at(2))
    assert step_of(run) == 1
    assert not run.last_checkpoint.exists()
    monkeypatch.undo()
    save_checkpoint(run, at(3))
    assert run.previous_checkpoint.exists()
    assert step_of(run) == 3


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 damaged", b"\x80\x04damaged"])
def test_a_damaged_last_checkpoint_is_logged_and_the_previous_one_used(run: RunFolder, content: bytes) -> None:
    save_checkpoint(run, at(1))
    save_checkpoint(run, at(2))
    run.last_checkpoint.write_bytes(content)
    assert step_of(run) == 1
    assert run.last_checkpoint.exists()  # only looked at
    recorder = Recorder()
    with use_reporter(recorder):
        checkpoint = load_checkpoint(run, resume=True)
    assert checkpoint is not None
    assert checkpoint.step == 1
    (line,) = recorder.messages
    assert "last.checkpoint cannot be read" in line
    assert line.endswith("Resuming from previous.checkpoint, step 1.")
    # The next save must not put the damaged one in the place of the whole one.
    save_checkpoint(run, at(3))
    run.last_checkpoint.unlink()
    assert step_of(run) == 1


def test_two_damaged_checkpoints_are_an_error(run: RunFolder) -> None:
    for path in (run.last_checkpoint, run.previous_checkpoint):
        path.write_bytes(b"damaged")
    with pytest.raises(
        CheckpointError, match=r"previous\.checkpoint cannot be read: it is damaged .* start a new run\.$"
    ):
        load_checkpoint(run)


def test_a_full_disk_harms_neither_checkpoint(run: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    save_checkpoint(run, at(1))
    save_checkpoint(run, at(2))
    before = read_contents(run.path)

    def full(file: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space left"):
        save_checkpoint(run, at(3))
    assert read_contents(run.path) == before


def test_saving_takes_two_percent_at_most() -> None:
    assert compute_checkpoint_interval(0.1, minimum=60) == 60
    for seconds in (2.0, 30.0):
        between = compute_checkpoint_interval(seconds, minimum=60)
        assert seconds / (seconds + between) == pytest.approx(0.02)


def test_a_cut_file_is_damaged(run: RunFolder) -> None:
    save_checkpoint(run, at(1))
    content = run.last_checkpoint.read_bytes()
    run.last_checkpoint.write_bytes(content[: len(content) // 2])
    with pytest.raises(CheckpointError, match=r"last\.checkpoint cannot be read: it is damaged .* start a new run\.$"):
        load_checkpoint(run)


def stored(run: RunFolder, values: dict[str, Any]) -> None:
    torch.save(values, run.last_checkpoint)


def test_another_format_is_refused(run: RunFolder) -> None:
    stored(run, {"format": 99})
    with pytest.raises(CheckpointError, match=r"has format .*, but this version reads 2\. Start a new run"):
        load_checkpoint(run)


def test_missing_values_are_an_error(run: RunFolder) -> None:
    stored(run, {"format": FORMAT, "step": 3})
    with pytest.raises(CheckpointError, match="cannot be read"):
        load_checkpoint(run)


class Intruder:
    """Makes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


def test_only_weights_are_unpickled(run: RunFolder) -> None:
    stored(run, {"format": FORMAT, "step": Intruder(run.path / "trace")})
    with pytest.raises(CheckpointError, match="cannot be read"):
        load_checkpoint(run)
    assert not (run.path / "trace").exists()
