"""Ctrl-C and SIGTERM while a run trains: nothing is cut off half done, and what was done is saved."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Any


class Terminated(SystemExit):
    """SIGTERM, as schedulers of clusters send it. Uncaught, the process ends with 143, as shells have it."""

    def __init__(self) -> None:
        super().__init__(128 + signal.SIGTERM)


INTERRUPTIONS = (KeyboardInterrupt, Terminated)
"""What a run saves itself for."""


class Interruption:
    """While it is entered, Ctrl-C and SIGTERM raise KeyboardInterrupt and Terminated, but never inside a
    block that puts them off.

    Only the first one counts: a second must not cut off the save that the first has led to. Only the
    handlers that Python starts with are replaced; one of the caller, or none in a thread, is left alone.
    """

    def __init__(self) -> None:
        self._before: dict[int, Any] = {}
        self._heard: int | None = None
        self._putting_off = False

    def __enter__(self) -> "Interruption":
        if threading.current_thread() is threading.main_thread():
            for number, default in ((signal.SIGINT, signal.default_int_handler), (signal.SIGTERM, signal.SIG_DFL)):
                if signal.getsignal(number) == default:
                    self._before[number] = signal.signal(number, self._hear)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    @property
    def heard(self) -> bool:
        """Whether a signal has come, be it put off."""
        return self._heard is not None

    @contextmanager
    def put_off(self) -> Iterator[None]:
        """A signal waits for the end of the block; an error in the block goes before it."""
        heard_before, self._putting_off = self._heard, True
        try:
            yield
        finally:
            self._putting_off = False
        if self._heard != heard_before:
            self._raise()

    def _hear(self, number: int, frame: FrameType | None) -> None:
        if self._heard is None:
            self._heard = number
            if not self._putting_off:
                self._raise()

    def _raise(self) -> None:
        raise Terminated if self._heard == signal.SIGTERM else KeyboardInterrupt
