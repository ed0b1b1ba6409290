"""The folder of folds; `tests/api/test_train_folds.py` trains some."""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from pixelwise.data.description import describe_classes, parse_description
from pixelwise.errors import CheckpointError, InvalidArgumentError
from pixelwise.metrics import ConfusionMatrix, compute_scores
from pixelwise.reports.commands import ModelCommands
from pixelwise.training.cross_validation import CrossValidation, load_cross_validation, schedule_start

CLASSES = describe_classes(parse_description({"names": ["a", "b"]}))


def make_scores(number: int) -> Mapping[str, Any]:
    return compute_scores(ConfusionMatrix.from_counts([[number, 1], [0, 3]]), None, CLASSES.names, num_images=number)


@pytest.fixture
def folds(tmp_path: Path) -> CrossValidation:
    return CrossValidation(path=tmp_path / "run", num_folds=3, budget_seconds=60.0)


def test_scores_are_written_and_read(folds: CrossValidation) -> None:
    for number, run in enumerate(folds.folds, start=1):
        assert not folds.is_finished
        folds.add_scores(run, make_scores(number))
    assert folds.is_finished
    assert load_cross_validation(folds.path) == folds
    folds.write_report(CLASSES, ModelCommands(model="run", data="cars", image="a.png", page="evaluation.html"))
    result = folds.make_result()
    assert result.run == folds.path
    assert result.folds == tuple(folds.path / f"fold-{i}" for i in (1, 2, 3))
    assert result.report.exists()
    assert result.scores["pooled"]["num_images"] == 6
    assert result.scores["folds"] == folds.scores


def test_scores_are_in_the_order_of_the_folds(tmp_path: Path) -> None:
    folds = CrossValidation(path=tmp_path / "run", num_folds=12)
    for number in (11, 2, 1):
        folds.add_scores(folds.folds[number - 1], make_scores(number))
    assert list(load_cross_validation(folds.path).scores) == ["fold-1", "fold-2", "fold-11"]


def test_a_late_fold_takes_its_time_from_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each has 10 seconds from the scheduled instant, or from its own start if that is earlier."""
    now, starts = [100.0], []
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    for position, seconds in enumerate((14.0, 3.0, 10.0)):
        starts.append(schedule_start(100.0, position, 10.0))
        now[0] += seconds
    assert starts == [100.0, 110.0, 117.0]


def test_a_folder_in_use_is_refused(folds: CrossValidation) -> None:
    folds.require_free()
    folds.write()
    with pytest.raises(
        InvalidArgumentError, match=r"run already contains folds \(folds\.json\)\. Continue them with --resume"
    ):
        folds.require_free()
    folds.summary.unlink()
    (folds.path / "config.yaml").touch()
    with pytest.raises(InvalidArgumentError, match=r"already contains config\.yaml, which a run"):
        folds.require_free()


def test_discarding_leaves_other_files(folds: CrossValidation) -> None:
    folds.folds[0].path.mkdir(parents=True)
    folds.write()
    (folds.path / "thesis.txt").touch()
    folds.discard()
    assert [path.name for path in folds.path.iterdir()] == ["thesis.txt"]
    (folds.path / "thesis.txt").unlink()
    folds.discard()
    assert not folds.path.exists()


@pytest.mark.parametrize(
    "content", ["", "[]", '{"num_folds": 3}', '{"num_folds": "x", "budget_seconds": 1, "folds": {}}']
)
def test_a_damaged_summary_is_an_error(folds: CrossValidation, content: str) -> None:
    folds.path.mkdir()
    folds.summary.write_text(content, encoding="utf-8")
    with pytest.raises(
        CheckpointError, match=r"folds\.json does not exist or is damaged\. .* start new folds in another folder"
    ):
        load_cross_validation(folds.path)
