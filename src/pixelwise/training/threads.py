"""The number of threads of a run that the clock ends; other runs are repeatable and keep theirs."""

import statistics

PROBE_STEPS = 3
"""Steps with the other number of threads, of which the median counts."""

FIRST_PROBE, PROBE_INTERVAL = 8, 60
"""Steps before the first and before each further probe. A probe at half the speed takes 5 % of such an interval."""

MIN_GAIN = 1.15
"""Smallest factor in speed for which the number of threads changes."""


class ThreadChooser:
    """Chooses between one thread and all of them by the times of the steps.

    Threads wait for each other hundreds of times a step. If another program, or another guest of a virtual machine's
    host, slows one of their cores down, all threads together can take several times as long as a single one.

    Args:
        usual: Threads of the first steps.
        other: Threads to compare them with.
    """

    def __init__(self, usual: int, other: int) -> None:
        self.usual, self.other = usual, other
        self.interval = FIRST_PROBE
        self.times: list[float] = []

    def record(self, seconds: float) -> int:
        """Record the seconds of a step; return the threads of the next one."""
        self.times.append(seconds)
        if len(self.times) < self.interval:
            return self.usual
        if len(self.times) < self.interval + PROBE_STEPS:
            return self.other
        before, probe = self.times[-2 * PROBE_STEPS : -PROBE_STEPS], self.times[-PROBE_STEPS:]
        if MIN_GAIN * statistics.median(probe) < statistics.median(before):
            self.usual, self.other = self.other, self.usual
        self.times.clear()
        self.interval = PROBE_INTERVAL
        return self.usual
