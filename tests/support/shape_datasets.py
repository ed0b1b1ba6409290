"""Helpers that write and read datasets whose labels are shapes."""

import contextlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pixelwise.cli import main
from pixelwise.data.dataset import Dataset
from pixelwise.data.io.images import Array, write_png

SIZE = (6, 8)
"""Default height and width of images."""


def write_image(path: Path, size: tuple[int, int] = SIZE) -> Path:
    write_png(path, np.random.default_rng(len(path.name)).integers(0, 256, (*size, 3), np.uint8))
    return path


def write_json(path: Path, content: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


def read_masks(root: Path, format: str) -> dict[str, Array]:
    """Read the mask of every sample of a dataset whose format is detected: name → values."""
    dataset = Dataset.load(root)
    assert dataset.format == format
    return {sample.name: dataset.read_mask(sample) for sample in dataset.samples}


def make_mask(*areas: tuple[int, slice, slice], size: tuple[int, int] = SIZE) -> list[list[int]]:
    """Make a mask from areas of a value, rows and columns; later areas cover earlier ones."""
    mask = np.zeros(size, int)
    for value, rows, columns in areas:
        mask[rows, columns] = value
    return mask.tolist()


def list_relative(root: Path, paths: Sequence[Path]) -> list[str]:
    return [path.relative_to(root).as_posix() for path in paths]


def run_check(root: Path, tmp_path: Path) -> dict[str, Any]:
    """Return the JSON that `pixelwise check` writes, with any exit code."""
    with contextlib.suppress(SystemExit):
        main.main(["check", str(root), "--json", str(tmp_path / "check.json")])
    answer: dict[str, Any] = json.loads((tmp_path / "check.json").read_text(encoding="utf-8"))
    return answer


def get_finding(answer: dict[str, Any], code: str) -> dict[str, Any]:
    """Return the only finding with a code."""
    (found,) = [f for f in answer["findings"] if f["code"] == code]
    return dict(found)
