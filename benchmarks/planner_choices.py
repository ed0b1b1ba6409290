"""Compare what the planner chooses with a grid of sample sizes and networks, at equal processor time.

    python benchmarks/planner_choices.py --data camvid=path/to/camvid isbi2012=path/to/isbi2012
    python benchmarks/planner_choices.py --datasets streets vessels --budgets 45s 2m --seeds 1

A budget is that of a computer with two cores, so a run gets twice as many seconds of one core. They are processor time,
of one thread and the threads that load images, so other work on the computer hardly matters. Evaluations are not
included. Each run is scored on the validation and on the test images. The table compares the plan with the row of the
grid that is the best on validation, by their scores on test, as means over seeds.

Each run is a JSON file in the work folder; the same command continues after a stop.
"""

import argparse
import itertools
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import torch
from machine import write_result

from pixelwise.api.train_run import load_initial_weights
from pixelwise.config import Config, parse_duration
from pixelwise.data.io.images import Array, write_png
from pixelwise.data.loader import prefetch
from pixelwise.data.synthetic import write_dataset
from pixelwise.devices import choose_precision
from pixelwise.evaluation.evaluate import score_samples
from pixelwise.planning import planner
from pixelwise.planning.heuristics import MIN_CROP_PIXELS, compute_crop
from pixelwise.planning.prepare_data import TrainingData, prepare_data
from pixelwise.training.trainer import Trainer

CORES = 2
CPU = torch.device("cpu")
RESULT = Path(__file__).parent / "results" / "planner-choices-cpu.json"
STEM = {"network.max_channels": 256, "network.stem_stride": 2}
NETWORKS: Mapping[str, Mapping[str, Any]] = {
    "unet16": {"network.base_channels": 16, **STEM},
    "unet32": {"network.base_channels": 32, **STEM},
    "lite0": {
        "network.encoder": "tf_efficientnet_lite0",
        "network.encoder_weights": "imagenet",
    },
}
CROPS = {"small": MIN_CROP_PIXELS, "large": 4 * MIN_CROP_PIXELS}
PLAN = "plan"
ARMS = (PLAN, *(f"{network}-{crop}" for network in NETWORKS for crop in CROPS))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", nargs="*", default=[], metavar="NAME=FOLDER", help="datasets next to the drawn ones")
    parser.add_argument("--datasets", nargs="+", help="names; default: all")
    parser.add_argument("--budgets", nargs="+", default=["45s", "2m", "5m"])
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=ARMS, metavar="ARM", help="default: all")
    parser.add_argument("--seeds", type=int, default=2, help="number of runs of each row")
    parser.add_argument("--work", type=Path, default=Path("runs/planner-choices"))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    folders = {name: Path(folder) for name, _, folder in (each.partition("=") for each in arguments.data)}
    names = arguments.datasets or [*folders, *DRAWN]
    for seed, name in itertools.product(range(arguments.seeds), names):
        for budget, arm in itertools.product(arguments.budgets, arguments.arms):
            path = arguments.work / f"{name}-{budget}-{arm}-{seed}.json"
            if not path.exists():
                folder = folders.get(name) or draw_dataset(arguments.work / "data" / name, name)
                values = run(folder, arm, CORES * parse_duration(budget), seed)
                path.write_text(json.dumps({"dataset": name, "budget": budget, "arm": arm, **values}), encoding="utf-8")
                print(
                    f"{path.stem}: {values['steps']} steps, val {values['val']:.3f}, test {values['test']:.3f}",
                    flush=True,
                )
    runs = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(arguments.work.glob("*.json"))]
    write_result(RESULT, {"cores": CORES, "runs": runs})
    for line in make_table(runs):
        print(line)


# ---------------------------------------------------------------- runs


def run(folder: Path, arm: str, seconds: float, seed: int) -> dict[str, Any]:
    """Train for `seconds` of processor time; return the config and the scores."""
    start = time.process_time()
    data = prepare_data(folder, Config().replace({"training.seed": seed}))
    config = make_config(data, arm, seconds, seed, start)
    trainer, steps = train(data, config, seconds - (time.process_time() - start))
    predictor = trainer.predictor()
    scores = {}
    for split in ("val", "test"):
        samples = data.splits[split]
        names = data.classes.names
        scores[split] = score_samples(predictor, trainer.dataset, samples, boundaries=False).compute_scores(names)
    return {
        "seed": seed,
        "steps": steps,
        **{split: values["mean_iou"] for split, values in scores.items()},
        "iou": {name: values["iou"] for name, values in scores["test"]["per_class"].items()},
        "network": {key: getattr(config.network, key) for key in ("name", "base_channels", "stem_stride", "encoder")},
        "crop_size": config.data.crop_size,
        "batch_size": config.training.batch_size,
    }


def make_config(data: TrainingData, arm: str, seconds: float, seed: int, start: float) -> Config:
    """Return the config of the plan, or the same choices with a network and a sample size of the grid."""
    changes: dict[str, Any] = {"training.budget_seconds": seconds, "training.seed": seed}
    if arm != PLAN:
        network, _, crop = arm.partition("-")
        size = compute_crop(data.fingerprint.median_size, CROPS[crop])
        changes |= {**NETWORKS[network], "data.crop_size": size}
    planner.time = SimpleNamespace(monotonic=time.process_time)  # type: ignore[assignment, attr-defined]
    return planner.make_plan(data, CPU, choose_precision("auto", CPU), changes, start)


def train(data: TrainingData, config: Config, seconds: float) -> tuple[Trainer, int]:
    """Train until the processor time is used, with the schedule of a run; return the number of steps, too."""
    arguments = data.trainer_arguments(config)
    weights = load_initial_weights(config, arguments["spec"], None)
    trainer = Trainer(**arguments, device=CPU, initial_weights=weights)
    start, progress, taken = time.process_time(), 0.0, 0
    for step, batch in prefetch(trainer.batches.make, itertools.count()):
        trainer.step(batch, progress)
        before, progress = progress, min(1.0, (time.process_time() - start) / seconds)
        trainer.update_average(step, progress - before)
        taken = step + 1
        if progress >= 1:
            break
    return trainer, taken


def make_table(runs: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Yield a Markdown row for each dataset and budget."""
    yield "| Dataset | Budget | Plan | Test | Best on validation | Test | Difference |"
    yield "|---|---|---|---|---|---|---|"
    differences = []
    for (name, budget), group in group_by(runs, lambda run: (run["dataset"], run["budget"])).items():
        arms = group_by(group, lambda run: run["arm"])
        if PLAN not in arms or len(arms) == 1:
            continue
        plan = arms.pop(PLAN)
        best = max(arms, key=lambda arm: mean(arms[arm], "val"))
        difference = mean(plan, "test") - mean(arms[best], "test")
        differences.append(difference)
        chosen = f"{plan[0]['network']['encoder'] or plan[0]['network']['base_channels']}, {plan[0]['crop_size']}"
        cells = [name, budget, chosen, f"{mean(plan, 'test'):.3f}", best, f"{mean(arms[best], 'test'):.3f}"]
        yield f"| {' | '.join(cells)} | {difference:+.3f} |"
    if differences:
        yield f"\nmean difference {np.mean(differences):+.3f}, lowest {min(differences):+.3f}"


def group_by(
    runs: Sequence[Mapping[str, Any]], key: Callable[[Mapping[str, Any]], Any]
) -> dict[Any, list[Mapping[str, Any]]]:
    groups: dict[Any, list[Mapping[str, Any]]] = {}
    for each in runs:
        groups.setdefault(key(each), []).append(each)
    return groups


def mean(runs: Sequence[Mapping[str, Any]], split: str) -> float:
    return float(np.mean([each[split] for each in runs]))


# ---------------------------------------------------------------- drawn datasets


def draw_dataset(folder: Path, name: str) -> Path:
    """Write a drawn dataset unless it exists."""
    if not (folder / "dataset.yaml").exists():
        DRAWN[name](folder)
    return folder


def draw_streets(folder: Path) -> None:
    write_dataset(folder, "streets", num_train=160, num_val=30, num_test=40, size=(384, 512))


def draw_cells(folder: Path) -> None:
    write_dataset(folder, "cells", num_train=40, num_val=10, num_test=20, size=(384, 384))


def write_pairs(folder: Path, draw: Callable[[np.random.Generator], tuple[Array, Array]], names: Sequence[str]) -> None:
    for split, first, count in (("train", 0, 60), ("val", 1000, 15), ("test", 2000, 30)):
        for seed in range(first, first + count):
            image, labels = draw(np.random.default_rng(seed))
            write_png(folder / f"images/{split}/{seed:04}.png", image)
            write_png(folder / f"labels/{split}/{seed:04}.png", labels)
    (folder / "dataset.yaml").write_text(f"names: [{', '.join(names)}]\n", encoding="utf-8")


def draw_texture(rng: np.random.Generator, size: tuple[int, int], grain: float) -> Array:
    """Return smooth noise (H, W) with mean 0 and standard deviation 1."""
    noise = cv2.GaussianBlur(rng.normal(size=size), (0, 0), grain)
    return np.asarray((noise - noise.mean()) / noise.std())


def draw_vessels(folder: Path) -> None:
    """Thin branches of 1 to 5 pixels on an uneven background, as in a photo of a retina."""

    def draw(rng: np.random.Generator) -> tuple[Array, Array]:
        size = (512, 512)
        labels = np.zeros(size, np.uint8)
        tips = [(rng.uniform(0, 512, 2), rng.uniform(0, 2 * np.pi), float(rng.uniform(3, 5))) for _ in range(6)]
        while tips:
            place, angle, width = tips.pop()
            for _ in range(int(rng.integers(20, 60))):
                angle += rng.normal(0, 0.15)
                ahead = place + 6 * np.array([np.cos(angle), np.sin(angle)])
                ends = [tuple(int(value) for value in point) for point in (place, ahead)]
                cv2.line(labels, ends[0], ends[1], 1, max(1, round(width)))
                place, width = ahead, width * 0.985
            if width > 1.2:
                tips += [(place, angle + turn, width * 0.75) for turn in (-0.5, 0.5)]
        depth = cv2.GaussianBlur(labels.astype(float), (0, 0), 1.0) * rng.uniform(18, 30)
        gray = 120 + 18 * draw_texture(rng, size, 60) + 5 * draw_texture(rng, size, 2) - depth + rng.normal(0, 5, size)
        image = gray[..., None] * np.array([1.2, 0.7, 0.4])
        return image.clip(0, 255).astype(np.uint8), labels

    write_pairs(folder, draw, ("background", "vessel"))


def draw_defects(folder: Path) -> None:
    """Brushed metal; a third of the images have a scratch or a few small spots."""

    def draw(rng: np.random.Generator) -> tuple[Array, Array]:
        size = (512, 512)
        labels = np.zeros(size, np.uint8)
        if (kind := rng.integers(6)) == 0:
            place, angle = rng.uniform(60, 450, 2), rng.uniform(0, 2 * np.pi)
            end = place + rng.uniform(30, 90) * np.array([np.cos(angle), np.sin(angle)])
            cv2.line(labels, tuple(map(int, place)), tuple(map(int, end)), 1, 2)
        elif kind == 1:
            for _ in range(int(rng.integers(1, 5))):
                cv2.circle(labels, tuple(rng.integers(20, 490, 2).tolist()), int(rng.integers(3, 9)), 2, -1)
        brushed = cv2.blur(rng.normal(0, 40, size), (41, 1))
        gray = 140 + brushed + 12 * draw_texture(rng, size, 80) + rng.normal(0, 4, size)
        gray += cv2.GaussianBlur(np.where(labels == 1, 35.0, 0) - np.where(labels == 2, 45.0, 0), (0, 0), 0.8)
        image = np.repeat(gray.clip(0, 255).astype(np.uint8)[..., None], 3, axis=2)
        return image, labels

    write_pairs(folder, draw, ("metal", "scratch", "spot"))


DRAWN: Mapping[str, Callable[[Path], None]] = {
    "streets": draw_streets,
    "cells": draw_cells,
    "vessels": draw_vessels,
    "defects": draw_defects,
}


if __name__ == "__main__":
    main()
