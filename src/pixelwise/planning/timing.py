"""What is timed while planning, and what follows from it: the loop's own step, and the time there is."""

import itertools
import time

from pixelwise.data.loader import prefetch
from pixelwise.devices import synchronize
from pixelwise.training.trainer import Job, Trainer

RESERVE = 0.2
"""Share of the time left that a run of fixed steps keeps for evaluation and surprises."""


def measure_step(job: Job, repeats: int = 3) -> float:
    """Seconds of one training step at full resolution: the loop's own step on real batches, while
    others are made beside it as in a run.
    """
    trainer, batches = Trainer(job), job.batches()
    times = []
    # The first batch again and again: images are decoded once in a run, and not at every step.
    upcoming = prefetch(lambda _: batches.make(0), itertools.count())
    for step, batch in itertools.islice(upcoming, repeats + 1):
        start = time.monotonic()
        trainer.step(batch, 0.0)
        trainer.update_average(step, 1.0)
        synchronize(job.device)
        times.append(time.monotonic() - start)
    # The first one compiles and allocates.
    rest = sorted(times[1:])
    return rest[len(rest) // 2]


def seconds_left(budget: float, started: float) -> float:
    """Of a budget that began at `started` (time.monotonic)."""
    return budget - (time.monotonic() - started)


def steps_within(budget: float, seconds_per_step: float, started: float) -> int:
    """Steps that a run can take in the rest of its budget, a fifth left for evaluation and surprises."""
    return max(1, int((1 - RESERVE) * seconds_left(budget, started) / seconds_per_step))
