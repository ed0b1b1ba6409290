from pixelwise.planning.estimate import RunEstimate, TimeEstimate, format_epochs
from pixelwise.planning.memory_estimate import MemoryEstimate

GIB = 2**30
MEMORY = MemoryEstimate(
    process=GIB // 2, images=GIB // 4, model=GIB // 4, step=2 * GIB, evaluation=GIB // 2, checkpoint=1
)
TIME = TimeEstimate(start=20, steps=600, evaluations=20, end=10)


def forecast(**changes):
    values = {
        "memory": MEMORY,
        "planning_peak": 4 * GIB,
        "device": "cpu",
        "num_steps": 1500,
        "epochs": 30.2,
        "time": TIME,
    }
    return RunEstimate(**{**values, **changes})


def test_lines_of_an_estimate():
    assert forecast().lines() == (
        "estimate for cpu: 1,500 steps, 30 epochs",
        "time: 10.8 min = start 20 s + steps 10.0 min + evaluations 20 s + final evaluation and report 10 s",
        "peak memory: 3.00 GiB (process 0.50 GiB + images 0.25 GiB + weights and optimizer 0.25 GiB + step 2.00 GiB)",
        "peak memory with planning in the same process: 4.00 GiB, from networks that were timed",
    )


def test_an_estimate_without_timing():
    said = "\n".join(forecast(time=None, planning_peak=3 * GIB).lines())
    assert "nothing is timed if the steps are given" in said
    assert "in the same process" not in said


def test_numbers_of_times():
    assert (format_epochs(0.5), format_epochs(9.94), format_epochs(1234)) == (
        "0.5 epochs",
        "9.9 epochs",
        "1,234 epochs",
    )
