"""Datasets that are just large enough to be evaluated."""

from pathlib import Path

import numpy as np

from pixelwise.data.io.images import write_png


def pairs(root: Path, folders: list[str], *, size: tuple[int, int] = (8, 12)) -> Path:
    """Write two pairs into each folder below images/ and masks/."""
    rng = np.random.default_rng(0)
    for folder in folders:
        for stem in ("a", "b"):
            write_png(root / "images" / folder / f"{stem}.png", rng.integers(0, 255, (*size, 3), np.uint8))
            write_png(root / "masks" / folder / f"{stem}.png", rng.integers(0, 2, size, np.uint8))
    return root
