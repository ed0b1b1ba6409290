"""`train --folds K`: K runs side by side in one folder, and their scores together.

    RUN/fold-1 ... fold-K    ordinary run folders, described before the first is trained
    RUN/folds.json           how many folds, what they may take, and the scores of those done
    RUN/folds.html           the same to look at

This stands above one run and below the commands: how a fold is trained is given to it.
"""

import json
import logging
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pixelwise.data.classes import Classes
from pixelwise.errors import CheckpointError, InvalidArgumentError
from pixelwise.files import write_atomically
from pixelwise.reports.cross_validation_report import summarize_folds, write_folds_report
from pixelwise.training.results import CrossValidationResult
from pixelwise.training.run_dir import RunFolder

logger = logging.getLogger(__name__)

CLOSING_SECONDS = 3.0
"""For adding up and the page, out of the budget of the whole."""


@dataclass(frozen=True, slots=True)
class FoldsFolder:
    """Paths of the folds of one dataset."""

    path: Path

    @property
    def summary(self) -> Path:
        return self.path / "folds.json"

    @property
    def page(self) -> Path:
        return self.path / "folds.html"

    def fold(self, number: int) -> RunFolder:
        """Counted from 1."""
        return RunFolder(self.path / f"fold-{number}")

    def require_free(self) -> None:
        """Nothing is ever overwritten, neither folds nor a run of its own."""
        if self.summary.exists():
            raise InvalidArgumentError(
                f"{self.path} already holds folds ({self.summary.name}); continue them with --resume, or choose "
                f"another folder with -o."
            )
        RunFolder(self.path).require_free()

    def take_back(self, num_folds: int) -> None:
        """Removes what was written before the first step of the first fold, so that the folder is free again."""
        self.summary.unlink(missing_ok=True)
        for number in range(1, num_folds + 1):
            shutil.rmtree(self.fold(number).path, ignore_errors=True)
        if not any(self.path.iterdir()):
            self.path.rmdir()


@dataclass(slots=True, kw_only=True)
class Folds:
    """How far the folds of a folder have come: what folds.json holds."""

    num_folds: int
    budget_seconds: float | None
    """Of the whole command that began them, as asked for."""
    scores: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    """Fold, such as `fold-1` → its scores, once it is done."""

    @property
    def finished(self) -> bool:
        return len(self.scores) == self.num_folds


def write_folds(folder: FoldsFolder, folds: Folds) -> None:
    """folds.json, with the summary of the folds that are done."""
    values = {"num_folds": folds.num_folds, "budget_seconds": folds.budget_seconds}
    summary = summarize_folds(folds.scores) if folds.scores else {"folds": {}}
    write_atomically(folder.summary, (json.dumps({**values, **summary}, indent=2) + "\n").encode())


def read_folds(folder: FoldsFolder) -> Folds:
    """The inverse of `write_folds`. CheckpointError where the file is damaged."""
    try:
        values = json.loads(folder.summary.read_text(encoding="utf-8"))
        return Folds(
            num_folds=int(values["num_folds"]),
            budget_seconds=values["budget_seconds"],
            scores=dict(values["folds"]),
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{folder.summary} cannot be read ({error}); start new folds elsewhere.") from error


def result_of(folder: FoldsFolder, folds: Folds) -> CrossValidationResult:
    """Of folds that are all done."""
    paths = tuple(folder.fold(number).path for number in range(1, folds.num_folds + 1))
    return CrossValidationResult(run=folder.path, folds=paths, report=folder.page, scores=summarize_folds(folds.scores))


def train_folds(
    folder: FoldsFolder,
    folds: Folds,
    train_fold: Callable[[int, float], Mapping[str, Any]],
    *,
    seconds_each: float | None,
    classes: Classes,
) -> CrossValidationResult:
    """Trains the folds that are not done, one after the other, and writes the summary and its page.

    `train_fold(number, started)` trains one, whose `seconds_each` count from `started`
    (time.monotonic), and returns its scores. A fold that is late takes its time from the next one,
    not from the whole.
    """
    begun = time.monotonic()
    todo = [n for n in range(1, folds.num_folds + 1) if folder.fold(n).path.name not in folds.scores]
    for place, number in enumerate(todo):
        logger.info(f"fold {number} of {folds.num_folds}")
        started = min(time.monotonic(), begun + place * (seconds_each or 0.0))
        scores = train_fold(number, started)
        folds.scores[folder.fold(number).path.name] = scores
        folds.scores = dict(sorted(folds.scores.items(), key=lambda item: int(item[0].rpartition("-")[2])))
        write_folds(folder, folds)
    result = result_of(folder, folds)
    write_folds_report(folder.page, folder.path.name, result.scores, classes)
    return result
