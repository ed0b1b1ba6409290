"""Datasets drawn from a seed: for the demo, the tests and the examples.

Two kinds. ``streets``: eight classes at the imbalance of a real driving dataset, drawn by
``streets.py``. ``cells``: touching cells with thin borders, ``cells.py``.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
import numpy.typing as npt
import yaml

from pixelwise.data.synthetic.canvas import STREET_COLORS, STREET_NAMES, check_picture
from pixelwise.data.synthetic.cells import CELL_COLORS, CELL_NAMES, cell_image
from pixelwise.data.synthetic.streets import street_scene
from pixelwise.errors import InvalidArgumentError, unknown_name

__all__ = [
    "CELL_COLORS",
    "CELL_NAMES",
    "STREET_COLORS",
    "STREET_NAMES",
    "cell_image",
    "street_scene",
    "write_dataset",
]

Picture = tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]

SEEDS_PER_DATASET = 1_000_000
"""Images of one dataset have consecutive seeds, so no two of them, in any split, are the same."""


@dataclass(slots=True, frozen=True, kw_only=True)
class Kind:
    """One row of ``KINDS``: how to draw a picture, and what its labels mean."""

    draw: Callable[[int, tuple[int, int]], Picture]
    names: tuple[str, ...]
    colors: tuple[tuple[int, int, int], ...]


KINDS = {
    "streets": Kind(draw=street_scene, names=STREET_NAMES, colors=STREET_COLORS),
    "cells": Kind(draw=cell_image, names=CELL_NAMES, colors=CELL_COLORS),
}


def write_dataset(
    root: Path,
    kind: Literal["streets", "cells"],
    *,
    num_train: int,
    num_val: int,
    num_test: int,
    size: tuple[int, int],
    seed: int = 0,
) -> None:
    """Write a dataset in the folder format: the same arguments always give the same pixels.

    ``root/images/SPLIT/NNNN.png`` and ``root/labels/SPLIT/NNNN.png`` (8-bit class indices) for the
    splits ``train``, ``val`` and ``test``, and ``root/dataset.yaml`` with names and colors. A split
    without images gets no folder. ``size`` is (height, width) in pixels, each at least 32.

    Raises ``InvalidArgumentError`` for an unknown kind, a negative number or seed, no images at all, a size
    below 32, and a ``root`` that already holds something.
    """
    if kind not in KINDS:
        raise unknown_name("kind of synthetic data", kind, KINDS)
    counts = {"train": num_train, "val": num_val, "test": num_test}
    _check_request(root, counts, size, seed)
    first = seed * SEEDS_PER_DATASET
    for split, count in counts.items():
        _write_split(root, split, KINDS[kind], range(first, first + count), size)
        first += count
    _write_description(root, KINDS[kind])


def _check_request(root: Path, counts: dict[str, int], size: tuple[int, int], seed: int) -> None:
    if min(counts.values()) < 0 or not 0 < sum(counts.values()) <= SEEDS_PER_DATASET:
        asked = ", ".join(f"{count} {split}" for split, count in counts.items())
        raise InvalidArgumentError(
            f"cannot draw {asked} images; ask for 0 or more per split and 1 to {SEEDS_PER_DATASET} in all."
        )
    check_picture(seed, size)
    if root.exists() and (not root.is_dir() or any(root.iterdir())):
        raise InvalidArgumentError(f"{root} is in the way; name a folder that is new or empty.")


def _write_split(root: Path, split: str, kind: Kind, seeds: range, size: tuple[int, int]) -> None:
    for number, seed in enumerate(seeds):
        image, labels = kind.draw(seed, size)
        _write_png(root / "images" / split / f"{number:04}.png", image)
        _write_png(root / "labels" / split / f"{number:04}.png", labels)


def _write_png(path: Path, pixels: npt.NDArray[np.uint8]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    color = pixels.ndim == 3 and pixels.shape[2] == 3
    _, encoded = cv2.imencode(".png", pixels[..., ::-1] if color else pixels)
    path.write_bytes(encoded.tobytes())


def _write_description(root: Path, kind: Kind) -> None:
    description = {"names": list(kind.names), "colors": [list(color) for color in kind.colors]}
    text = yaml.safe_dump(description, sort_keys=False, default_flow_style=None)
    (root / "dataset.yaml").write_text(text, encoding="utf-8")
