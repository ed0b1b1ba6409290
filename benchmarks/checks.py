"""Duration of `pixelwise check`. Goal: 10,000 pairs of 512x512 in under 3 minutes on 2 cores.

    python benchmarks/checks.py [--pairs 10000] [--size 512] [--set DIR]

Draws street scenes into a temporary folder (or into DIR, unless it contains some), each different,
and checks them as a user would. Drawing takes longer than the check and is not counted.
"""

import argparse
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np
from machine import write_result

from pixelwise import check
from pixelwise.data.synthetic import STREET_NAMES, street_scene

SCENE = (256, 256)
"""Drawn at this size and enlarged, with noise of its own: scenes of 512x512 take five times as long to draw."""
SPLITS = {"train": 0.8, "val": 0.1, "test": 0.1}


def draw(task: tuple[Path, str, int, int]) -> None:
    """One pair: the image as JPEG, as most datasets have it, the mask as PNG."""
    root, split, seed, size = task
    image, labels = street_scene(seed, SCENE)
    large = cv2.resize(image, (size, size), interpolation=cv2.INTER_CUBIC)
    noise = np.random.default_rng(seed).normal(0, 6, large.shape)
    noisy = np.clip(large + noise, 0, 255).astype(np.uint8)
    large_labels = cv2.resize(labels, (size, size), interpolation=cv2.INTER_NEAREST)
    name = f"{seed:06}"
    for path, pixels in (
        (root / f"images/{split}/{name}.jpg", cv2.cvtColor(noisy, cv2.COLOR_RGB2BGR)),
        (root / f"labels/{split}/{name}.png", large_labels),
    ):
        path.parent.mkdir(parents=True, exist_ok=True)
        if not cv2.imwrite(str(path), pixels):
            raise OSError(f"{path} cannot be written")


def draw_set(root: Path, pairs: int, size: int) -> None:
    tasks: list[tuple[Path, str, int, int]] = []
    for split, share in SPLITS.items():
        start = len(tasks)
        tasks += [(root, split, seed, size) for seed in range(start, start + round(share * pairs))]
    with ProcessPoolExecutor() as pool:
        for _ in pool.map(draw, tasks, chunksize=16):
            pass
    (root / "dataset.yaml").write_text(f"names: [{', '.join(STREET_NAMES)}]\n", encoding="utf-8")


@contextmanager
def folder(given: Path | None) -> Iterator[Path]:
    if given is not None:
        yield given
        return
    with tempfile.TemporaryDirectory() as made:
        yield Path(made)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=10_000)
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--set", type=Path, default=None)
    arguments = parser.parse_args()
    with folder(arguments.set) as root:
        if not (root / "dataset.yaml").exists():
            draw_set(root, arguments.pairs, arguments.size)
        start = time.perf_counter()
        report = check(root)
        seconds = time.perf_counter() - start
    rate = report.num_images / seconds
    print(f"{report.num_images} pairs: {seconds:.1f} s, {rate:.0f} pairs/s; {[f.code for f in report.findings]}")
    result = {
        "pairs": report.num_images,
        "size": arguments.size,
        "seconds": round(seconds, 2),
        "pairs_per_second": round(rate, 1),
        "findings": {f.code: len(f.files) for f in report.findings},
    }
    write_result(Path(__file__).parent / "results" / "checks-cpu.json", result)


if __name__ == "__main__":
    main()
