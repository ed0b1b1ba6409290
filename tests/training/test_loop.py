import os
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from pixelwise.errors import CheckpointError, PixelwiseError, RequestError
from pixelwise.model_file import load_model
from pixelwise.training import loop as home
from pixelwise.training.checkpoint import load_checkpoint
from pixelwise.training.loop import make_pace, train_model, uninterrupted
from pixelwise.training.run_folder import RunFolder
from pixelwise.training.trainer import Job, Trainer

MakeJob = Callable[..., Job]
OPTIMIZERS = ("adamw", "sgd", "muon")


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    return RunFolder(tmp_path / "run")


def steps_taken(run: RunFolder) -> int:
    checkpoint = load_checkpoint(run)
    assert checkpoint is not None
    return checkpoint.step


def before_step(number: int, act: Callable[[], Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Does something at the start of the step after `number` others."""
    step, taken = Trainer.step, []

    def watched(self: Trainer, *arguments: Any) -> Tensor:
        if len(taken) == number:
            act()
        taken.append(1)
        return step(self, *arguments)

    monkeypatch.setattr(Trainer, "step", watched)


def press_ctrl_c() -> None:
    os.kill(os.getpid(), signal.SIGINT)


def fail() -> None:
    raise RuntimeError("pulled the plug")


@pytest.fixture(scope="session")
def uninterrupted_runs(make_job: MakeJob, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The model file of a run from start to end, for each optimizer."""
    files = {}
    for name in OPTIMIZERS:
        folder = RunFolder(tmp_path_factory.mktemp("whole") / name)
        train_model(make_job({"optimizer.name": name}), folder)
        files[name] = folder.model.read_bytes()
    return files


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_run_resumed_after_ctrl_c_ends_in_the_same_model(
    make_job: MakeJob,
    run: RunFolder,
    monkeypatch: pytest.MonkeyPatch,
    uninterrupted_runs: dict[str, bytes],
    name: str,
) -> None:
    job = make_job({"optimizer.name": name})
    with monkeypatch.context() as patch:
        before_step(2, press_ctrl_c, patch)
        with pytest.raises(KeyboardInterrupt):
            train_model(job, run)
    assert steps_taken(run) == 3  # the step it was pressed in is finished first
    train_model(job, run, resume=True)
    assert run.model.read_bytes() == uninterrupted_runs[name]


def test_a_run_resumed_after_a_kill_ends_in_the_same_model(
    make_job: MakeJob, run: RunFolder, monkeypatch: pytest.MonkeyPatch, uninterrupted_runs: dict[str, bytes]
) -> None:
    job = make_job({"training.checkpoint_seconds": 1e-6})
    for taken in (5, 0):  # the second time before it has taken a step
        with monkeypatch.context() as patch:
            before_step(taken, fail, patch)
            with pytest.raises(RuntimeError, match="pulled the plug"):
                train_model(job, run, resume=True)
        assert steps_taken(run) == 5
    train_model(job, run, resume=True)
    assert run.model.read_bytes() == uninterrupted_runs["adamw"]


@pytest.mark.parametrize("evaluation", [0, 1])
def test_a_run_interrupted_while_it_evaluates_ends_in_the_same_model(
    make_job: MakeJob,
    run: RunFolder,
    monkeypatch: pytest.MonkeyPatch,
    uninterrupted_runs: dict[str, bytes],
    evaluation: int,
) -> None:
    evaluate, done = home.evaluate_and_keep_best, []

    def interrupted(*arguments: Any) -> Any:
        scores = evaluate(*arguments)
        if len(done) == evaluation:
            raise KeyboardInterrupt
        done.append(1)
        return scores

    with monkeypatch.context() as patch:
        patch.setattr(home, "evaluate_and_keep_best", interrupted)
        with pytest.raises(KeyboardInterrupt):
            train_model(make_job(), run)
    train_model(make_job(), run, resume=True)
    assert run.model.read_bytes() == uninterrupted_runs["adamw"]
    evaluated = [line["step"] for line in run.read_metrics() if "val" in line]
    assert evaluated == [3, 6]


def test_a_run_killed_before_its_first_checkpoint_starts_again(
    make_job: MakeJob, run: RunFolder, monkeypatch: pytest.MonkeyPatch, uninterrupted_runs: dict[str, bytes]
) -> None:
    with monkeypatch.context() as patch:
        before_step(1, fail, patch)
        with pytest.raises(RuntimeError, match="pulled the plug"):
            train_model(make_job(), run)
    assert load_checkpoint(run) is None
    train_model(make_job(), run, resume=True)
    assert run.model.read_bytes() == uninterrupted_runs["adamw"]


def test_a_seed_decides_the_model(make_job: MakeJob, run: RunFolder, uninterrupted_runs: dict[str, bytes]) -> None:
    train_model(make_job({"training.seed": 1}), run)
    assert run.model.read_bytes() != uninterrupted_runs["adamw"]


def test_training_learns_and_keeps_the_best(make_job: MakeJob, run: RunFolder) -> None:
    job = make_job({"training.steps": 40, "optimizer.lr": 0.02, "training.evaluations": 4})
    scored = train_model(job, run)
    losses = [line["loss"] for line in run.read_metrics() if "loss" in line]
    assert losses[-1] < 0.8 * losses[0]
    best = max(line["val"]["mean_iou"] for line in run.read_metrics() if "val" in line)
    assert scored.tally.scores(job.spec.classes.names)["mean_iou"] == pytest.approx(best)
    assert load_model(run.model)[1].scores["mean_iou"] == pytest.approx(best)


def test_more_evaluations_than_steps_are_one_a_step(make_job: MakeJob, run: RunFolder) -> None:
    train_model(make_job({"training.steps": 2, "training.evaluations": 9}), run)
    assert [line["step"] for line in run.read_metrics() if "val" in line] == [1, 2]


IMPATIENT = {"training.steps": 12, "training.evaluations": 12, "training.patience": 2, "optimizer.lr": 1e-9}
"""Nothing is learned, so nothing gets better."""


def test_patience_ends_a_run_early_and_it_finishes_as_usual(make_job: MakeJob, run: RunFolder) -> None:
    scored = train_model(make_job({**IMPATIENT, "optimizer.ema": 0.0}), run)
    evaluated = [line["val"]["mean_iou"] for line in run.read_metrics() if "val" in line]
    assert len(evaluated) < 12
    assert max(evaluated[:-2]) >= max(evaluated[-2:])
    checkpoint = load_checkpoint(run)
    assert checkpoint is not None
    assert checkpoint.finished
    assert scored.predictor.spec.scores["mean_iou"] == pytest.approx(max(evaluated))


def test_a_run_resumed_counts_its_evaluations_as_if_never_stopped(
    make_job: MakeJob, run: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = RunFolder(tmp_path / "whole")
    train_model(make_job(IMPATIENT), whole)
    steps = steps_taken(whole)
    for taken in (1, steps - 1):
        interrupted_after_steps(make_job(IMPATIENT), run, taken, monkeypatch)
    train_model(make_job(IMPATIENT), run, resume=True)
    assert steps_taken(run) == steps
    assert run.model.read_bytes() == whole.model.read_bytes()


def test_a_run_stopped_after_it_ended_early_takes_no_further_step(
    make_job: MakeJob, run: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(home, "score_best", lambda *arguments: fail())
        with pytest.raises(RuntimeError, match="pulled the plug"):
            train_model(make_job(IMPATIENT), run)
    steps = steps_taken(run)
    assert steps < 12
    train_model(make_job(IMPATIENT), run, resume=True)
    assert steps_taken(run) == steps


def interrupted_after_steps(job: Job, run: RunFolder, steps: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Goes on with a run until it has taken so many steps."""
    checkpoint = load_checkpoint(run)
    with monkeypatch.context() as patch:
        before_step(steps - (checkpoint.step if checkpoint else 0) - 1, press_ctrl_c, patch)
        with pytest.raises(KeyboardInterrupt):
            train_model(job, run, resume=True)


def test_a_loss_that_is_no_number_ends_the_run(
    make_job: MakeJob, run: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Trainer, "step", lambda self, batch, progress: torch.tensor(torch.nan))
    with pytest.raises(PixelwiseError, match=r"the loss is nan at step [123]; lower the learning rate"):
        train_model(make_job(), run)
    assert not run.model.exists()


def test_a_run_without_a_length_is_an_error(make_job: MakeJob, run: RunFolder) -> None:
    with pytest.raises(RequestError, match=r"a run needs training\.steps or training\.budget_seconds"):
        train_model(make_job({"training.steps": None}), run)


def test_a_budget_that_is_already_spent_is_an_error(make_job: MakeJob, run: RunFolder) -> None:
    job = make_job({"training.steps": None, "training.budget_seconds": 5})
    with pytest.raises(RequestError, match="the budget of 5 s ends before training could start; give more"):
        train_model(job, run, deadline=time.monotonic())


def test_a_budget_leaves_time_for_the_end(make_job: MakeJob, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(home, "time_to_finish", lambda trainer: 30.0)
    trainer = Trainer(make_job({"training.steps": None, "training.budget_seconds": 100}))
    pace = make_pace(trainer, time.monotonic() + 100, None)
    assert pace.seconds == pytest.approx(70, abs=1)


def test_a_budget_ends_in_a_scored_model(make_job: MakeJob, run: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(home, "time_to_finish", lambda trainer: 0.0)
    job = make_job({"training.steps": None, "training.budget_seconds": 1})
    train_model(job, run, deadline=time.monotonic() + 1)
    checkpoint = load_checkpoint(run)
    assert checkpoint is not None
    assert checkpoint.finished
    assert list(run.read_metrics())[-1]["progress"] == 1


def test_other_training_images_are_refused(make_job: MakeJob, run: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    interrupted_after_one_step(make_job(), run, monkeypatch)
    job = make_job()
    job = replace(job, spec=replace(job.spec, mean=(1.0, 2.0, 3.0)))
    with pytest.raises(CheckpointError, match=r"the training images are not those .* \(their mean differs\)"):
        train_model(job, run, resume=True)


def test_another_network_is_refused(make_job: MakeJob, run: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    interrupted_after_one_step(make_job(), run, monkeypatch)
    with pytest.raises(CheckpointError, match="the checkpoint does not fit the network"):
        train_model(make_job({"network.width": 5}), run, resume=True)


def interrupted_after_one_step(job: Job, run: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        before_step(0, press_ctrl_c, patch)
        with pytest.raises(KeyboardInterrupt):
            train_model(job, run)


def test_ctrl_c_waits_for_the_end_of_a_block() -> None:
    done = []

    def block() -> None:
        with uninterrupted():
            press_ctrl_c()
            done.append("all of it")

    with pytest.raises(KeyboardInterrupt):
        block()
    assert done == ["all of it"]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_an_error_in_the_block_goes_before_ctrl_c() -> None:
    def block() -> None:
        with uninterrupted():
            press_ctrl_c()
            fail()

    with pytest.raises(RuntimeError, match="pulled the plug"):
        block()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_handler_of_the_caller_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    heard: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, frame: heard.append(number))
    try:
        with uninterrupted():
            press_ctrl_c()
            assert heard == [signal.SIGINT]
    finally:
        signal.signal(signal.SIGINT, before)


def test_training_in_a_thread_is_possible() -> None:
    done = []

    def block() -> None:
        with uninterrupted():
            done.append(True)

    thread = threading.Thread(target=block)
    thread.start()
    thread.join()
    assert done == [True]
