import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pixelwise.training.clock import Pace


@given(steps=st.integers(1, 10**6), data=st.data())
def test_with_steps_progress_is_the_share_of_steps(steps: int, data: st.DataObject) -> None:
    pace = Pace(steps=steps, seconds=None)
    step = data.draw(st.integers(0, steps))
    assert pace.at(step) == step / steps
    assert pace.at(steps) == pace.at(steps + 5) == 1
    assert pace.at(0) == 0


def test_with_steps_the_clock_is_not_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    pace = Pace(steps=10, seconds=None)
    monkeypatch.setattr(time, "monotonic", lambda: pytest.fail("looked at the clock"))
    assert pace.at(5) == 0.5


def test_with_seconds_progress_is_the_share_of_time(monkeypatch: pytest.MonkeyPatch) -> None:
    pace = Pace(steps=None, seconds=100.0, _start=1000.0)
    for now, expected in [(1000, 0.0), (1025, 0.25), (1100, 1.0), (1500, 1.0)]:
        monkeypatch.setattr(time, "monotonic", lambda now=now: float(now))
        assert pace.at(7) == expected


def test_time_of_earlier_sittings_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    pace = Pace(steps=None, seconds=100.0, spent_before=40.0, _start=1000.0)
    monkeypatch.setattr(time, "monotonic", lambda: 1010.0)
    assert pace.spent == 50
    assert pace.at(0) == 0.5


def test_no_time_at_all_is_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "monotonic", lambda: 1000.5)
    assert Pace(steps=None, seconds=0.0, _start=1000.0).at(0) == 1
