"""How long work tells of itself. Library code speaks through this seam; the command line draws it."""

from typing import Protocol


class Progress(Protocol):
    """Receives what a long job has to say."""

    def say(self, message: str) -> None:
        """A line worth keeping."""

    def track(self, label: str, done: float, total: float, note: str = "") -> None:
        """`done` of `total`, in whatever unit the job counts; called often."""


class Silent:
    """Says nothing: the default in Python."""

    def say(self, message: str) -> None:
        pass

    def track(self, label: str, done: float, total: float, note: str = "") -> None:
        pass
