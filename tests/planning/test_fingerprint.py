import numpy as np
import pytest

from pixelwise.planning.prepare import prepare
from pixelwise.recipe import Recipe


def test_figures_of_the_training_images_alone(streets):
    prepared = prepare(streets, Recipe())
    seen = prepared.seen
    assert (seen.num_train, seen.num_val) == (12, 4)
    assert seen.median_size == (64, 96)
    assert (seen.channels, seen.dtype) == (3, "uint8")
    assert seen.upright

    pairs = [prepared.dataset.read_pair(s) for s in prepared.splits["train"]]
    pixels = np.concatenate([image.reshape(-1, 3) for image, _ in pairs]).astype(float)
    assert seen.mean == pytest.approx(pixels.mean(0), abs=1e-3)
    assert seen.deviation == pytest.approx(pixels.std(0), abs=1e-3)
    counts = np.bincount(np.concatenate([labels.ravel() for _, labels in pairs]), minlength=8)
    assert seen.class_shares == pytest.approx(counts / counts.sum())


def test_cells_have_no_up(cells):
    assert not prepare(cells, Recipe()).seen.upright
