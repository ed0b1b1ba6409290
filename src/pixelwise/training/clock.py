"""How far a run is: by steps, or by the clock."""

import time
from dataclasses import dataclass, field


@dataclass(slots=True, kw_only=True)
class Pace:
    """Progress in [0, 1] as the one variable that schedules depend on.

    With `steps` it is a pure function of the step. With `seconds` it is the share of time spent,
    so that every schedule reaches its end when the budget does, whatever else the machine does.
    """

    steps: int | None
    seconds: float | None
    """Time for training, without what comes before and after."""
    spent_before: float = 0.0
    _start: float = field(default_factory=time.monotonic)

    @property
    def spent(self) -> float:
        """Seconds of training, earlier sittings included."""
        return self.spent_before + time.monotonic() - self._start

    def at(self, step: int) -> float:
        """Progress when `step` steps are done."""
        if self.steps is not None:
            return min(1.0, step / self.steps)
        assert self.seconds is not None
        return min(1.0, self.spent / max(self.seconds, 1e-3))
