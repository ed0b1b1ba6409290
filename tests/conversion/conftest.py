"""Small datasets with what is difficult to convert."""

from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml

from pixelwise.data.io.images import Array, write_png

Make = Callable[..., Path]


def draw_labels(seed: int, *, ignored: bool) -> Array:
    """Draw (20, 24) uint8 labels: shapes with holes and islands of 3 classes, and ignored pixels."""
    rng = np.random.default_rng(seed)
    labels = np.zeros((20, 24), np.uint8)
    cv2.rectangle(labels, (2, 2), (17, 14), 1, 2)
    cv2.circle(labels, (9, 8), 3, 2, -1)
    labels[rng.random(labels.shape) < 0.05] = 1
    labels[8, 9] = 0
    if ignored:
        labels[15:, 18:] = 255
        labels[7, 9] = 255
    return labels


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """Return `make(names=..., splits=..., ignored=...)`, which writes a folder with two JPEG images in each split."""

    def write(
        names: Sequence[str] = ("background", "ring", "blob"),
        splits: Sequence[str] = ("train", "val", "test"),
        ignored: bool = True,
    ) -> Path:
        root = tmp_path / "source"
        for number, split in enumerate(splits):
            for seed in (2 * number, 2 * number + 1):
                name = f"{split}/city/{seed % 2}.1" if split else f"city/{seed % 2}.1"
                image = np.random.default_rng(seed).integers(0, 256, (20, 24, 3), np.uint8)
                (root / "images" / name).parent.mkdir(parents=True, exist_ok=True)
                (root / "images" / f"{name}.jpg").write_bytes(cv2.imencode(".jpg", image)[1].tobytes())
                write_png(root / "masks" / f"{name}.png", draw_labels(seed, ignored=ignored))
        text = {"names": list(names), "colors": [[0, 0, 0], [250, 0, 0], [0, 250, 0]]}
        (root / "dataset.yaml").write_text(yaml.safe_dump(text))
        return root

    return write
