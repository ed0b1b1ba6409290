import math
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.summary.writer import event_file_writer

from pixelwise.config import Config
from pixelwise.progress import use_reporter
from pixelwise.training import metrics_log as home
from pixelwise.training.clock import TrainingClock
from pixelwise.training.divergence import DivergedError
from pixelwise.training.metrics_log import MetricsLog, RateWatcher, describe_early_stop, is_out_of_patience
from pixelwise.training.run_dir import RunFolder
from pixelwise.training.trainer import Trainer
from support.recorder import Recorder

MakeLog = Callable[..., MetricsLog]
SCORES = {"mean_iou": 0.5, "global_accuracy": 0.75, "mean_class_accuracy": None, "mean_dice": 0.6}


class Clock:
    now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(home, "time", SimpleNamespace(monotonic=clock.monotonic))
    return clock


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    return RunFolder(tmp_path)


@pytest.fixture
def heard() -> Iterator[Recorder]:
    recorder = Recorder()
    with use_reporter(recorder):
        yield recorder


@pytest.fixture
def make_log(run: RunFolder, heard: Recorder, make_trainer: Callable[..., Trainer]) -> MakeLog:
    """Return `make_log(first_step)`: a log of a trainer with batches of 4 and the default config."""

    def make(first_step: int = 0) -> MetricsLog:
        trainer = make_trainer()
        trainer.num_steps = first_step
        trainer.config = Config().replace({"training.batch_size": 4})
        return MetricsLog(trainer, run, TrainingClock(steps=10, seconds=None))

    return make


def test_about_once_a_second_a_line_holds_the_mean_loss(
    run: RunFolder, clock: Clock, heard: Recorder, make_log: MakeLog
) -> None:
    log = make_log()
    for step, loss in enumerate([4.0, 2.0, 3.0], start=1):
        clock.now += 0.5
        log.log_step(step, step / 10, torch.tensor(loss))
    log.close(1.0, has_ended=True)
    (line,) = run.read_metrics()
    assert set(line) == {"step", "progress", "loss", "lr", "images_per_second", "seconds"}
    assert (line["step"], line["progress"], line["loss"]) == (2, 0.2, 3.0)
    assert line["images_per_second"] == 8.0
    assert heard.tracked == [("train", 0.2, 1, "loss 3.000  8.0 images/s")]


def test_the_last_step_is_always_logged(run: RunFolder, clock: Clock, heard: Recorder, make_log: MakeLog) -> None:
    log = make_log()
    log.log_step(10, 1.0, torch.tensor(1.0))  # no time has passed at all
    log.close(1.0, has_ended=True)
    assert [line["step"] for line in run.read_metrics()] == [10]


def test_an_evaluation_is_a_line_of_its_own(run: RunFolder, clock: Clock, heard: Recorder, make_log: MakeLog) -> None:
    log = make_log()
    log.log_evaluation(4, 0.4, SCORES)
    log.close(1.0, has_ended=True)
    (line,) = run.read_metrics()
    assert line["val"] == {"mean_iou": 0.5, "global_accuracy": 0.75, "mean_class_accuracy": None}
    assert heard.messages == ["step 4 (40%): validation mean IoU 0.5000"]


def test_the_model_that_is_scored_last_is_named(
    run: RunFolder, clock: Clock, heard: Recorder, make_log: MakeLog
) -> None:
    log = make_log()
    for step, score in ((4, 0.5), (7, 0.8), (10, 0.7)):
        log.log_evaluation(step, step / 10, {**SCORES, "mean_iou": score})
    log.announce_best_model()
    log.close(1.0, has_ended=True)
    assert heard.messages[-1] == "Scoring the best model, of step 7 (mean IoU 0.8000), in fp32"


def test_the_time_of_an_evaluation_is_not_training_time(
    run: RunFolder, clock: Clock, heard: Recorder, make_log: MakeLog
) -> None:
    log = make_log()
    clock.now += 0.5
    log.log_step(1, 0.1, torch.tensor(1.0))
    log.write_losses(1, 0.1)  # as the loop does before it evaluates
    clock.now += 1000
    log.log_evaluation(1, 0.1, SCORES)
    clock.now += 1
    log.log_step(2, 0.2, torch.tensor(1.0))
    log.close(1.0, has_ended=True)
    assert [line["images_per_second"] for line in run.read_metrics() if "loss" in line] == [8.0, 4.0]


def test_without_new_losses_no_line_is_written(
    run: RunFolder, clock: Clock, heard: Recorder, make_log: MakeLog
) -> None:
    log = make_log()
    log.write_losses(1, 0.1)
    log.close(1.0, has_ended=True)
    assert run.metrics.read_text() == ""


@pytest.mark.parametrize("loss", [math.nan, math.inf])
def test_a_nan_loss_is_an_error_with_advice(clock: Clock, loss: float, make_log: MakeLog) -> None:
    log = make_log()
    clock.now += 1
    message = rf"The loss is {loss} at step 1 \(learning rate 0\.002\)\. .* lower learning rate .*lr=0\.0005"
    with pytest.raises(DivergedError, match=message):
        log.log_step(1, 0.1, torch.tensor(loss))
    log.close(1.0, has_ended=True)


def scalars(run: RunFolder, tag: str) -> list[tuple[int, float]]:
    events = EventAccumulator(str(run.events)).Reload()
    return [(event.step, event.value) for event in events.Scalars(tag)]


def test_tensorboard_sees_the_same_numbers(run: RunFolder, clock: Clock, heard: Recorder, make_log: MakeLog) -> None:
    log = make_log()
    clock.now += 1
    log.log_step(1, 0.1, torch.tensor(2.5))
    log.log_evaluation(1, 0.1, SCORES)
    log.close(1.0, has_ended=True)
    assert scalars(run, "train/loss") == [(1, 2.5)]
    assert scalars(run, "val/mean_iou") == [(1, 0.5)]


def test_events_of_repeated_steps_are_hidden(
    run: RunFolder, clock: Clock, monkeypatch: pytest.MonkeyPatch, make_log: MakeLog
) -> None:
    # Files of one second are read in the order of their names, where a 10 stands before a 9.
    monkeypatch.setattr(event_file_writer, "_global_uid", event_file_writer.AtomicCounter(0))
    for first_step, losses in [(0, {1: 4.0, 2: 3.0, 3: 2.0}), (1, {2: 30.0})]:
        log = make_log(first_step)
        for step, loss in losses.items():
            clock.now += 1
            log.log_step(step, step / 10, torch.tensor(loss))
        log.close(1.0, has_ended=True)
    assert scalars(run, "train/loss") == [(1, 4.0), (2, 30.0)]


# Early stopping.


def metrics(*scores: float | None) -> list[dict[str, Any]]:
    """Lines of metrics.jsonl: a loss, then an evaluation, of step 1, 2, ..."""
    lines: list[dict[str, Any]] = []
    for step, score in enumerate(scores, start=1):
        lines += [{"step": step, "loss": 1.0}, {"step": step, "val": {"mean_iou": score}}]
    return lines


@pytest.mark.parametrize(
    ("scores", "patience", "over"),
    [
        ([], 1, False),
        ([0.5], 1, False),
        ([None], 1, False),  # the first evaluation is a new best whatever it is
        ([0.5, 0.5], 1, True),  # as good is no better
        ([0.5, 0.4], 2, False),
        ([0.5, 0.4, 0.45], 2, True),
        ([0.5, 0.4, 0.6, 0.5], 2, False),  # a new best begins the count anew
        ([0.5, None, None, None], 3, True),
        ([0.5, 0.4, 0.3, 0.2, 0.1], 0, False),
        ([0.5, 0.4, 0.3, 0.2, 0.1], None, False),
    ],
)
def test_patience_counts_evaluations_without_a_new_best(
    scores: list[float | None], patience: int | None, over: bool
) -> None:
    assert is_out_of_patience(metrics(*scores), patience) is over
    assert (describe_early_stop(metrics(*scores), patience) is not None) is over


def test_the_note_names_the_best() -> None:
    note = describe_early_stop(metrics(0.25, 0.5, 0.4, 0.3), 2)
    assert note is not None
    assert note.endswith("evaluations without a better mean IoU than 0.5000, of step 2: 2")


def test_training_that_became_much_slower_is_said_once() -> None:
    watcher, normal, slow = RateWatcher(), [20.0] * 20, [9.0] * 20
    assert [text for rate in normal if (text := watcher.add(rate))] == []
    [text] = [text for rate in slow + normal + slow if (text := watcher.add(rate))]
    assert "9.0 images/s instead of 20.0" in text


@pytest.mark.parametrize(
    "rates", [[20.0, 20.0, 2.0] * 20, [20.0] * 15 + [11.0] * 30, [1.0] * 40, [1.0] * 20 + [50.0] * 40]
)
def test_single_slow_seconds_and_growing_rates_are_not_reported(rates: list[float]) -> None:
    watcher = RateWatcher()
    assert not any(watcher.add(rate) for rate in rates)
