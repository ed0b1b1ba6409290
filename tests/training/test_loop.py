import os
import signal
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from pixelwise.errors import CheckpointError, InvalidArgumentError, TrainingError
from pixelwise.model_file import load_model
from pixelwise.progress import use_reporter
from pixelwise.training import loop as home
from pixelwise.training import trainer as trainer_home
from pixelwise.training.checkpoint import load_checkpoint
from pixelwise.training.distributed import World
from pixelwise.training.divergence import load_failing_step
from pixelwise.training.loop import compute_training_seconds, fit
from pixelwise.training.run_dir import RunFolder
from pixelwise.training.signals import SignalGuard
from pixelwise.training.trainer import Trainer
from pixelwise.training.validation import ScoredModel
from support.recorder import Recorder

MakeTrainer = Callable[..., Trainer]
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


def train_model(trainer: Trainer, run: RunFolder, **options: Any) -> ScoredModel:
    """Train a new trainer like this one."""
    return fit(trainer.rebuild(), run, **options)


def fail() -> None:
    raise RuntimeError("pulled the plug")


@pytest.fixture(scope="session")
def uninterrupted_runs(make_trainer: MakeTrainer, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The model file of a run from start to end, for each optimizer."""
    files = {}
    for name in OPTIMIZERS:
        folder = RunFolder(tmp_path_factory.mktemp("whole") / name)
        train_model(make_trainer({"optimizer.name": name}), folder)
        files[name] = folder.model.read_bytes()
    return files


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_run_resumed_after_ctrl_c_ends_in_the_same_model(
    make_trainer: MakeTrainer,
    run: RunFolder,
    monkeypatch: pytest.MonkeyPatch,
    uninterrupted_runs: dict[str, bytes],
    name: str,
) -> None:
    trainer = make_trainer({"optimizer.name": name})
    with monkeypatch.context() as patch:
        before_step(2, press_ctrl_c, patch)
        with pytest.raises(KeyboardInterrupt):
            train_model(trainer, run)
    assert steps_taken(run) == 3  # the step it was pressed in is finished first
    train_model(trainer, run, resume=True)
    assert run.model.read_bytes() == uninterrupted_runs[name]


def test_a_run_resumed_after_a_kill_ends_in_the_same_model(
    make_trainer: MakeTrainer, run: RunFolder, monkeypatch: pytest.MonkeyPatch, uninterrupted_runs: dict[str, bytes]
) -> None:
    trainer = make_trainer({"training.checkpoint_interval_seconds": 1e-6})
    monkeypatch.setattr(home, "compute_checkpoint_interval", lambda *arguments: 0.0)
    for taken in (5, 0):  # the second time before it has taken a step
        with monkeypatch.context() as patch:
            before_step(taken, fail, patch)
            with pytest.raises(RuntimeError, match="pulled the plug"):
                train_model(trainer, run, resume=True)
        assert steps_taken(run) == 5
    train_model(trainer, run, resume=True)
    assert run.model.read_bytes() == uninterrupted_runs["adamw"]


@pytest.mark.parametrize("evaluation", [0, 1])
def test_a_run_interrupted_while_it_evaluates_ends_in_the_same_model(
    make_trainer: MakeTrainer,
    run: RunFolder,
    monkeypatch: pytest.MonkeyPatch,
    uninterrupted_runs: dict[str, bytes],
    evaluation: int,
) -> None:
    evaluate, done = home.score_and_keep_best, []

    def interrupted(*arguments: Any) -> Any:
        scores = evaluate(*arguments)
        if len(done) == evaluation:
            raise KeyboardInterrupt
        done.append(1)
        return scores

    with monkeypatch.context() as patch:
        patch.setattr(home, "score_and_keep_best", interrupted)
        with pytest.raises(KeyboardInterrupt):
            train_model(make_trainer(), run)
    train_model(make_trainer(), run, resume=True)
    assert run.model.read_bytes() == uninterrupted_runs["adamw"]
    evaluated = [line["step"] for line in run.read_metrics() if "val" in line]
    assert evaluated == [3, 6]


def test_a_run_killed_before_its_first_checkpoint_starts_again(
    make_trainer: MakeTrainer, run: RunFolder, monkeypatch: pytest.MonkeyPatch, uninterrupted_runs: dict[str, bytes]
) -> None:
    with monkeypatch.context() as patch:
        before_step(1, fail, patch)
        with pytest.raises(RuntimeError, match="pulled the plug"):
            train_model(make_trainer(), run)
    assert load_checkpoint(run) is None
    train_model(make_trainer(), run, resume=True)
    assert run.model.read_bytes() == uninterrupted_runs["adamw"]


def test_a_seed_decides_the_model(
    make_trainer: MakeTrainer, run: RunFolder, uninterrupted_runs: dict[str, bytes]
) -> None:
    train_model(make_trainer({"training.seed": 1}), run)
    assert run.model.read_bytes() != uninterrupted_runs["adamw"]


def test_training_learns_and_keeps_the_best(make_trainer: MakeTrainer, run: RunFolder) -> None:
    trainer = make_trainer({"training.steps": 40, "optimizer.lr": 0.02, "training.num_evaluations": 4})
    scored = train_model(trainer, run)
    losses = [line["loss"] for line in run.read_metrics() if "loss" in line]
    assert losses[-1] < 0.8 * losses[0]
    best = max(line["val"]["mean_iou"] for line in run.read_metrics() if "val" in line)
    assert scored.counts.compute_scores(trainer.spec.classes.names)["mean_iou"] == pytest.approx(best)
    assert load_model(run.model)[1].scores["mean_iou"] == pytest.approx(best)


def test_more_evaluations_than_steps_are_one_a_step(make_trainer: MakeTrainer, run: RunFolder) -> None:
    train_model(make_trainer({"training.steps": 2, "training.num_evaluations": 9}), run)
    assert [line["step"] for line in run.read_metrics() if "val" in line] == [1, 2]


IMPATIENT = {
    "training.steps": 12,
    "training.num_evaluations": 12,
    "training.early_stopping_patience": 2,
    "optimizer.lr": 1e-9,
}
"""Nothing is learned, so nothing gets better."""


def test_patience_ends_a_run_early_and_it_finishes_as_usual(make_trainer: MakeTrainer, run: RunFolder) -> None:
    scored = train_model(make_trainer({**IMPATIENT, "optimizer.ema": 0.0}), run)
    evaluated = [line["val"]["mean_iou"] for line in run.read_metrics() if "val" in line]
    assert len(evaluated) < 12
    assert max(evaluated[:-2]) >= max(evaluated[-2:])
    checkpoint = load_checkpoint(run)
    assert checkpoint is not None
    assert checkpoint.finished
    assert scored.predictor.spec.scores["mean_iou"] == pytest.approx(max(evaluated))


def test_a_run_resumed_counts_its_evaluations_as_if_never_stopped(
    make_trainer: MakeTrainer, run: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = RunFolder(tmp_path / "whole")
    train_model(make_trainer(IMPATIENT), whole)
    steps = steps_taken(whole)
    for taken in (1, steps - 1):
        interrupted_after_steps(make_trainer(IMPATIENT), run, taken, monkeypatch)
    train_model(make_trainer(IMPATIENT), run, resume=True)
    assert steps_taken(run) == steps
    assert run.model.read_bytes() == whole.model.read_bytes()


def test_a_run_stopped_after_it_ended_early_takes_no_further_step(
    make_trainer: MakeTrainer, run: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(home, "score_best_model", lambda *arguments: fail())
        with pytest.raises(RuntimeError, match="pulled the plug"):
            train_model(make_trainer(IMPATIENT), run)
    steps = steps_taken(run)
    assert steps < 12
    train_model(make_trainer(IMPATIENT), run, resume=True)
    assert steps_taken(run) == steps


def interrupted_after_steps(trainer: Trainer, run: RunFolder, steps: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Goes on with a run until it has taken so many steps."""
    checkpoint = load_checkpoint(run)
    with monkeypatch.context() as patch:
        before_step(steps - (checkpoint.step if checkpoint else 0) - 1, press_ctrl_c, patch)
        with pytest.raises(KeyboardInterrupt):
            train_model(trainer, run, resume=True)


def spoil(trainer: Trainer, step: int, monkeypatch: pytest.MonkeyPatch, *, only_gradient: bool = False) -> None:
    """The loss of a step is no number, or only its gradient, whenever it is taken."""
    accumulate_gradients, bad = trainer_home.accumulate_gradients, trainer.batches.make(step - 1).images

    def spoiled(model: Any, parts: Any, *rest: Any, **more: Any) -> Tensor:
        loss = accumulate_gradients(model, parts, *rest, **more)
        if not torch.equal(parts[0].images, bad):
            return loss
        next(model.parameters()).grad.fill_(torch.nan)
        return loss if only_gradient else loss * torch.nan

    monkeypatch.setattr(trainer_home, "accumulate_gradients", spoiled)


@pytest.mark.parametrize("only_gradient", [False, True])
@pytest.mark.parametrize("saved", [False, True])
def test_a_nan_loss_ends_the_run_and_its_step_is_saved(
    make_trainer: MakeTrainer, run: RunFolder, monkeypatch: pytest.MonkeyPatch, saved: bool, only_gradient: bool
) -> None:
    trainer = make_trainer(
        {"training.checkpoint_interval_seconds": 1e-6 if saved else 60, "training.num_evaluations": 1}
    )
    monkeypatch.setattr(home, "compute_checkpoint_interval", lambda *arguments: 0.0)
    with monkeypatch.context() as patch:
        before_step(3, press_ctrl_c, patch)
        with pytest.raises(KeyboardInterrupt):
            train_model(trainer, RunFolder(run.path.parent / "until"))
    with monkeypatch.context() as patch:
        spoil(trainer, 5, patch, only_gradient=only_gradient)
        with pytest.raises(TrainingError, match=r"lower learning rate .* of step 5 and the state before it are"):
            train_model(trainer, run)
    run.config.write_text(trainer.config.to_yaml())
    bad = load_failing_step(run.path)
    assert (bad.step, bad.progress) == (5, 4 / 6)
    assert torch.equal(bad.batch.images, trainer.batches.make(4).images)
    sound = load_checkpoint(RunFolder(run.path.parent / "until"))
    assert sound is not None
    assert sound.step == 4
    for name, tensor in bad.model.state_dict().items():
        assert torch.equal(tensor, sound.model[name]), name
    assert bad.model.training
    assert not run.model.exists()
    assert (steps_taken(run) == 4) if saved else not run.last_checkpoint.exists()


def test_without_a_bad_step_there_is_none_to_load(run: RunFolder) -> None:
    with pytest.raises(CheckpointError, match=r"diverged\.checkpoint cannot be read: it does not exist"):
        load_failing_step(run.path)


def test_a_failing_step_that_cannot_be_reproduced_is_reported(
    make_trainer: MakeTrainer, run: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    step, taken = Trainer.step, []

    def once(self: Trainer, *arguments: Any) -> Tensor:
        taken.append(1)
        return step(self, *arguments) * (torch.nan if len(taken) == 2 else 1)

    monkeypatch.setattr(Trainer, "step", once)
    with pytest.raises(TrainingError, match="since the last checkpoint had no error: --resume may get further"):
        train_model(make_trainer(), run)
    assert not run.diverged.exists()


def test_too_little_memory_takes_batches_in_parts_and_so_does_a_resumed_run(
    make_trainer: MakeTrainer, run: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    accumulate_gradients, parts_seen = trainer_home.accumulate_gradients, []

    def scarce(model: Any, parts: Any, *rest: Any, **more: Any) -> Tensor:
        if len(parts[0].images) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB.")
        parts_seen.append(len(parts))
        if len(parts_seen) == 3:
            press_ctrl_c()
        return accumulate_gradients(model, parts, *rest, **more)

    monkeypatch.setattr(trainer_home, "accumulate_gradients", scarce)
    heard = Recorder()
    with pytest.raises(KeyboardInterrupt), use_reporter(heard):
        train_model(make_trainer(), run)
    with use_reporter(heard):
        train_model(make_trainer(), run, resume=True)
    assert parts_seen == [2] * 6
    (line,) = [line for line in heard.messages if "Out of memory" in line]
    assert "each batch of 4 images is now divided into 2 parts of at most 2" in line
    assert "(training.gradient_accumulation_steps=2)" in line
    assert "Batch normalization now sees 2 images at a time" in line


def test_memory_too_small_for_one_image_is_an_error(
    make_trainer: MakeTrainer, run: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none_left(*arguments: Any, **more: Any) -> Tensor:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB.")

    monkeypatch.setattr(trainer_home, "accumulate_gradients", none_left)
    with pytest.raises(
        TrainingError, match=r"out of memory even for one image at a time .* data\.crop_size=\[32, 48\]"
    ) as error:
        train_model(make_trainer(), run)
    assert "training.activation_checkpointing=true. Or: Start a new run with smaller samples" in str(error.value)


@pytest.mark.parametrize("key", ["training.activation_checkpointing", "training.compile"])
def test_activation_checkpointing_is_suggested_only_if_possible(
    make_trainer: MakeTrainer, run: RunFolder, monkeypatch: pytest.MonkeyPatch, key: str
) -> None:
    def none_left(*arguments: Any, **more: Any) -> Tensor:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB.")

    monkeypatch.setattr(trainer_home, "accumulate_gradients", none_left)
    with pytest.raises(TrainingError, match=r"at a time \(CUDA out of memory\)\. Start a new run with smaller samples"):
        train_model(make_trainer({key: True}), run)


def test_a_run_may_become_longer(make_trainer: MakeTrainer, run: RunFolder) -> None:
    train_model(make_trainer(), run)
    train_model(make_trainer({"training.steps": 8}), run, resume=True)
    assert steps_taken(run) == 8
    assert [line["step"] for line in run.read_metrics() if "val" in line][-1] == 8


def test_leftovers_of_a_kill_are_removed(make_trainer: MakeTrainer, run: RunFolder) -> None:
    run.path.mkdir()
    for path in (run.next_checkpoint, run.path / ".last.checkpoint.0123456789ab.part"):
        path.touch()
    train_model(make_trainer({"training.steps": 1}), run, resume=True)
    assert not run.next_checkpoint.exists()
    assert not list(run.path.glob(".*"))


def test_a_run_without_a_length_is_an_error(make_trainer: MakeTrainer, run: RunFolder) -> None:
    with pytest.raises(
        InvalidArgumentError, match=r"^A run needs training\.steps or training\.budget_seconds\. Give --steps"
    ):
        train_model(make_trainer({"training.steps": None}), run)


def test_a_budget_that_is_already_spent_is_an_error(make_trainer: MakeTrainer, run: RunFolder) -> None:
    trainer = make_trainer({"training.steps": None, "training.budget_seconds": 5})
    with pytest.raises(
        InvalidArgumentError, match=r"The budget of 5 s ends before training could start\. Give a longer"
    ):
        train_model(trainer, run, deadline=time.monotonic())


def test_a_run_without_a_step_writes_no_model(
    make_trainer: MakeTrainer, run: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The time is used up between planning and the first step: no model may be scored and called a success."""
    monkeypatch.setattr(home, "estimate_closing_seconds", lambda trainer: 0.0)
    monkeypatch.setattr(home.TrainingClock, "measure", lambda self, step: 1.0)
    trainer = make_trainer({"training.steps": None, "training.budget_seconds": 90})
    with pytest.raises(InvalidArgumentError, match="budget of 90 s ended before the first training step"):
        train_model(trainer, run, deadline=time.monotonic() + 90)
    assert not run.model.exists()
    assert not run.last_checkpoint.exists()


def test_a_budget_leaves_time_for_the_end(make_trainer: MakeTrainer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(home, "estimate_closing_seconds", lambda trainer: 30.0)
    trainer = make_trainer({"training.steps": None, "training.budget_seconds": 100})
    assert compute_training_seconds(trainer, time.monotonic() + 100) == pytest.approx(70, abs=1)


def test_a_budget_ends_in_a_scored_model(
    make_trainer: MakeTrainer, run: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(home, "estimate_closing_seconds", lambda trainer: 0.0)
    trainer = make_trainer({"training.steps": None, "training.budget_seconds": 1})
    train_model(trainer, run, deadline=time.monotonic() + 1)
    checkpoint = load_checkpoint(run)
    assert checkpoint is not None
    assert checkpoint.finished
    assert list(run.read_metrics())[-1]["progress"] == 1


def test_other_training_images_are_refused(
    make_trainer: MakeTrainer, run: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupted_after_one_step(make_trainer(), run, monkeypatch)
    trainer = make_trainer()
    trainer = trainer.rebuild(spec=replace(trainer.spec, mean=(1.0, 2.0, 3.0)))
    with pytest.raises(CheckpointError, match=r"^The training images are not those .* \(their mean differs\)"):
        train_model(trainer, run, resume=True)


def test_another_network_is_refused(make_trainer: MakeTrainer, run: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    interrupted_after_one_step(make_trainer(), run, monkeypatch)
    with pytest.raises(CheckpointError, match=r"^The checkpoint does not fit the network"):
        train_model(make_trainer({"network.base_channels": 5}), run, resume=True)


def interrupted_after_one_step(trainer: Trainer, run: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        before_step(0, press_ctrl_c, patch)
        with pytest.raises(KeyboardInterrupt):
            train_model(trainer, run)


def test_the_size_of_samples_follows_the_agreed_progress(
    make_trainer: MakeTrainer, run: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each process has its own clock, but a step has one size."""
    monkeypatch.setattr(home, "estimate_closing_seconds", lambda trainer: 0.0)
    changes = {"training.steps": None, "training.budget_seconds": 100, "data.crop_size": [64, 96]}
    trainer = make_trainer({**changes, "schedule.start_scale": 0.5, "schedule.full_scale_from": 0.5})
    loop = home.TrainingLoop(trainer, run, SignalGuard(), deadline=time.monotonic() + 100, resume=False, page=None)
    sizes = loop.choose_sizes()
    assert next(sizes) == (0, (32, 48))
    loop.agreed_progress = 0.5
    assert next(sizes) == (1, (64, 96))


def test_processes_choose_sizes_the_same_number_of_steps_ahead(
    make_trainer: MakeTrainer, run: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first process has two loader threads, this one eight."""

    class UnequalWorld(World):
        def broadcast_object(self, value: Any) -> Any:
            return 2

    calls: list[dict[str, int]] = []
    prefetch = home.prefetch
    monkeypatch.setattr(home, "choose_loader_threads", lambda device: 8)
    monkeypatch.setattr(home, "prefetch", lambda *some, **more: calls.append(more) or prefetch(*some, **more))
    fit(make_trainer().rebuild(world=UnequalWorld()), run)
    assert calls == [{"num_ahead": 3, "num_threads": 8}]
