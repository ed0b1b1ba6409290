from collections.abc import Callable

import pytest

from pixelwise.training.threads import FIRST_PROBE, PROBE_INTERVAL, PROBE_STEPS, ThreadChooser


def run(seconds_at: Callable[[int, int], float], num_steps: int, usual: int = 2, other: int = 1) -> list[int]:
    """Return the threads of each step, of a machine that takes `seconds_at(step, threads)`."""
    chooser, threads = ThreadChooser(usual, other), [usual]
    for step in range(num_steps):
        threads.append(chooser.record(seconds_at(step, threads[-1])))
    return threads


def test_the_faster_number_of_threads_is_kept() -> None:
    threads = run(lambda step, threads: 1 / threads, 200)
    assert threads[:FIRST_PROBE] == [2] * FIRST_PROBE
    assert threads[FIRST_PROBE : FIRST_PROBE + PROBE_STEPS] == [1] * PROBE_STEPS
    assert threads.count(1) == 4 * PROBE_STEPS


@pytest.mark.parametrize("slow_from", [0, 100])
def test_threads_that_wait_for_a_slow_core_are_given_up(slow_from: int) -> None:
    threads = run(lambda step, threads: 6.0 if threads == 2 and step >= slow_from else 1 / threads, 400)
    assert threads[slow_from + PROBE_INTERVAL + 2 * PROBE_STEPS :].count(2) <= 6 * PROBE_STEPS
    assert threads[-1] == 1 or threads[-PROBE_STEPS - 1] == 1


def test_threads_come_back_when_the_core_is_free_again() -> None:
    threads = run(lambda step, threads: 6.0 if threads == 2 and step < 100 else 1 / threads, 300)
    assert threads[50] == 1
    assert threads[-40:].count(2) >= 40 - PROBE_STEPS


def test_a_small_gain_changes_nothing() -> None:
    threads = run(lambda step, threads: 1.0 if threads == 2 else 0.95, 300)
    assert threads.count(1) <= 5 * PROBE_STEPS


def test_one_slow_step_of_a_probe_does_not_count() -> None:
    threads = run(lambda step, threads: 9.0 if step == FIRST_PROBE else threads, 60)
    assert threads[-1] == 1
