"""What a plan expects of its run: steps, time and memory, in words for the top of config.yaml."""

from dataclasses import dataclass

from pixelwise.planning.memory_estimate import MemoryForecast, gib
from pixelwise.progress import format_duration


@dataclass(frozen=True, slots=True, kw_only=True)
class TimeForecast:
    """Seconds of a run, from the steps and the predictions that were timed while planning."""

    start: float
    """Before the first step: imports, reading the data, planning."""
    steps: float
    """All steps of the optimizer."""
    evaluations: float
    """On the validation images while training."""
    end: float
    """The last evaluation and the report."""

    @property
    def total(self) -> float:
        return self.start + self.steps + self.evaluations + self.end


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecast:
    memory: MemoryForecast
    tried_peak: int
    """Bytes at the peak of what was tried while planning, in the same process."""
    device: str
    num_steps: int
    epochs: float
    """How often each training image is shown."""
    time: TimeForecast | None
    """None where nothing is timed, because the steps are given."""

    def lines(self) -> list[str]:
        """For people, without the sign of a comment."""
        said = [f"forecast, on {self.device}: {self.num_steps:,} steps, each image {times(self.epochs)}"]
        if self.time:
            time = self.time
            total, start, steps, evaluations, end = map(
                format_duration, (time.total, time.start, time.steps, time.evaluations, time.end)
            )
            said.append(
                f"time: {total} = start {start} + steps {steps} + evaluations {evaluations} + last evaluation and "
                f"report {end}"
            )
        else:
            said.append("time: not known, because nothing is timed where the steps are given")
        said.append(f"peak memory: {gib(self.memory.peak)} ({self._parts()})")
        if self.tried_peak > self.memory.peak:
            said.append(f"planning and training in one process: {gib(self.tried_peak)}, from what was tried")
        return said

    def _parts(self) -> str:
        memory = self.memory
        parts = {
            "process": memory.process,
            "images": memory.images,
            "weights and optimizer": memory.model,
            **max(
                ({"step": memory.step}, {"evaluation": memory.evaluation}, {"checkpoint": memory.checkpoint}),
                key=lambda part: next(iter(part.values())),
            ),
        }
        return " + ".join(f"{name} {gib(size)}" for name, size in parts.items() if size)


def times(number: float) -> str:
    return f"{number:.1f} times" if number < 10 else f"{number:,.0f} times"
