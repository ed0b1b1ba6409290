"""Folds side by side, with the training of one of them a stand-in; tests/test_commands.py trains in earnest."""

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from pixelwise.data.classes import describe_classes
from pixelwise.errors import CheckpointError, InvalidArgumentError
from pixelwise.metrics import ConfusionMatrix, compute_scores
from pixelwise.training.cross_validation import (
    CrossValidationResult,
    Folds,
    FoldsFolder,
    read_folds,
    result_of,
    train_folds,
    write_folds,
)

CLASSES = describe_classes({"names": ["a", "b"]})


def of_fold(number: int) -> Mapping[str, Any]:
    return compute_scores(ConfusionMatrix.from_counts([[number, 1], [0, 3]]), None, CLASSES.names, num_images=number)


@pytest.fixture
def folder(tmp_path: Path) -> FoldsFolder:
    return FoldsFolder(tmp_path / "run")


def run(
    folder: FoldsFolder,
    folds: Folds,
    train_fold: Callable[[int, float], Mapping[str, Any]],
    seconds_each: float | None = None,
) -> CrossValidationResult:
    return train_folds(folder, folds, train_fold, seconds_each=seconds_each, classes=CLASSES)


def test_each_fold_is_trained_once_and_the_result_is_written(folder: FoldsFolder) -> None:
    trained: list[int] = []

    def train_fold(number: int, started: float) -> Mapping[str, Any]:
        trained.append(number)
        return of_fold(number)

    result = run(folder, Folds(num_folds=3, budget_seconds=60.0), train_fold)
    assert trained == [1, 2, 3]
    assert result.run == folder.path
    assert result.folds == tuple(folder.path / f"fold-{i}" for i in (1, 2, 3))
    assert result.report.exists()
    assert result.scores["pooled"]["num_images"] == 6
    assert read_folds(folder) == Folds(num_folds=3, budget_seconds=60.0, scores=dict(result.scores["folds"]))
    assert result_of(folder, read_folds(folder)) == result


def test_what_is_done_stays_done(folder: FoldsFolder) -> None:
    """Stopped in the second of three; even a second that was done before a first is kept."""

    def stopped(number: int, started: float) -> Mapping[str, Any]:
        if number == 1:
            return of_fold(1)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(folder, Folds(num_folds=12, budget_seconds=None), stopped)
    folds = read_folds(folder)
    assert list(folds.scores) == ["fold-1"]
    assert not folds.finished
    folds.scores["fold-11"] = of_fold(11)
    trained: list[int] = []
    result = run(folder, folds, lambda number, started: trained.append(number) or of_fold(number))  # type: ignore[func-returns-value]
    assert trained == [2, 3, 4, 5, 6, 7, 8, 9, 10, 12]
    assert list(result.scores["folds"]) == [f"fold-{i}" for i in range(1, 13)]


def test_a_late_fold_takes_its_time_from_the_next(folder: FoldsFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each has 10 seconds from when the schedule says, or from its own start if that is earlier."""
    now, starts, takes = [100.0], [], iter([14.0, 3.0, 10.0])
    monkeypatch.setattr(time, "monotonic", lambda: now[0])

    def train_fold(number: int, started: float) -> Mapping[str, Any]:
        starts.append(started)
        now[0] += next(takes)
        return of_fold(number)

    run(folder, Folds(num_folds=3, budget_seconds=30.0), train_fold, seconds_each=10.0)
    assert starts == [100.0, 110.0, 117.0]


def test_a_folder_in_use_is_refused(folder: FoldsFolder) -> None:
    folder.require_free()
    write_folds(folder, Folds(num_folds=3, budget_seconds=None))
    with pytest.raises(
        InvalidArgumentError, match=r"run already holds folds \(folds\.json\); continue them with --resume"
    ):
        folder.require_free()
    folder.summary.unlink()
    (folder.path / "config.yaml").touch()
    with pytest.raises(InvalidArgumentError, match=r"already holds a run \(config\.yaml\)"):
        folder.require_free()


def test_taken_back_it_is_as_before(folder: FoldsFolder) -> None:
    folder.fold(1).path.mkdir(parents=True)
    write_folds(folder, Folds(num_folds=2, budget_seconds=None))
    (folder.path / "thesis.txt").touch()
    folder.take_back(2)
    assert [path.name for path in folder.path.iterdir()] == ["thesis.txt"]
    (folder.path / "thesis.txt").unlink()
    folder.take_back(2)
    assert not folder.path.exists()


@pytest.mark.parametrize(
    "content", ["", "[]", '{"num_folds": 3}', '{"num_folds": "x", "budget_seconds": 1, "folds": {}}']
)
def test_a_damaged_summary_is_named(folder: FoldsFolder, content: str) -> None:
    folder.path.mkdir()
    folder.summary.write_text(content, encoding="utf-8")
    with pytest.raises(CheckpointError, match=r"folds\.json cannot be read .* start new folds elsewhere"):
        read_folds(folder)
