"""The run folder: its files, and when it may be used."""

import itertools
import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from pixelwise.errors import InvalidArgumentError
from pixelwise.files import remove_temporary_files, write_atomically
from pixelwise.model_file import MODEL_FILE_NAME
from pixelwise.output_files import OutputInUseError, claim_output


class RunFolder:
    """The paths of one run."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.config = path / "config.yaml"
        self.classes = path / "classes.yaml"
        self.splits = path / "splits.yaml"
        self.exclusions = path / "left_out.yaml"
        self.inventory = path / "files.json"
        """Names, sizes and checksums of the dataset's files."""
        self.changes = path / "changes.yaml"
        """Changes of config and dataset while the run was in progress."""
        self.metrics = path / "metrics.jsonl"
        self.events = path / "events"
        self.last_checkpoint = path / "last.checkpoint"
        self.previous_checkpoint = path / "previous.checkpoint"
        self.next_checkpoint = path / "next.checkpoint"
        """Exists only from its last byte to its renaming."""
        self.diverged = path / "diverged.checkpoint"
        """A step whose loss was NaN."""
        self.model = path / MODEL_FILE_NAME
        self.report = path / "report.html"
        self.live = path / "live.html"
        self.profile = path / "profile.txt"
        self.profile_trace = path / "profile.json.gz"
        self.loggers = path / "loggers.json"
        """Names that MLflow and Weights & Biases gave the run."""
        self.unfinished = path / ".pixelwise-unfinished"
        """Exists until the description of the run is complete."""
        self._description = (self.config, self.classes, self.splits, self.exclusions, self.inventory, self.changes)

    @property
    def contents(self) -> tuple[Path, ...]:
        """All files that a run may write."""
        paths = [path for name, path in vars(self).items() if name not in ("path", "_description")]
        return tuple(paths)

    def require_free(self) -> None:
        """Raise InvalidArgumentError if the folder contains a run or is a file: nothing is overwritten."""
        ours = (self.unfinished, *self._description) if self.unfinished.exists() else ()
        for path in self.contents:
            if path.exists() and path not in ours:
                raise InvalidArgumentError(
                    f"{self.path} already contains {path.name}, which a run would replace. Continue a run with "
                    f"--resume, or choose another folder with -o."
                )
        if self.path.exists() and not self.path.is_dir():
            raise InvalidArgumentError(f"{self.path} is a file. Choose a folder with -o.")

    def begin_description(self) -> None:
        """Create the folder, without the description that an interrupted start has left in it."""
        self.path.mkdir(parents=True, exist_ok=True)
        self.unfinished.touch()
        for path in self._description:
            path.unlink(missing_ok=True)

    def remove_leftovers(self) -> None:
        """Remove files that a killed process left incomplete."""
        for path in (self.next_checkpoint, self.unfinished):
            path.unlink(missing_ok=True)
        remove_temporary_files(self.path)

    def discard(self) -> None:
        """Remove what a run writes before its first step, so that the folder is free again."""
        for path in (*self._description, self.metrics, self.live, self.loggers, self.unfinished):
            path.unlink(missing_ok=True)
        shutil.rmtree(self.events, ignore_errors=True)
        if not any(self.path.iterdir()):
            self.path.rmdir()

    def append_metrics(self, values: Mapping[str, Any]) -> None:
        """Append a line to metrics.jsonl."""
        with self.metrics.open("a", encoding="utf-8") as file:
            file.write(json.dumps(values) + "\n")

    def read_metrics(self) -> Iterator[dict[str, Any]]:
        """Read the lines of metrics.jsonl, without a last line that a kill cut off."""
        text = self.metrics.read_text(encoding="utf-8") if self.metrics.exists() else ""
        for line in text.splitlines():
            try:
                yield json.loads(line)
            except ValueError:
                return

    def remove_metrics_after(self, step: int) -> None:
        """Remove the lines of steps that a resumed run repeats."""
        lines = [json.dumps(line) for line in self.read_metrics() if line["step"] <= step]
        write_atomically(self.metrics, "".join(line + "\n" for line in lines).encode())


def claim_default_folder(
    data: Sequence[str | Path], network: str, claims: ExitStack, parent: Path = Path("runs")
) -> Path:
    """Return the first free folder `runs/DATA-NETWORK-N`, or `runs/DATA+DATA-NETWORK-N`, and claim it."""
    stem = f"{'+'.join(Path(folder).resolve().name for folder in data)}-{network.rpartition(':')[2]}"
    for number in itertools.count(1):
        folder = parent / f"{stem}-{number}"
        if not folder.exists():
            try:
                claims.enter_context(claim_output(folder))
            except OutputInUseError:  # another process has just chosen it
                continue
            return folder
    raise AssertionError
