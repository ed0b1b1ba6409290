"""Messages and progress on standard error: bars in a terminal, plain lines elsewhere."""

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from pixelwise.progress import use_reporter

PLAIN_SECONDS = 15.0
"""Seconds between two lines of progress if the output is not a terminal."""


class ConsoleProgress:
    """A reporter on standard error, so that results can be piped."""

    def __init__(self, *, draws_progress: bool = True) -> None:
        self.draws_progress = draws_progress
        self.console = Console(stderr=True, highlight=False)
        self.bars = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.percentage:3.0f}%"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
            console=self.console,
            transient=True,
        )
        self.tasks: dict[str, TaskID] = {}
        self.last_line = 0.0
        self.printed_labels: set[str] = set()

    def __enter__(self) -> "ConsoleProgress":
        if self.console.is_terminal:
            self.bars.start()
        return self

    def __exit__(self, *error: object) -> None:
        if self.console.is_terminal:
            self.bars.stop()

    def log(self, message: str) -> None:
        self.console.print(message, markup=False, soft_wrap=True)

    def track(self, label: str, done: float, total: float, note: str = "") -> None:
        if not self.draws_progress:
            return
        if not self.console.is_terminal:
            self._print_line(label, done, total, note)
            return
        if label not in self.tasks:
            self.tasks[label] = self.bars.add_task(label, total=total, note=note)
        self.bars.update(self.tasks[label], completed=done, total=total, note=note)
        if done >= total:
            self.bars.remove_task(self.tasks.pop(label))

    def _print_line(self, label: str, done: float, total: float, note: str) -> None:
        now = time.monotonic()
        ends = done >= total and label in self.printed_labels  # a label that was printed is also printed at its end
        if now - self.last_line >= PLAIN_SECONDS or ends:
            self.last_line = now
            self.printed_labels.add(label)
            self.log(f"{label} {done / max(total, 1e-9):4.0%}  {note}".rstrip())
        if done >= total:
            self.printed_labels.discard(label)


@contextmanager
def show_progress(verbosity: int = 0) -> Iterator[None]:
    """Show messages and progress on standard error inside the block.

    Args:
        verbosity: 1 adds messages for debugging; -1 leaves warnings and no progress, -2 only errors.
    """
    levels = {-1: logging.WARNING, 0: logging.INFO, 1: logging.DEBUG}
    level = levels[max(-1, min(1, verbosity))] if verbosity > -2 else logging.ERROR
    with ConsoleProgress(draws_progress=verbosity >= 0) as console, use_reporter(console, level):
        yield
