"""The progress of a run, by steps or by time."""

import time
from dataclasses import dataclass, field


@dataclass(slots=True, kw_only=True)
class TrainingClock:
    """Measures progress in [0, 1], the one variable that schedules depend on.

    With `steps`, progress is a pure function of the step. With `seconds`, it is the fraction of the time used, so that
    every schedule ends with the budget.
    """

    steps: int | None
    seconds: float | None
    """Time for training, without planning, the final evaluation and the report."""
    seconds_before: float = 0.0
    """Training time before the run was resumed."""
    _start: float = field(default_factory=time.monotonic)

    @property
    def seconds_used(self) -> float:
        """Training time so far, including the time before the run was resumed."""
        return self.seconds_before + time.monotonic() - self._start

    def measure(self, step: int) -> float:
        """Return the progress after `step` steps, now."""
        if self.steps is not None:
            return min(1.0, step / self.steps)
        assert self.seconds is not None
        return min(1.0, self.seconds_used / max(self.seconds, 1e-3))
