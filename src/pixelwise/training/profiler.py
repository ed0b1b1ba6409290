"""`train --profile`: where the time of a training step goes."""

import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from torch.profiler import ProfilerActivity, profile, record_function

from pixelwise.data.loader import Batch, prefetch
from pixelwise.devices import choose_loader_threads, synchronize
from pixelwise.files import write_atomically
from pixelwise.training.run_dir import RunFolder
from pixelwise.training.trainer import PHASES, Job, Trainer

WARM_UP = 3
STEPS = 8
NUM_OPERATORS = 12
"""Lines of the table of operators."""

WAIT = "wait for the batch"


@dataclass(frozen=True, slots=True, kw_only=True)
class StepProfile:
    """Milliseconds of a step, the mean over a few."""

    step: float
    phases: Mapping[str, float]
    """Parts of the step in their order. On a GPU the time to launch their work, not to do it."""
    operators: Mapping[str, float]
    """Time in an operator itself, without those it calls, the dearest first; on a GPU that of its kernels."""

    def lines(self) -> list[str]:
        """Two tables to print."""
        rest = max(self.step - sum(self.phases.values()), 0.0)
        return [
            f"a step takes {self.step:.1f} ms, under the profiler:",
            *self._rows({**self.phases, "the rest": rest}),
            "by operator:",
            *self._rows(self.operators),
        ]

    def _rows(self, times: Mapping[str, float]) -> list[str]:
        return [f"  {spent:9.2f} ms {spent / self.step:6.1%}  {name}" for name, spent in times.items()]


def profile_steps(job: Job, run: RunFolder, steps: int = STEPS) -> StepProfile:
    """Takes some steps of a trainer of its own, so that the run does not notice.

    Writes `profile.txt`, what `StepProfile.lines` says, and `profile.json.gz`, every operator on a time
    line for chrome://tracing or Perfetto.
    """
    trainer, batches, threads = Trainer(job), job.batches(), choose_loader_threads(job.device)
    upcoming = prefetch(batches.make, iter(range(WARM_UP + steps)), num_ahead=threads + 1, num_threads=threads)
    for _ in range(WARM_UP):
        _take_step(trainer, upcoming)
    os.environ.setdefault("KINETO_LOG_LEVEL", "6")  # the profiler's own lines, also of GPUs that are not there
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if job.device.type == "cuda" else [])]
    with profile(activities=activities) as profiler:
        start = time.perf_counter()
        for _ in range(steps):
            _take_step(trainer, upcoming)
        seconds = time.perf_counter() - start
    found = _summary(profiler, 1000 * seconds / steps, steps, on_gpu=job.device.type == "cuda")
    profiler.export_chrome_trace(str(run.profile_trace))
    write_atomically(run.profile, "".join(line + "\n" for line in found.lines()).encode())
    return found


def _take_step(trainer: Trainer, upcoming: Iterator[tuple[int, Batch]]) -> None:
    """One step, done when this returns."""
    with record_function(WAIT):
        step, batch = next(upcoming)
    trainer.step(batch, 0.5)
    trainer.update_average(step, 0.01)
    synchronize(trainer.job.device)


def _summary(profiler: profile, step: float, steps: int, *, on_gpu: bool) -> StepProfile:
    events = profiler.key_averages()
    ours = (WAIT, *PHASES)
    whole = {event.key: event.cpu_time_total for event in events if not event.is_user_annotation or not on_gpu}
    own = {
        event.key: event.self_device_time_total if on_gpu else event.self_cpu_time_total
        for event in events
        if event.key not in ours
    }
    dearest = sorted(own, key=lambda name: own[name], reverse=True)[:NUM_OPERATORS]
    per_step = 1000 * steps  # from the microseconds of all
    return StepProfile(
        step=step,
        phases={name: whole.get(name, 0.0) / per_step for name in ours},
        operators={name: own[name] / per_step for name in dearest},
    )
