"""Measure test scores within time budgets: `pixelwise train` and peers.

    python benchmarks/quality.py DATA                                  # 5, 15 and 60 minutes; on a GPU 2 and 7
    python benchmarks/quality.py DATA --budgets 15m --peer "fast=python peer.py {data} {minutes} fast"
    python benchmarks/quality.py DATA --table                          # print earlier results

Each run is the two commands that a user would type. Its config, scores and mean IoU over time are stored, one JSON file
per run. A peer is a script that ends by printing "mIoU 0.41"; it runs before ours, within the same budget. Nothing else
should run on the machine, because a budget is wall-clock time.
"""

import argparse
import json
import re
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
import yaml
from machine import write_result

from pixelwise.config import parse_duration

RESULTS = Path(__file__).parent / "results"


def main() -> None:
    on_gpu = torch.cuda.is_available()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--name", help="prefix of the JSON files in results/; default: name of the dataset")
    parser.add_argument("--budgets", nargs="*", default=["2m", "7m"] if on_gpu else ["5m", "15m", "60m"])
    parser.add_argument("--set", action="append", default=[], help="section.key=value for train")
    parser.add_argument("--peer", action="append", default=[], metavar="LABEL=COMMAND", help="as above")
    parser.add_argument("--peers-only", action="store_true", help="only run the peers")
    parser.add_argument("--table", action="store_true", help="only print earlier results")
    arguments = parser.parse_args()
    name, device = arguments.name or arguments.data.name, "gpu" if on_gpu else "cpu"
    for budget in () if arguments.table else arguments.budgets:
        for peer in arguments.peer:
            label, _, command = peer.partition("=")
            values = run_peer(command.format(data=arguments.data, minutes=parse_duration(budget) / 60))
            write_result(RESULTS / f"{name}-peer-{label}-{device}-{budget}.json", values)
        if not arguments.peers_only:
            values = run_ours(arguments.data, budget, arguments.set)
            write_result(RESULTS / f"{name}-{device}-{budget}.json", values)
    for row in rows(name, device):
        print(row)


def run_ours(data: Path, budget: str, settings: list[str]) -> dict[str, Any]:
    """Train and evaluate through the command line; the budget is that of the train command."""
    extra = [part for setting in settings for part in ("--set", setting)]
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        seconds = call(["train", str(data), "-o", str(run), "--budget", budget, *extra])
        scores_path = run / "evaluation.json"
        evaluate_seconds = call(["evaluate", str(run), str(data), "--json", str(scores_path)])
        lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
        config = yaml.safe_load((run / "config.yaml").read_text(encoding="utf-8"))
        scores = json.loads(scores_path.read_text(encoding="utf-8"))
    rates = [line["images_per_second"] for line in lines if "images_per_second" in line]
    return {
        "command": f"pixelwise {shlex.join(['train', data.name, '--budget', budget, *extra])}",
        "train_seconds": round(seconds, 1),
        "evaluate_seconds": round(evaluate_seconds, 1),
        "images_seen": lines[-1]["step"] * config["training"]["batch_size"],
        "median_images_per_second": sorted(rates)[len(rates) // 2],
        "scores": {key: value for key, value in scores.items() if key not in ("model", "data")},
        "curve": [line for line in lines if "val" in line],
        "config": config,
    }


def run_peer(command: str) -> dict[str, Any]:
    start = time.monotonic()
    done = subprocess.run(shlex.split(command), stdout=subprocess.PIPE, text=True, check=True)
    if not (found := re.findall(r"mIoU (0?\.\d+)", done.stdout)):
        raise SystemExit(f"{command} printed no 'mIoU 0.41'; its last lines: {done.stdout.splitlines()[-3:]}")
    named = [Path(part).name if "/" in part else part for part in shlex.split(command)]
    return {
        "command": shlex.join(named),
        "seconds": round(time.monotonic() - start, 1),
        "scores": {"mean_iou": float(found[-1])},
        "output": done.stdout.strip().splitlines()[-2:],
    }


def call(arguments: list[str]) -> float:
    """Return the seconds of one command, including its start."""
    start = time.monotonic()
    subprocess.run([sys.executable, "-m", "pixelwise", *arguments], check=True)
    return time.monotonic() - start


def rows(name: str, device: str) -> Iterator[str]:
    """Return the stored results of this dataset and device, the shortest budget first."""
    pattern = re.compile(rf"{re.escape(name)}-(?:peer-(?P<peer>\w+)-)?{device}-(?P<budget>\w+)\.json")
    found = [(match, path) for path in RESULTS.iterdir() if (match := pattern.fullmatch(path.name))]
    for match, path in sorted(found, key=lambda one: (parse_duration(one[0]["budget"]), one[0]["peer"] or "")):
        scores = json.loads(path.read_text(encoding="utf-8"))["scores"]
        yield f"{match['budget']:>6}  {match['peer'] or 'pixelwise':12} mean IoU {scores['mean_iou']:.3f}"


if __name__ == "__main__":
    main()
