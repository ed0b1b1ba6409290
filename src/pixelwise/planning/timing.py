"""Timing of training steps during planning."""

import itertools
import time

from pixelwise.data.loader import prefetch
from pixelwise.devices import synchronize
from pixelwise.training.trainer import Trainer

RESERVE = 0.2
"""Fraction of the remaining time that a run with fixed steps reserves for evaluation and surprises."""


def measure_step(trainer: Trainer, repeats: int = 3) -> float:
    """Return the median seconds of a training step at full resolution, with batches prefetched as in a run."""
    times = []
    # Always the first batch: a run decodes each image only once, not in each step.
    upcoming = prefetch(lambda _: trainer.batches.make(0), itertools.count())
    for step, batch in itertools.islice(upcoming, repeats + 1):
        start = time.monotonic()
        trainer.step(batch, 0.0)
        trainer.update_average(step, 1.0)
        synchronize(trainer.device)
        times.append(time.monotonic() - start)
    measured = sorted(times[1:])  # the first step compiles and allocates
    return measured[len(measured) // 2]


def compute_seconds_left(budget: float, started: float) -> float:
    """Return the rest of a budget that began at `started` (`time.monotonic`)."""
    return budget - (time.monotonic() - started)


def compute_steps_within(budget: float, step_seconds: float, started: float) -> int:
    """Return the steps that fit into the rest of a budget, minus the reserve."""
    return max(1, int((1 - RESERVE) * compute_seconds_left(budget, started) / step_seconds))
