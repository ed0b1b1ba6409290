"""Time to quality: `pixelwise train` within a budget, scored on the test images, beside a peer.

    python benchmarks/budget_quality.py DATA --budget 15m --name camvid-cpu-15m
    python benchmarks/budget_quality.py DATA --name camvid-peer --peer "python peer.py DATA 15"

The first runs the two commands a user would run and keeps recipe, scores and curve. The second runs
a peer's script and keeps its last lines; run both on one machine that does nothing else.
"""

import argparse
import json
import shlex
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import yaml
from machine import write_result

RESULTS = Path(__file__).parent / "results"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--name", required=True, help="name of the JSON below results/")
    parser.add_argument("--budget", default="15m")
    parser.add_argument("--run", type=Path, help="run folder to keep; default a temporary one")
    parser.add_argument("--set", action="append", default=[], help="section.key=value for train")
    parser.add_argument("--peer", help="a command line to run instead")
    arguments = parser.parse_args()
    if arguments.peer:
        values = run_peer(shlex.split(arguments.peer))
    else:
        with tempfile.TemporaryDirectory() as folder:
            run = arguments.run or Path(folder) / "run"
            values = run_ours(arguments.data, run, arguments.budget, arguments.set)
    write_result(RESULTS / f"{arguments.name}.json", values)


def run_ours(data: Path, run: Path, budget: str, settings: list[str]) -> dict[str, Any]:
    """Trains and evaluates through the command line; the budget is the train command's."""
    extra = [part for setting in settings for part in ("--set", setting)]
    train = ["train", str(data), "-o", str(run), "--budget", budget, *extra]
    seconds = call(train)
    scores_path = run / "evaluation.json"
    evaluate_seconds = call(["evaluate", str(run), str(data), "--json", str(scores_path)])
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    rates = [line["images_per_second"] for line in lines if "images_per_second" in line]
    recipe = yaml.safe_load((run / "recipe.yaml").read_text(encoding="utf-8"))
    scores = json.loads(scores_path.read_text(encoding="utf-8"))
    return {
        "command": f"pixelwise {shlex.join(['train', data.name, '--budget', budget, *extra])}",
        "train_seconds": round(seconds, 1),
        "evaluate_seconds": round(evaluate_seconds, 1),
        "images_seen": lines[-1]["step"] * recipe["training"]["batch_size"],
        "median_images_per_second": sorted(rates)[len(rates) // 2],
        "scores": {key: value for key, value in scores.items() if key not in ("model", "data")},
        "curve": [line for line in lines if "val" in line],
        "recipe": recipe,
    }


def run_peer(command: list[str]) -> dict[str, Any]:
    start = time.monotonic()
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    tail = done.stdout.strip().splitlines()[-2:]
    names = [Path(part).name if "/" in part else part for part in command]
    return {"command": shlex.join(names), "seconds": round(time.monotonic() - start, 1), "output": tail}


def call(arguments: list[str]) -> float:
    """Seconds of one command, its own start included."""
    start = time.monotonic()
    subprocess.run([sys.executable, "-m", "pixelwise", *arguments], check=True)
    return time.monotonic() - start


if __name__ == "__main__":
    main()
