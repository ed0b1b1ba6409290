"""Folds begun and gone on with."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest

from pixelwise.api import evaluate, train
from pixelwise.api.train_run import PreparedRun
from pixelwise.config import load_config
from pixelwise.data.dataset import Dataset
from pixelwise.data.splits.splits import read_splits
from pixelwise.errors import CheckpointError, DataError, InvalidArgumentError
from pixelwise.model_file import MODEL_FILE_NAME, load_model
from pixelwise.training.cross_validation import load_cross_validation
from pixelwise.training.results import CrossValidationResult
from pixelwise.training.run_dir import RunFolder
from pixelwise.training.trainer import Trainer
from support.folders import read_contents

Arguments = dict[str, Any]

Arguments = dict[str, Any]


@pytest.fixture(scope="module")
def folded(streets: Path, tiny: Arguments, tmp_path_factory: pytest.TempPathFactory) -> CrossValidationResult:
    """Two finished folds. Read only."""
    result = train(streets, tmp_path_factory.mktemp("folds") / "run", folds=2, **tiny)
    assert isinstance(result, CrossValidationResult)
    return result


def test_folds_are_runs_that_share_out_train_and_val(folded: CrossValidationResult, streets: Path) -> None:
    dataset = Dataset.load(streets)
    splits = [read_splits(run / "splits.yaml", dataset.samples) for run in folded.folds]
    assert sorted(s for one in splits for s in one["val"]) == [s for s in dataset.samples if s.split != "test"]
    assert [len(one["test"]) for one in splits] == [4, 4]
    assert sorted(path.name for path in folded.run.iterdir()) == ["fold-1", "fold-2", "folds.html", "folds.json"]
    for run in folded.folds:
        assert (run / "report.html").exists()
    assert len({(run / "config.yaml").read_text() for run in folded.folds}) == 1
    assert len({load_model(run)[1].mean for run in folded.folds}) == 2


def test_the_scores_of_the_folds_are_those_of_their_models(folded: CrossValidationResult, streets: Path) -> None:
    stored = json.loads((folded.run / "folds.json").read_text())
    assert stored == {"num_folds": 2, "budget_seconds": None, **folded.scores}
    scored = [evaluate(run, streets, split="val", device="cpu", precision="fp32") for run in folded.folds]
    assert [s.confusion for s in scored] == [s["confusion"] for s in folded.scores["folds"].values()]
    assert folded.scores["pooled"]["num_images"] == 16
    assert folded.scores["mean"]["mean_iou"] == pytest.approx(fmean(s.mean_iou or 0.0 for s in scored))


def test_finished_folds_resumed_change_nothing(folded: CrossValidationResult, streets: Path, tiny: Arguments) -> None:
    before = read_contents(folded.run)
    assert train(streets, folded.run, resume=True) == folded
    assert train(streets, folded.run, resume=True, folds=2, **tiny) == folded
    assert read_contents(folded.run) == before


def test_interrupted_folds_are_resumed(
    folded: CrossValidationResult, streets: Path, tiny: Arguments, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the middle of the second: the first is not touched, the second goes on, and all is as if never stopped."""
    step: Callable[..., Any] = Trainer.step
    taken: list[int] = []

    def interrupted(self: Trainer, *arguments: Any) -> Any:
        taken.append(1)
        if len(taken) == 10:
            raise KeyboardInterrupt
        return step(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "step", interrupted)
        with pytest.raises(KeyboardInterrupt):
            train(streets, tmp_path / "run", folds=2, **tiny)
    first = read_contents(tmp_path / "run" / "fold-1")
    result = train(streets, tmp_path / "run", resume=True, **tiny)
    assert read_contents(tmp_path / "run" / "fold-1") == first
    assert result.scores == folded.scores
    for run in folded.folds:
        assert (tmp_path / "run" / run.name / MODEL_FILE_NAME).read_bytes() == (run / MODEL_FILE_NAME).read_bytes()


def test_a_fold_that_finished_before_its_scores_were_written_is_scored_again(
    folded: CrossValidationResult, streets: Path, tmp_path: Path
) -> None:
    copy = shutil.copytree(folded.run, tmp_path / "run")
    stored = json.loads((copy / "folds.json").read_text())
    del stored["folds"]["fold-2"]
    (copy / "folds.json").write_text(json.dumps(stored))
    before = read_contents(copy / "fold-2")
    result = train(streets, copy, resume=True, device="cpu")
    assert result.scores == folded.scores
    assert read_contents(copy / "fold-2") == before


def test_folds_without_their_mark_start_from_the_beginning(
    folded: CrossValidationResult, streets: Path, tiny: Arguments, tmp_path: Path
) -> None:
    """Stopped while they were described."""
    (tmp_path / "fold-1").mkdir()
    shutil.copy(folded.run / "fold-1" / "config.yaml", tmp_path / "fold-1")
    RunFolder(tmp_path).unfinished.touch()
    assert train(streets, tmp_path, resume=True, folds=2, **tiny).scores == folded.scores


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"folds": 4}, r"was started with 2 folds, not 4\. Resume without"),
        ({"seed": 1}, r"a different config:\n  training\.seed: 0 → 1\nResume without changing it, or start a new run"),
        ({"budget": "20m"}, r"a different config:\n  training\.budget_seconds: .* → 1200\.0\n"),
    ],
)
def test_other_folds_are_refused(folded: CrossValidationResult, streets: Path, changes: Arguments, said: str) -> None:
    with pytest.raises(CheckpointError, match=said):
        train(streets, folded.run, resume=True, **changes)


def test_folds_take_no_changes(folded: CrossValidationResult, streets: Path) -> None:
    with pytest.raises(
        InvalidArgumentError,
        match=r"are comparable only without changes\. Resume without --allow-changes",
    ):
        train(streets, folded.run, resume=True, allow_changes=True)


def test_a_folder_holds_either_folds_or_a_run(
    folded: CrossValidationResult, trained: Path, streets: Path, tiny: Arguments
) -> None:
    for changes in ({}, {"folds": 3}):
        with pytest.raises(InvalidArgumentError, match=r"already contains folds \(folds\.json\)"):
            train(streets, folded.run, **changes, **tiny)
    with pytest.raises(InvalidArgumentError, match=r"which a run would replace"):
        train(streets, trained, folds=3, **tiny)


def test_folds_share_the_budget(streets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each gets its part of what planning leaves, and resuming compares the whole."""
    shares: list[Any] = []

    def take(run: PreparedRun, *rest: Any) -> Any:
        folds = load_cross_validation(run.folder.path.parent)
        shares.append((folds.budget_seconds, run.config.training.budget_seconds))
        raise KeyboardInterrupt

    def train_until_stopped(*arguments: Any, **options: Any) -> None:
        with pytest.raises(KeyboardInterrupt):
            train(*arguments, **options)

    monkeypatch.setattr("pixelwise.api.train_folds.train_fold", take)
    monkeypatch.setattr("pixelwise.planning.planner.measure_step", lambda *arguments: 10.0)
    (tmp_path / "r.yaml").write_text("network: {base_channels: 4, depth: 2}\ntraining: {budget_seconds: 600}\n")
    given: Arguments = {"config": tmp_path / "r.yaml", "device": "cpu"}
    train_until_stopped(streets, tmp_path / "a", folds=2, budget="10m", device="cpu")
    train_until_stopped(streets, tmp_path / "b", folds=4, **given)
    train_until_stopped(streets, tmp_path / "b", folds=4, resume=True, budget="10m", **given)
    train_until_stopped(streets, tmp_path / "c", folds=2, steps=9, **given)
    for (total, share), parts in zip(shares[:3], (2, 4, 4), strict=True):
        assert total == 600
        assert 0.5 * 600 / parts < share < 600 / parts
    assert "# of 600 s for 2 folds" in (tmp_path / "a" / "fold-2" / "config.yaml").read_text()
    assert load_config(tmp_path / "c" / "fold-2" / "config.yaml").training.steps == 9


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"folds": 1}, r"folds is 1, but must be >= 2\."),
        ({"folds": 2, "budget": "1s", "device": "cpu"}, "[Bb]udget"),
        ({"folds": 17, "steps": 2}, r"17 folds need 17\."),
        ({"folds": 2, "steps": 2, "group_by": "zzz"}, r"--group-by 'zzz' does not match 16 of 16 names"),
    ],
)
def test_folds_that_cannot_be_made_leave_no_folder(
    streets: Path, tmp_path: Path, arguments: Arguments, said: str
) -> None:
    with pytest.raises((InvalidArgumentError, DataError), match=said):
        train(streets, tmp_path / "run", **arguments)
    assert not (tmp_path / "run").exists()


def test_folds_with_too_little_time_are_discarded(streets: Path, tmp_path: Path) -> None:
    (tmp_path / "r.yaml").write_text("network: {base_channels: 4, depth: 2}\n")
    with pytest.raises(InvalidArgumentError, match=r"budget of .* ends before training could start"):
        train(streets, tmp_path / "run", folds=2, config=tmp_path / "r.yaml", budget="11s", device="cpu")
    assert not (tmp_path / "run").exists()
