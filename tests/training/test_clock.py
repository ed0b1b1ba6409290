import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pixelwise.training.clock import TrainingClock


@given(steps=st.integers(1, 10**6), data=st.data())
def test_with_steps_progress_is_the_share_of_steps(steps: int, data: st.DataObject) -> None:
    clock = TrainingClock(steps=steps, seconds=None)
    step = data.draw(st.integers(0, steps))
    assert clock.measure(step) == step / steps
    assert clock.measure(steps) == clock.measure(steps + 5) == 1
    assert clock.measure(0) == 0


def test_with_steps_the_clock_is_not_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = TrainingClock(steps=10, seconds=None)
    monkeypatch.setattr(time, "monotonic", lambda: pytest.fail("looked at the clock"))
    assert clock.measure(5) == 0.5


def test_with_seconds_progress_is_the_share_of_time(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = TrainingClock(steps=None, seconds=100.0, _start=1000.0)
    for now, expected in [(1000, 0.0), (1025, 0.25), (1100, 1.0), (1500, 1.0)]:
        monkeypatch.setattr(time, "monotonic", lambda now=now: float(now))
        assert clock.measure(7) == expected


def test_time_of_earlier_sittings_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = TrainingClock(steps=None, seconds=100.0, seconds_before=40.0, _start=1000.0)
    monkeypatch.setattr(time, "monotonic", lambda: 1010.0)
    assert clock.seconds_used == 50
    assert clock.measure(0) == 0.5


def test_no_time_at_all_is_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "monotonic", lambda: 1000.5)
    assert TrainingClock(steps=None, seconds=0.0, _start=1000.0).measure(0) == 1
