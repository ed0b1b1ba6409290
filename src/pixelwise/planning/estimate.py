"""The planner's estimate of a run: steps, time and memory, as text for the top of config.yaml."""

from dataclasses import dataclass

from pixelwise.planning.memory_estimate import MemoryEstimate, format_gib
from pixelwise.progress import format_duration


@dataclass(frozen=True, slots=True, kw_only=True)
class TimeEstimate:
    """Seconds of a run, from the steps and predictions that were timed during planning."""

    start: float
    """Imports, reading the data and planning, until the first step."""
    steps: float
    evaluations: float
    """Evaluations during training."""
    end: float
    """Final evaluation and report."""

    @property
    def total(self) -> float:
        """Seconds of the whole command."""
        return self.start + self.steps + self.evaluations + self.end


@dataclass(frozen=True, slots=True, kw_only=True)
class RunEstimate:
    """Steps, time and memory of a run."""

    memory: MemoryEstimate
    planning_peak: int
    """Bytes at the peak of planning and training in one process."""
    device: str
    num_steps: int
    epochs: float
    time: TimeEstimate | None
    """None if nothing was timed, because the steps are given."""

    def lines(self) -> tuple[str, ...]:
        """Return lines of text."""
        steps = f"{self.num_steps:,} steps, {format_epochs(self.epochs)}"
        lines = [f"estimate for {self.device}: {steps}"]
        if self.time:
            lines.append(
                f"time: {format_duration(self.time.total)} = start {format_duration(self.time.start)} + steps "
                f"{format_duration(self.time.steps)} + evaluations {format_duration(self.time.evaluations)} + final "
                f"evaluation and report {format_duration(self.time.end)}"
            )
        else:
            lines.append("time: unknown, because nothing is timed if the steps are given")
        lines.append(f"peak memory: {format_gib(self.memory.peak)} ({self._describe_parts()})")
        if self.planning_peak > self.memory.peak:
            peak = format_gib(self.planning_peak)
            lines.append(f"peak memory with planning in the same process: {peak}, from networks that were timed")
        return tuple(lines)

    def _describe_parts(self) -> str:
        memory = self.memory
        phases = {"step": memory.step, "evaluation": memory.evaluation, "checkpoint": memory.checkpoint}
        largest = max(phases, key=phases.__getitem__)
        parts = {
            "process": memory.process,
            "images": memory.images,
            "weights and optimizer": memory.model,
            largest: phases[largest],
        }
        return " + ".join(f"{name} {format_gib(size)}" for name, size in parts.items() if size)


def format_epochs(number: float) -> str:
    """Format as `0.5 epochs` or `30 epochs`."""
    return f"{number:.1f} epochs" if number < 10 else f"{number:,.0f} epochs"
