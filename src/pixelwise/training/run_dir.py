"""The folder of a run: what lies in it, and the rules on using one again."""

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pixelwise.errors import InvalidArgumentError
from pixelwise.files import remove_temporary_files, write_atomically
from pixelwise.model_file import MODEL_FILE_NAME


@dataclass(frozen=True, slots=True)
class RunFolder:
    """Paths of one run."""

    path: Path

    @property
    def config(self) -> Path:
        return self.path / "config.yaml"

    @property
    def classes(self) -> Path:
        return self.path / "classes.yaml"

    @property
    def splits(self) -> Path:
        return self.path / "splits.yaml"

    @property
    def left_out(self) -> Path:
        return self.path / "left_out.yaml"

    @property
    def metrics(self) -> Path:
        return self.path / "metrics.jsonl"

    @property
    def events(self) -> Path:
        return self.path / "events"

    @property
    def last_checkpoint(self) -> Path:
        return self.path / "last.checkpoint"

    @property
    def previous_checkpoint(self) -> Path:
        return self.path / "previous.checkpoint"

    @property
    def next_checkpoint(self) -> Path:
        """There only for the moment between its last byte and its renaming."""
        return self.path / "next.checkpoint"

    @property
    def diverged(self) -> Path:
        """The step whose loss was no number."""
        return self.path / "diverged.checkpoint"

    @property
    def files(self) -> Path:
        """Names and sizes of the dataset's files."""
        return self.path / "files.json"

    @property
    def changes(self) -> Path:
        """What was changed while the run was under way."""
        return self.path / "changes.yaml"

    @property
    def model(self) -> Path:
        return self.path / MODEL_FILE_NAME

    @property
    def profile(self) -> Path:
        return self.path / "profile.txt"

    @property
    def profile_trace(self) -> Path:
        return self.path / "profile.json.gz"

    @property
    def report(self) -> Path:
        return self.path / "report.html"

    @property
    def live(self) -> Path:
        return self.path / "live.html"

    @property
    def logged_as(self) -> Path:
        """What loggers beside TensorBoard call the run; not there without them."""
        return self.path / "loggers.json"

    @property
    def contents(self) -> tuple[Path, ...]:
        """Everything that a run writes, whether it is there or not."""
        checkpoints = (self.last_checkpoint, self.previous_checkpoint, self.next_checkpoint, self.diverged)
        return (
            *self._described,
            self.metrics,
            self.events,
            *checkpoints,
            self.model,
            self.report,
            self.live,
            self.profile,
            self.profile_trace,
            self.logged_as,
        )

    @property
    def _described(self) -> tuple[Path, ...]:
        """Written before the first step."""
        return (self.config, self.classes, self.splits, self.left_out, self.files, self.changes)

    def require_free(self) -> None:
        """A folder that holds a run is refused: nothing is ever overwritten."""
        files = (self.config, self.last_checkpoint, self.previous_checkpoint, self.model)
        for path in (*files, self.metrics, self.report):
            if path.exists():
                raise InvalidArgumentError(
                    f"{self.path} already holds a run ({path.name}); continue it with --resume, or "
                    f"choose another folder with -o."
                )
        if self.path.exists() and not self.path.is_dir():
            raise InvalidArgumentError(f"{self.path} is a file; choose a folder with -o.")

    def require_writable(self) -> None:
        """Said before anything is read or planned, where the system tells."""
        nearest = next(path for path in (self.path.absolute(), *self.path.absolute().parents) if path.exists())
        if not os.access(nearest, os.W_OK | os.X_OK):
            raise InvalidArgumentError(
                f"{nearest} may not be written to; make it writable, or choose another folder with -o."
            )

    def remove_leftovers(self) -> None:
        """Files that a kill has left half written; nothing reads them."""
        self.next_checkpoint.unlink(missing_ok=True)
        remove_temporary_files(self.path)

    def take_back(self) -> None:
        """Removes what a run writes before its first step, so that the folder is free again."""
        for path in (*self._described, self.metrics, self.live):
            path.unlink(missing_ok=True)
        if not any(self.path.iterdir()):
            self.path.rmdir()

    def append_metrics(self, values: Mapping[str, Any]) -> None:
        with self.metrics.open("a", encoding="utf-8") as file:
            file.write(json.dumps(values) + "\n")

    def read_metrics(self) -> Iterator[dict[str, Any]]:
        if self.metrics.exists():
            for line in self.metrics.read_text(encoding="utf-8").splitlines():
                yield json.loads(line)

    def forget_metrics_after(self, step: int) -> None:
        """Drops the lines of steps that a resumed run will take again."""
        lines = [json.dumps(line) for line in self._whole_lines() if line["step"] <= step]
        write_atomically(self.metrics, "".join(line + "\n" for line in lines).encode())

    def _whole_lines(self) -> Iterator[dict[str, Any]]:
        """Every line but a last one that was cut off by a kill."""
        text = self.metrics.read_text(encoding="utf-8") if self.metrics.exists() else ""
        for line in text.splitlines():
            try:
                yield json.loads(line)
            except ValueError:
                return


def default_run_folder(data: Path, network: str, parent: Path = Path("runs")) -> Path:
    """`runs/DATA-NETWORK-N` with the first N that is free."""
    stem = f"{data.resolve().name}-{network}"
    number = 1
    while (parent / f"{stem}-{number}").exists():
        number += 1
    return parent / f"{stem}-{number}"
