"""Messages and progress of long work, and the instant from which a budget counts.

Modules log to `logging.getLogger(__name__)` and call `report_progress`. Both are silent by default. The command line
installs a reporter with `use_reporter`. The reporter is global, so that the threads of loaders and writers reach it.
"""

import logging
import math
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

logger = logging.getLogger("pixelwise")
logger.addHandler(logging.NullHandler())  # without a handler, Python prints warnings

STARTED_VARIABLE = "PIXELWISE_STARTED"
"""Environment variable that hands the start of a command to the ranks that it launches. All processes of a machine
share the clock `time.monotonic`."""


class Reporter(Protocol):
    """Receives messages and progress, from any thread."""

    def log(self, message: str) -> None:
        """Show one line."""

    def track(self, label: str, done: float, total: float, note: str = "") -> None:
        """Show that `done` of `total` units are complete. Long work calls this often."""


class _ReporterHandler(logging.Handler):
    def __init__(self, reporter: Reporter, level: int) -> None:
        super().__init__(level)
        self.reporter = reporter

    def emit(self, record: logging.LogRecord) -> None:
        prefix = f"{record.levelname.lower()}: " if record.levelno >= logging.WARNING else ""
        self.reporter.log(prefix + record.getMessage())


_handler: _ReporterHandler | None = None
_started: float | None = None


def format_duration(seconds: float) -> str:
    """Return `45 s`, `20.5 min` or `3.2 h`."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.1f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def format_percent(fraction: float | None) -> str:
    """Return `71.2 %`, two digits below 1 % (`0.034 %`), or a dash if undefined."""
    if fraction is None or math.isnan(fraction):
        return "–"
    return f"{100 * fraction:.2g} %" if 0 < fraction < 0.01 else f"{100 * fraction:.1f} %"


def report_progress(label: str, done: float, total: float, note: str = "") -> None:
    """Report that `done` of `total` units of the work named `label` are complete."""
    if _handler is not None:
        _handler.reporter.track(label, done, total, note)


@contextmanager
def use_reporter(reporter: Reporter, level: int = logging.INFO) -> Iterator[None]:
    """Send messages of at least `level`, and progress, to `reporter` inside the block, in all threads.

    The reporter of an outer block receives nothing inside the block.

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
    before = _handler, logger.level
    _install(_ReporterHandler(reporter, level), level)
    try:
        yield
    finally:
        _install(*before)


def _install(handler: _ReporterHandler | None, level: int) -> None:
    global _handler
    if _handler is not None:
        logger.removeHandler(_handler)
    if handler is not None:
        logger.addHandler(handler)
    logger.setLevel(level)
    _handler = handler


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
