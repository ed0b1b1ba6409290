"""Time functions in turn, over many rounds, and return medians."""

import statistics
import time
from collections.abc import Callable, Mapping

import torch

from pixelwise.devices import synchronize


def interleaved(
    functions: Mapping[str, Callable[[], object]], *, rounds: int, device: torch.device
) -> dict[str, dict[str, float]]:
    """Return milliseconds of each function: median and quartiles over the rounds, after two warm-up rounds.

    All functions run in each round, so that other work on the machine affects all of them. The result of a function is
    freed before the next one starts, outside the measured time.
    """
    times: dict[str, list[float]] = {name: [] for name in functions}
    for turn in range(rounds + 2):
        for name, function in functions.items():
            synchronize(device)
            start = time.perf_counter()
            result = function()
            synchronize(device)
            if turn >= 2:
                times[name].append(1000 * (time.perf_counter() - start))
            del result
    return {name: _summary(values) for name, values in times.items()}


def _summary(values: list[float]) -> dict[str, float]:
    low, median, high = statistics.quantiles(values, n=4)
    return {"median": median, "low": low, "high": high}
