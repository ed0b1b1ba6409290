import shutil
from pathlib import Path

import numpy as np
import pytest

from pixelwise.config import DataConfig
from pixelwise.data.dataset import Dataset
from pixelwise.data.io.images import write_png
from pixelwise.data.scan import scan_dataset
from pixelwise.data.splits.splits import assign_folds, assign_splits, find_class_presence

PATIENTS = DataConfig(group_by=r"p(\d+)", val_fraction=0.25)


def write(root: Path, *names: str) -> None:
    """Pairs with a class of their own for the last patient."""
    rng = np.random.default_rng(len(names))
    for name in names:
        write_png(root / f"images/{name}.png", rng.integers(0, 256, (4, 4), np.uint8))
        write_png(root / f"masks/{name}.png", np.array([[0, 1], [1, 2 if name.endswith("rare") else 0]], np.uint8))


def look(root: Path) -> Dataset:
    """What training reads: all but the test images."""
    dataset = Dataset.load(root)
    return scan_dataset(dataset, [s for s in dataset.samples if s.split != "test"])


@pytest.fixture
def patients(tmp_path: Path) -> Path:
    write(tmp_path, *(f"p{p}_{i}" for p in range(8) for i in range(3)))
    return tmp_path


def test_patients_are_whole_in_one_split(patients: Path) -> None:
    division = assign_splits(look(patients), PATIENTS, 0)
    val = {division.groups[s] for s in division.splits["val"]}
    assert len(val) == 2
    assert val.isdisjoint(division.groups[s] for s in division.splits["train"])
    assert division.notes == (
        "no val split: 6 of the 24 training images in 2 of 8 groups, drawn with seed 0, validate instead of training.",
    )
    assert division.crossing is None


def test_classes_are_shared_out(tmp_path: Path) -> None:
    write(tmp_path, *(f"{i}" for i in range(18)), "a_rare", "b_rare")
    dataset = look(tmp_path)
    presence = find_class_presence(dataset, list(dataset.samples))
    assert {s.name for s, shown in presence.items() if 2 in shown} == {"a_rare", "b_rare"}
    for seed in range(3):
        splits = assign_splits(dataset, DataConfig(), seed).splits
        assert sum(s.name.endswith("rare") for s in splits["val"]) == 1


def test_own_splits_stay_and_a_patient_in_two_is_told(tmp_path: Path) -> None:
    write(tmp_path, "train/p1_a", "train/p2_a", "val/p2_b", "val/p3_a", "test/p1_b")
    division = assign_splits(look(tmp_path), PATIENTS, 0)
    assert [len(division.splits[s]) for s in ("train", "val", "test")] == [2, 2, 1]
    assert division.notes == ()
    assert division.crossing is not None
    assert "'1' (train, test), '2' (train, val)" in division.crossing
    assert assign_splits(look(tmp_path), DataConfig(), 0).crossing is None


def test_folds_pool_train_and_val_and_leave_test_unread(tmp_path: Path) -> None:
    write(tmp_path, *(f"train/p{i}_a" for i in range(6)), *(f"val/p{i}_b" for i in range(6)), "test/p9_a")
    (tmp_path / "images/test/p9_a.png").write_bytes(b"not an image")
    folds = assign_folds(look(tmp_path), PATIENTS, 3, 0)
    assert len(folds) == 3
    for fold in folds:
        assert [len(fold.splits[s]) for s in ("train", "val", "test")] == [8, 4, 1]
        assert len({fold.groups[s] for s in fold.splits["val"]}) == 2
        assert fold.crossing is None
    assert folds[0].notes == (
        "3 folds of 12 images in 6 groups (train and val split together: 6 + 6), drawn with seed 0: each validates "
        "in one fold and trains in the others; the 1 test images stay aside.",
    )


def test_blocks_are_told_once(tmp_path: Path) -> None:
    write(tmp_path, *(f"tile_{r}_{c}" for r in range(8) for c in range(8)))
    division = assign_splits(look(tmp_path), DataConfig(), 0)
    assert len(division.notes) == 2
    assert len(division.groups) == 64
    shutil.move(tmp_path / "images/tile_0_0.png", tmp_path / "images/photo.png")
    shutil.move(tmp_path / "masks/tile_0_0.png", tmp_path / "masks/photo.png")
    assert assign_splits(look(tmp_path), DataConfig(), 0).groups == {}
