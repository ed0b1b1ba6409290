"""A reporter that remembers what was reported, for `use_reporter`."""


class Recorder:
    """Messages in `messages`, and progress in `tracked` as (label, done, total, note)."""

    def __init__(self) -> None:
        self.messages: list[str] = []
        self.tracked: list[tuple[str, float, float, str]] = []

    def log(self, message: str) -> None:
        self.messages.append(message)

    def track(self, label: str, done: float, total: float, note: str = "") -> None:
        self.tracked.append((label, done, total, note))
