"""Fixtures that more than one test file uses."""

from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

REPOSITORY = Path(__file__).resolve().parents[1]

# The clock of a busy machine must not fail a test, and every run tries the same examples.
settings.register_profile("pixelwise", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("pixelwise")


@pytest.fixture(scope="session", autouse=True)
def _two_threads() -> None:
    """The same thread count everywhere: sums over more threads round differently."""
    import torch

    torch.set_num_threads(2)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real data sets that lie beside the checkout, not in it."""
    folder = REPOSITORY.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"needs the data sets in {folder}, which are not part of the repository")
    return folder


@pytest.fixture(scope="session")
def streets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of 12 + 4 + 4 synthetic street scenes, RGB, 64 × 96, several classes. Read only."""
    return _synthetic(tmp_path_factory, "streets", (64, 96))


@pytest.fixture(scope="session")
def cells(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of 12 + 4 + 4 synthetic cell images, gray, 64 × 64, two classes. Read only."""
    return _synthetic(tmp_path_factory, "cells", (64, 64))


def _synthetic(factory: pytest.TempPathFactory, name: str, size: tuple[int, int]) -> Path:
    from pixelwise.data.synthetic import write_dataset

    root = factory.mktemp("synthetic") / name
    write_dataset(root, name, num_train=12, num_val=4, num_test=4, size=size, seed=0)
    return root
