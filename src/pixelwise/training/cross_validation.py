"""`train --folds K`: the folder of K runs, and the scores of all.

RUN/fold-1 ... fold-K    ordinary run folders, described before the first one is trained
RUN/folds.json           number of folds, budget, and the scores of the finished folds
RUN/folds.html           the same as a page
"""

import json
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pixelwise.data.classes import Classes
from pixelwise.errors import CheckpointError, InvalidArgumentError
from pixelwise.files import write_atomically
from pixelwise.reports.commands import ModelCommands
from pixelwise.reports.cross_validation_report import summarize_folds, write_folds_report
from pixelwise.training.results import CrossValidationResult
from pixelwise.training.run_dir import RunFolder

CLOSING_SECONDS = 3.0
"""Time to add up the scores and write the page, part of the budget."""


@dataclass(slots=True, kw_only=True)
class CrossValidation:
    """The folder of a cross-validation, and what folds.json stores."""

    path: Path
    num_folds: int = 0
    budget_seconds: float | None = None
    """Budget of the whole command, as given."""
    scores: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    """Name of a finished fold, such as `fold-1` → its scores."""

    @property
    def summary(self) -> Path:
        """Path of folds.json, which marks a folder of folds."""
        return self.path / "folds.json"

    @property
    def report(self) -> Path:
        """Path of the page."""
        return self.path / "folds.html"

    @property
    def unfinished(self) -> Path:
        """Path of a file that exists until all folds are described."""
        return RunFolder(self.path).unfinished

    @property
    def folds(self) -> list[RunFolder]:
        """The run folders."""
        return [RunFolder(self.path / f"fold-{number}") for number in range(1, self.num_folds + 1)]

    @property
    def is_finished(self) -> bool:
        """True if all folds are trained and scored."""
        return len(self.scores) == self.num_folds

    @property
    def summary_scores(self) -> dict[str, Any]:
        """`folds`, `mean`, `std` and `pooled` of the finished folds."""
        return summarize_folds(self.scores)

    def require_free(self) -> None:
        """Raise InvalidArgumentError if the folder holds folds or a run: nothing is overwritten."""
        if self.summary.exists():
            raise InvalidArgumentError(
                f"{self.path} already contains folds ({self.summary.name}). Continue them with --resume, or choose "
                f"another folder with -o."
            )
        RunFolder(self.path).require_free()
        if not self.unfinished.exists():
            for run in self.folds:
                run.require_free()

    def discard(self) -> None:
        """Remove what was written before the first step of the first fold, so that the folder is free again."""
        for path in (self.summary, self.unfinished):
            path.unlink(missing_ok=True)
        for run in self.folds:
            shutil.rmtree(run.path, ignore_errors=True)
        if not any(self.path.iterdir()):
            self.path.rmdir()

    def write(self) -> None:
        """Write folds.json."""
        values = {"num_folds": self.num_folds, "budget_seconds": self.budget_seconds}
        scores = self.summary_scores if self.scores else {"folds": {}}
        write_atomically(self.summary, (json.dumps({**values, **scores}, indent=2) + "\n").encode())

    def add_scores(self, run: RunFolder, scores: Mapping[str, Any]) -> None:
        """Store the scores of a finished fold."""
        self.scores[run.path.name] = scores
        self.scores = dict(sorted(self.scores.items(), key=lambda item: int(item[0].rpartition("-")[2])))
        self.write()

    def write_report(self, classes: Classes, commands: ModelCommands) -> None:
        """Write the page with the scores of all folds."""
        write_folds_report(self.report, self.path.name, self.summary_scores, classes, commands)

    def make_result(self) -> CrossValidationResult:
        """Return the result of finished folds."""
        paths = tuple(run.path for run in self.folds)
        return CrossValidationResult(run=self.path, folds=paths, report=self.report, scores=self.summary_scores)


def schedule_start(begun: float, position: int, seconds: float) -> float:
    """Return the instant from which the budget of a fold counts, if each fold has `seconds`.

    A fold that is late takes the time from the next one, not from the whole.
    """
    return min(time.monotonic(), begun + position * seconds)


def load_cross_validation(path: Path) -> CrossValidation:
    """Load folds.json of a folder.

    Raises:
        CheckpointError: the file is damaged.
    """
    result = CrossValidation(path=path)
    try:
        values = json.loads(result.summary.read_text(encoding="utf-8"))
        result.num_folds = int(values["num_folds"])
        result.budget_seconds = values["budget_seconds"]
        result.scores = dict(values["folds"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(
            f"{result.summary} does not exist or is damaged. Restore it, or start new folds in another folder."
        ) from error
    return result
