"""Measure training and prediction on the CPU while other programs keep its cores busy.

    python benchmarks/busy.py [--jobs train-tiny train-small train predict-tiny predict] [--loads 0 1 2 3 4]

A load of N is N processes that compute without a pause. Contenders: one thread; all threads, which wait as their OpenMP
library lets them; and "auto", which the command line uses: short waits, and one thread for the steps of small networks.
Each contender has its own process, and all measure in turn. Only ratios within one load are compared: the rate to that
of the better number of threads. The rows of other jobs in the JSON file are kept.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from machine import write_result

from pixelwise.cli.main import shorten_thread_waits
from pixelwise.devices import choose_device, count_cpus
from pixelwise.inference.predictor import make_predictor
from training import ask, make_setup, random_batch, say

RESULTS = Path(__file__).parent / "results"


class Job(NamedTuple):
    """A U-Net and a batch."""

    trains: bool
    base_channels: int
    size: tuple[int, int]
    batch: int


JOBS: Mapping[str, Job] = {
    "train-tiny": Job(True, 4, (64, 96), 4),
    "train-small": Job(True, 16, (96, 128), 8),
    "train": Job(True, 32, (128, 160), 8),
    "predict-tiny": Job(False, 4, (64, 96), 16),
    "predict": Job(False, 32, (360, 480), 4),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", nargs="+", choices=JOBS, default=list(JOBS))
    parser.add_argument("--loads", nargs="+", type=int, default=[0, 1, 2, 3, 4])
    parser.add_argument("--seconds", type=float, default=1.0, help="of each measurement")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--name", default="busy-cpu", help="name of the JSON file in results/")
    parser.add_argument("--worker", choices=JOBS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        work(JOBS[arguments.worker])
        return
    path = RESULTS / f"{arguments.name}.json"
    rows = json.loads(path.read_text(encoding="utf-8"))["jobs"] if path.exists() else {}
    for name in arguments.jobs:
        rows[name] = measure(name, arguments.loads, arguments.seconds, arguments.rounds)
    write_result(
        path, {"unit": "images a second", "seconds": arguments.seconds, "rounds": arguments.rounds, "jobs": rows}
    )


def measure(name: str, loads: Sequence[int], seconds: float, rounds: int) -> dict[str, Any]:
    """Return the rates of the contenders under each load."""
    found: dict[str, Any] = {"job": JOBS[name]._asdict()}
    with ExitStack() as stack:
        workers = {key: stack.enter_context(start_worker(name, values)) for key, values in make_environments().items()}
        for load in loads:
            with keep_busy(load):
                rates: dict[str, list[float]] = {key: [] for key in workers}
                for _ in range(rounds):
                    for key, worker in workers.items():
                        rates[key].append(float(ask(worker, str(seconds))))
            row = {key: round(statistics.median(values), 2) for key, values in rates.items()}
            row["auto_over_best"] = round(row["auto"] / max(row["one"], row["all"]), 2)
            found[f"load {load}"] = row
            print(
                f"{name:13} load {load}   " + "   ".join(f"{key} {value:7.2f}" for key, value in row.items()),
                flush=True,
            )
    return found


def make_environments() -> dict[str, dict[str, str]]:
    """Return the environment variables of each contender."""
    ours = {"OMP_NUM_THREADS", "OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME"}
    plain = {key: value for key, value in os.environ.items() if key not in ours}
    auto = dict(plain)
    shorten_thread_waits(auto)
    cpus = str(count_cpus())
    return {"one": {**plain, "OMP_NUM_THREADS": "1"}, "all": {**plain, "OMP_NUM_THREADS": cpus}, "auto": auto}


@contextmanager
def start_worker(name: str, environment: Mapping[str, str]) -> Iterator["subprocess.Popen[str]"]:
    """Start a contender and end it after the block."""
    line = [sys.executable, __file__, "--worker", name]
    worker = subprocess.Popen(line, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)
    try:
        ask(worker)
        yield worker
    finally:
        worker.kill()
        worker.wait()


@contextmanager
def keep_busy(count: int) -> Iterator[None]:
    """Run processes that compute without a pause inside the block."""
    processes = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    time.sleep(0.3)
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


def work(job: Job) -> None:
    """For each input line, a number of seconds, repeat the job that long and report images per second."""
    run = make_run(job)
    for _ in range(3):
        run()
    say("ready")
    for line in sys.stdin:
        count, start = 0, time.perf_counter()
        while not count or time.perf_counter() - start < float(line):
            run()
            count += 1
        say(repr(count * job.batch / (time.perf_counter() - start)))


def make_run(job: Job) -> Callable[[], object]:
    """Return a training step or the prediction of a batch."""
    network = {"network.name": "unet", "network.base_channels": job.base_channels, "training.batch_size": job.batch}
    setup = make_setup(network, job.size, choose_device("cpu"))
    batch = random_batch(job.batch, job.size)
    if not job.trains:
        predictor = make_predictor(setup.spec.build(), setup.spec, setup.device, setup.config.training.precision)
        return lambda: predictor.predict_batch(batch.images)
    trainer = setup.make_trainer()

    def step() -> None:
        trainer.step(batch, 0.5)
        trainer.update_average(100, 0.001)

    return step


if __name__ == "__main__":
    main()
