"""`train --profile`: the time of a training step, by phase and by operator."""

import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from torch.profiler import ProfilerActivity, profile, record_function

from pixelwise.data.loader import Batch, prefetch
from pixelwise.devices import choose_loader_threads, synchronize
from pixelwise.files import write_atomically
from pixelwise.training.run_dir import RunFolder
from pixelwise.training.trainer import PHASES, Trainer

WARMUP_STEPS = 3
PROFILED_STEPS = 8
NUM_OPERATORS = 12
"""Rows of the table of operators."""

WAIT = "wait for the batch"


@dataclass(frozen=True, slots=True, kw_only=True)
class StepProfile:
    """Milliseconds of a step, averaged over a few."""

    step: float
    phases: Mapping[str, float]
    """Phases in order. On a GPU, the time to launch their kernels."""
    operators: Mapping[str, float]
    """Operators without those that they call, the slowest first; on a GPU, the time of their kernels."""

    def lines(self) -> list[str]:
        """Return two tables to print."""
        rest = max(self.step - sum(self.phases.values()), 0.0)
        return [
            f"time of a step under the profiler: {self.step:.1f} ms",
            *self._rows({**self.phases, "the rest": rest}),
            "by operator:",
            *self._rows(self.operators),
        ]

    def _rows(self, times: Mapping[str, float]) -> list[str]:
        return [f"  {time:9.2f} ms {time / self.step:6.1%}  {name}" for name, time in times.items()]


def profile_steps(trainer: Trainer, run: RunFolder, steps: int = PROFILED_STEPS) -> StepProfile:
    """Profile some steps of a trainer that is not used for the run.

    Writes the tables to `profile.txt`, and all operators on a time line to `profile.json.gz`, for chrome://tracing or
    Perfetto.
    """
    batches, threads = trainer.batches, choose_loader_threads(trainer.device)
    is_cuda = trainer.device.type == "cuda"
    upcoming = prefetch(batches.make, iter(range(WARMUP_STEPS + steps)), num_ahead=threads + 1, num_threads=threads)
    for _ in range(WARMUP_STEPS):
        _take_step(trainer, upcoming)
    os.environ.setdefault("KINETO_LOG_LEVEL", "6")  # the profiler prints lines about GPUs even if there are none
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if is_cuda else [])]
    with profile(activities=activities) as profiler:
        start = time.perf_counter()
        for _ in range(steps):
            _take_step(trainer, upcoming)
        seconds = time.perf_counter() - start
    result = _summarize(profiler, 1000 * seconds / steps, steps, is_cuda=is_cuda)
    profiler.export_chrome_trace(str(run.profile_trace))
    write_atomically(run.profile, "".join(line + "\n" for line in result.lines()).encode())
    return result


def _take_step(trainer: Trainer, upcoming: Iterator[tuple[int, Batch]]) -> None:
    """Take one step and wait for the device."""
    with record_function(WAIT):
        step, batch = next(upcoming)
    trainer.step(batch, 0.5)
    trainer.update_average(step, 0.01)
    synchronize(trainer.device)


def _summarize(profiler: profile, step: float, steps: int, *, is_cuda: bool) -> StepProfile:
    events = profiler.key_averages()
    phases = (WAIT, *PHASES)
    total = {event.key: event.cpu_time_total for event in events if not event.is_user_annotation or not is_cuda}
    own = {
        event.key: event.self_device_time_total if is_cuda else event.self_cpu_time_total
        for event in events
        if event.key not in phases
    }
    slowest = sorted(own, key=lambda name: own[name], reverse=True)[:NUM_OPERATORS]
    per_step = 1000 * steps  # microseconds of all steps → milliseconds of one
    return StepProfile(
        step=step,
        phases={name: total.get(name, 0.0) / per_step for name in phases},
        operators={name: own[name] / per_step for name in slowest},
    )
