"""What long work reports: messages through `logging`, progress through one reporter for the whole process.

Modules log to `logging.getLogger(__name__)` and call `report_progress`. Both are silent by default. The command line
installs a reporter with `use_reporter`; it is not thread-local, so messages of writer threads reach it too.
"""

import logging
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

logger = logging.getLogger("pixelwise")
logger.addHandler(logging.NullHandler())  # silent by default: without it, Python prints warnings itself

STARTED_VARIABLE = "PIXELWISE_STARTED"
"""Environment variable with the start of the command, for the ranks that it launches. `time.monotonic` is one clock
for all processes of a machine."""


class Reporter(Protocol):
    """Receives messages and progress, from any thread."""

    def log(self, message: str) -> None:
        """Show one line."""

    def track(self, label: str, done: float, total: float, note: str = "") -> None:
        """Show that `done` of `total` units are complete; called often."""


class _Silent:
    def log(self, message: str) -> None:
        pass

    def track(self, label: str, done: float, total: float, note: str = "") -> None:
        pass


class _ReporterHandler(logging.Handler):
    def __init__(self, reporter: Reporter, level: int) -> None:
        super().__init__(level)
        self.reporter = reporter

    def emit(self, record: logging.LogRecord) -> None:
        prefix = f"{record.levelname.lower()}: " if record.levelno >= logging.WARNING else ""
        self.reporter.log(prefix + record.getMessage())


_reporter: Reporter = _Silent()
_started: float | None = None


def format_duration(seconds: float) -> str:
    """Return `45 s`, `20.5 min` or `3.2 h`."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.1f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def report_progress(label: str, done: float, total: float, note: str = "") -> None:
    """Report that `done` of `total` units of the work named `label` are complete."""
    _reporter.track(label, done, total, note)


@contextmanager
def use_reporter(reporter: Reporter, level: int = logging.INFO) -> Iterator[None]:
    """Send messages of at least `level`, and progress, to `reporter` inside the block, in all threads.

    Example:
        >>> class Printer:
        ...     def log(self, message):
        ...         print(message)
        ...     def track(self, label, done, total, note=""):
        ...         print(f"{label}: {done}/{total}")
        >>> with use_reporter(Printer()):
        ...     report_progress("train", 1, 2)
        train: 1/2
    """
    global _reporter
    before, level_before = _reporter, logger.level
    handler = _ReporterHandler(reporter, level)
    logger.addHandler(handler)
    logger.setLevel(level)
    _reporter = reporter
    try:
        yield
    finally:
        _reporter = before
        logger.setLevel(level_before)
        logger.removeHandler(handler)


@contextmanager
def count_budget_from(instant: float) -> Iterator[None]:
    """Count budgets inside the block from `instant` (`time.monotonic`), or from the start of the launching command."""
    global _started
    before = _started
    _started = min(instant, float(os.environ.get(STARTED_VARIABLE, instant)))
    try:
        yield
    finally:
        _started = before


def budget_start() -> float:
    """Return the instant (`time.monotonic`) from which a budget counts: the start of the command, else now."""
    return time.monotonic() if _started is None else _started
