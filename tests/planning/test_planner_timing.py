import threading
import time

import pytest
import torch

from pixelwise.data.loader import Batches
from pixelwise.planning.planner import compute_seconds_left, compute_steps_within, measure_step
from pixelwise.training.trainer import Trainer


def test_the_step_of_the_trainer_is_timed_with_prefetched_batches(make_trainer, monkeypatch):
    taken, threads = [], set()
    step, make = Trainer.step, Batches.make
    monkeypatch.setattr(Trainer, "step", lambda self, *rest: taken.append(1) or step(self, *rest))
    monkeypatch.setattr(
        Batches, "make", lambda self, number: threads.add(threading.current_thread().name) or make(self, number)
    )
    assert 0 < measure_step(make_trainer(), repeats=2) < 60
    assert len(taken) == 3  # the first is not counted
    assert threads
    assert all(name.startswith("loader") for name in threads)


def test_a_slow_step_is_not_repeated(make_trainer, monkeypatch):
    taken = []
    step = Trainer.step
    monkeypatch.setattr(Trainer, "step", lambda self, *rest: taken.append(1) or step(self, *rest))
    assert measure_step(make_trainer(), repeats=5, limit=0) > 0
    assert len(taken) == 1


def test_steps_fill_four_fifths_of_the_time_left(monkeypatch):
    monkeypatch.setattr(time, "monotonic", lambda: 150.0)
    assert compute_seconds_left(100.0, started=100.0) == 50
    assert compute_steps_within(100.0, 0.5, started=100.0) == 80
    assert compute_steps_within(100.0, 1e6, started=100.0) == 1


def test_a_fault_in_a_batch_is_not_swallowed(make_trainer, monkeypatch):
    def fail(self, number):
        raise torch.cuda.OutOfMemoryError("none left")

    monkeypatch.setattr(Batches, "make", fail)
    with pytest.raises(torch.cuda.OutOfMemoryError, match="none left"):
        measure_step(make_trainer())
