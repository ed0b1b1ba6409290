"""Compare the estimates of a plan with its run: peak memory and time, on six datasets and budgets.

    python benchmarks/planning.py --shared ../shared/data             # 10 minutes; writes results/planning-cpu.json
    python benchmarks/planning.py --shared ../shared/data --memory    # memory only, by runs of a few steps

Time: `train` with a budget in a fresh process, including planning, evaluation and report, compared with the estimate of
its own plan. Memory: the planned config, trained for a few steps in another fresh process; its peak resident memory
compared with the estimate. CamVid and ISBI 2012 are read from the folder given with --shared and skipped without it.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

STARTED = time.monotonic()

RESULTS = Path(__file__).parent / "results" / "planning-cpu.json"
FEW_STEPS = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    budget: str
    draw: Callable[[Path], None] | None = None
    """Writes the dataset; None: a folder of --shared."""
    settings: dict[str, Any] = field(default_factory=dict)
    """Settings that the plan does not choose."""


def draw(kind: str, size: tuple[int, int], num_train: int) -> Callable[[Path], None]:
    from pixelwise.data.synthetic import write_dataset

    def write(root: Path) -> None:
        write_dataset(root, kind, num_train=num_train, num_val=num_train // 5, num_test=0, size=size)  # type: ignore[arg-type]

    return write


def draw_many_classes(root: Path) -> None:
    """Write images with 40 classes as colored squares, RGB, 128x160."""
    import numpy as np
    import yaml

    from pixelwise.data.io.images import write_png

    rng = np.random.default_rng(0)
    colors = rng.integers(0, 256, (40, 3))
    for number in range(60):
        labels = rng.integers(0, 40, (8, 10)).astype(np.uint8).repeat(16, 0).repeat(16, 1)
        image = np.clip(colors[labels] + rng.normal(0, 20, (128, 160, 3)), 0, 255).astype(np.uint8)
        split = "val" if number % 6 == 0 else "train"
        write_png(root / "images" / split / f"{number:04}.png", image)
        write_png(root / "labels" / split / f"{number:04}.png", labels)
    names = {"names": [f"class {number}" for number in range(40)]}
    (root / "dataset.yaml").write_text(yaml.safe_dump(names), encoding="utf-8")


def cases() -> dict[str, Case]:
    fixed = {"training.deterministic": True}
    return {
        "streets-192x256": Case(budget="60s", draw=draw("streets", (192, 256), 60)),
        "streets-720x960": Case(budget="90s", draw=draw("streets", (720, 960), 24)),
        "cells-256x256-gray": Case(budget="60s", draw=draw("cells", (256, 256), 40), settings=fixed),
        "many-classes-128x160": Case(budget="60s", draw=draw_many_classes, settings={"optimizer.name": "adamw"}),
        "isbi2012": Case(budget="90s", settings={**fixed, "training.precision": "fp32"}),
        "camvid": Case(budget="120s"),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shared", type=Path, help="folder with camvid/ and isbi2012/")
    parser.add_argument("--memory", action="store_true", help="only memory; nothing is written")
    parser.add_argument("--only", help="name of one case; the others keep their results")
    parser.add_argument("--worker", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        print(json.dumps(work(arguments.worker[0], json.loads(arguments.worker[1]))))
        return
    rows = json.loads(RESULTS.read_text(encoding="utf-8"))["cases"] if arguments.only and RESULTS.exists() else {}
    with tempfile.TemporaryDirectory() as folder:
        for name, case in cases().items():
            data = arguments.shared / name if arguments.shared and not case.draw else Path(folder) / name
            if case.draw:
                case.draw(data)
            if data.exists() and arguments.only in (None, name):
                rows[name] = measure(case, data, Path(folder) / f"{name}-run", memory_alone=arguments.memory)
                print(name, json.dumps(rows[name]), flush=True)
    if not arguments.memory:
        from machine import write_result

        write_result(RESULTS, {"cases": rows})


def measure(case: Case, data: Path, run: Path, *, memory_alone: bool) -> dict[str, Any]:
    """Return one row of estimated and measured values."""
    row: dict[str, Any] = {"budget": case.budget, "settings": case.settings}
    task = {"data": str(data), "run": str(run), "budget": case.budget, "settings": case.settings}
    config = run / "config.yaml"
    if memory_alone:
        planned = call("plan", {**task, "config": str(config)})
    else:
        planned = call("train", task)
        row["seconds"] = compare(planned["predicted_seconds"], planned["seconds"])
        row["planning_and_training_bytes"] = compare(planned["predicted_tried_bytes"], planned["peak_bytes"])
    trained = call("few", {**task, "run": f"{run}-few", "config": str(config)})
    row["network"] = planned["network"]
    row["peak_bytes"] = compare(planned["predicted_bytes"], trained["peak_bytes"])
    row["parts"] = planned["parts"]
    return row


def compare(predicted: float, measured: float) -> dict[str, float]:
    return {"predicted": round(predicted, 1), "measured": round(measured, 1), "ratio": round(predicted / measured, 3)}


def call(kind: str, task: dict[str, Any]) -> Any:
    """Return the result of one task in a fresh process, because a peak only grows."""
    command = [sys.executable, __file__, "--worker", kind, json.dumps(task)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def work(kind: str, task: dict[str, Any]) -> dict[str, Any]:
    """Run one task in the measured process."""
    from pixelwise.api import train
    from pixelwise.planning import planner

    result: dict[str, Any] = {}
    if kind == "plan":
        result = predictions(plan_few_steps(task))
    elif kind == "few":
        few = {"training.num_evaluations": 1}
        train(task["data"], task["run"], config=task["config"], steps=FEW_STEPS, settings=few, device="cpu")
    else:
        made: list[Any] = []
        plan = planner.Planner.plan
        planner.Planner.plan = lambda self: made.append(self) or plan(self)  # type: ignore[method-assign, func-returns-value]
        train(task["data"], task["run"], budget=task["budget"], settings=task["settings"], device="cpu")
        result = predictions(made[0])
    return {**result, "seconds": time.monotonic() - STARTED, "peak_bytes": peak()}


def plan_few_steps(task: dict[str, Any]) -> Any:
    """Return a plan without timing."""
    import torch

    from pixelwise.config import Config
    from pixelwise.devices import choose_precision
    from pixelwise.planning.planner import Planner
    from pixelwise.planning.prepare_data import prepare_data

    changes = {**task["settings"], "training.steps": FEW_STEPS}
    device = torch.device("cpu")
    data = prepare_data(task["data"], Config().replace(changes))
    planner = Planner(data, device, choose_precision("auto", device), changes, STARTED)
    planned = planner.plan()
    config = Path(task["config"])
    config.parent.mkdir(parents=True, exist_ok=True)
    config.write_text(planned.to_yaml(), encoding="utf-8")
    return planner


def predictions(planner: Any) -> dict[str, Any]:
    memory, network = planner.estimate.memory, planner.config.network
    return {
        "predicted_seconds": planner.estimate.time.total if planner.estimate.time else None,
        "predicted_bytes": memory.peak,
        "predicted_tried_bytes": planner.estimate.planning_peak,
        "parts": {name: getattr(memory, name) for name in memory.__dataclass_fields__},
        "network": f"{network.encoder or network.base_channels} stem {network.stem_stride} depth {network.depth}, "
        f"{planner.config.training.batch_size} x {planner.config.data.crop_size}, {planner.config.training.precision}",
    }


def peak() -> int:
    """Return the peak resident memory of this process in bytes (Linux)."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))


if __name__ == "__main__":
    main()
