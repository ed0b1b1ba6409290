from pixelwise.planning.estimate import Forecast, TimeForecast, times
from pixelwise.planning.memory_estimate import MemoryForecast

GIB = 2**30
MEMORY = MemoryForecast(
    process=GIB // 2, images=GIB // 4, model=GIB // 4, step=2 * GIB, evaluation=GIB // 2, checkpoint=1
)
TIME = TimeForecast(start=20, steps=600, evaluations=20, end=10)


def forecast(**changes):
    values = {"memory": MEMORY, "tried_peak": 4 * GIB, "device": "cpu", "num_steps": 1500, "epochs": 30.2, "time": TIME}
    return Forecast(**{**values, **changes})


def test_what_is_said():
    assert forecast().lines() == [
        "forecast, on cpu: 1,500 steps, each image 30 times",
        "time: 10.8 min = start 20 s + steps 10.0 min + evaluations 20 s + last evaluation and report 10 s",
        "peak memory: 3.00 GiB (process 0.50 GiB + images 0.25 GiB + weights and optimizer 0.25 GiB + step 2.00 GiB)",
        "planning and training in one process: 4.00 GiB, from what was tried",
    ]


def test_what_was_not_timed_and_not_tried_is_not_said():
    said = "\n".join(forecast(time=None, tried_peak=3 * GIB).lines())
    assert "nothing is timed where the steps are given" in said
    assert "in one process" not in said


def test_numbers_of_times():
    assert (times(0.5), times(9.94), times(1234)) == ("0.5 times", "9.9 times", "1,234 times")
