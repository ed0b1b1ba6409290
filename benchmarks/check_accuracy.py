"""False alarms of `pixelwise check` on clean images, and how many planted faults it finds.

    python benchmarks/check_accuracy.py [DATA ...] [--trials 100]

Clean sets are DATA and drawn scenes with ten seeds. A false alarm is an image that a finding names. In each trial, one
pair of a set is changed: two classes are exchanged, the mask is shifted by 3 to 12 pixels in each direction, or a copy
of the image, compressed, reduced, darkened or with noise, is added to another split.
"""

import argparse
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
from machine import write_result

from pixelwise.checks import contradicting_masks, related_images
from pixelwise.checks.context import CheckContext
from pixelwise.checks.runner import run_checks
from pixelwise.data.dataset import Dataset
from pixelwise.data.io.images import Array
from pixelwise.data.sample_stats import SampleStats, compute_thumbnail, measure_appearances, measure_shift
from pixelwise.data.scan import scan_dataset
from pixelwise.data.synthetic import write_dataset

RESULT = Path(__file__).parent / "results" / "check-accuracy-cpu.json"
DRAWN: dict[Literal["streets", "cells"], tuple[int, int]] = {"streets": (192, 256), "cells": (192, 256)}
MIN_SHIFT, MAX_SHIFT = 3, 12
Change = Callable[[Array, np.random.Generator], Array]


def compress(image: Array, quality: int) -> Array:
    _, encoded = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])
    decoded = cv2.imdecode(encoded, cv2.IMREAD_UNCHANGED)
    assert decoded is not None
    return decoded.reshape(*image.shape)


def reduce(image: Array, factor: float) -> Array:
    small = cv2.resize(image, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)
    return small.reshape(*small.shape[:2], image.shape[2])


COPIES: dict[str, Change] = {
    "JPEG, quality 30": lambda image, rng: compress(image, 30),
    "JPEG, quality 75": lambda image, rng: compress(image, 75),
    "half the size": lambda image, rng: reduce(image, 0.5),
    "a third of the size": lambda image, rng: reduce(image, 1 / 3),
    "darkened by a fifth": lambda image, rng: (image * 0.8).astype(image.dtype),
    "noise of std 8": lambda image, rng: np.clip(image + rng.normal(0, 8, image.shape), 0, 255).astype(image.dtype),
}


def exchange(labels: Array, rng: np.random.Generator) -> Array:
    """Exchange two of the classes that each have at least 2 % of the pixels."""
    values, counts = np.unique(labels, return_counts=True)
    first, second = rng.choice(values[counts >= 0.02 * labels.size], 2, replace=False)
    return np.where(labels == first, second, np.where(labels == second, first, labels)).astype(labels.dtype)


def shift(labels: Array, rng: np.random.Generator) -> Array:
    rows, columns = rng.integers(MIN_SHIFT, MAX_SHIFT + 1, 2) * rng.choice([-1, 1], 2)
    return np.roll(labels, (rows, columns), (0, 1))


MASKS: dict[str, Change] = {"two classes exchanged": exchange, "mask shifted": shift}


def change_mask(dataset: Dataset, stats: SampleStats, change: Change, rng: np.random.Generator) -> SampleStats | None:
    image, labels = dataset.read(stats.sample)
    if np.count_nonzero(np.bincount(labels.ravel()) >= 0.02 * labels.size) < 2:
        return None
    mask = change(labels, rng)
    values = {index: value for value, index in dataset.classes.label_mapping.items()}
    appearances = {values[i]: seen for i, seen in measure_appearances(mask, image).items() if i in values}
    return replace(stats, appearances=appearances, shift=measure_shift(mask, image))


def find(dataset: Dataset, module: Any) -> set[str]:
    context = CheckContext(dataset=dataset, splits={})
    return {file for check in module.CHECKS for finding in check(context) for file in finding.files}


def plant(dataset: Dataset, trials: int) -> Iterator[tuple[str, int, int]]:
    """Yield each kind of fault, how many were planted and how many were found."""
    rng = np.random.default_rng(0)
    candidates = [s for s in dataset.stats if s.appearances]
    for name, change in MASKS.items():
        found = planted = 0
        for index in rng.permutation(len(candidates))[:trials]:
            stats = candidates[index]
            changed = change_mask(dataset, stats, change, rng)
            if changed is not None:
                others = tuple(changed if s is stats else s for s in dataset.stats)
                planted += 1
                found += dataset.get_mask_file(stats.sample) in find(
                    replace(dataset, stats=others), contradicting_masks
                )
        yield name, planted, found
    for name, change in COPIES.items():
        found = planted = 0
        for index in rng.permutation(len(candidates))[:trials]:
            stats = candidates[index]
            image = change(dataset.read_image(stats.sample), rng)
            other = "val" if stats.sample.split != "val" else "train"
            sample = replace(stats.sample, image_path=dataset.root / "copy.png", split=other)
            copy = replace(
                stats, sample=sample, thumbnail=compute_thumbnail(image), image_fingerprint=bytes([index % 256])
            )
            planted += 1
            found += "copy.png" in find(replace(dataset, stats=(*dataset.stats, copy)), related_images)
        yield f"copy in another split: {name}", planted, found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, nargs="*")
    parser.add_argument("--trials", type=int, default=100)
    arguments = parser.parse_args()
    alarms: Counter[str] = Counter()
    num_clean, rows = 0, []
    with tempfile.TemporaryDirectory() as folder:
        drawn = []
        for name, size in DRAWN.items():
            for seed in range(10):
                root = Path(folder, f"{name}{seed}")
                write_dataset(root, name, num_train=60, num_val=20, num_test=20, size=size, seed=1000 * seed)
                drawn.append(root)
        for root in [*arguments.data, *drawn]:
            dataset = scan_dataset(Dataset.load(root))
            num_clean += len(dataset)
            report = run_checks(dataset)
            alarms.update({f.code: len(f.files) for f in report.findings if f.files})
            if root not in drawn[1:10] and root not in drawn[11:]:
                for fault, planted, found in plant(dataset, arguments.trials):
                    rows.append({"set": root.name, "fault": fault, "planted": planted, "found": found})
                    print(f"{root.name:12} {fault:50} {found:4} of {planted}", flush=True)
    print(f"{num_clean} clean images; files named by findings: {dict(alarms)}")
    write_result(RESULT, {"clean_images": num_clean, "files_named": dict(alarms), "planted": rows})


if __name__ == "__main__":
    main()
