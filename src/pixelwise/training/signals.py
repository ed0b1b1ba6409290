"""Ctrl-C and SIGTERM during training: the current step is completed and the run is saved first."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Any, NoReturn

from pixelwise.training.distributed import ProcessLostError


class SigtermExit(SystemExit):
    """SIGTERM, as cluster schedulers send it. Uncaught, it ends the process with exit code 143."""

    def __init__(self) -> None:
        super().__init__(128 + signal.SIGTERM)


INTERRUPTIONS = (KeyboardInterrupt, SigtermExit)
"""Exceptions on which a run saves a checkpoint before it ends."""


class SignalGuard:
    """Defers Ctrl-C and SIGTERM inside its `with` block until `raise_pending`, or raises them in `immediate` blocks.

    Only the first signal counts, so that a second one does not interrupt the save that the first one caused. Only
    Python's default handlers are replaced; a handler of the caller stays. In a thread, nothing is replaced.
    """

    def __init__(self) -> None:
        self._replaced: dict[int, Any] = {}
        self._received: int | None = None
        self._is_raised = self._is_immediate = False

    def __enter__(self) -> "SignalGuard":
        if threading.current_thread() is threading.main_thread():
            for number, default in ((signal.SIGINT, signal.default_int_handler), (signal.SIGTERM, signal.SIG_DFL)):
                if signal.getsignal(number) == default:
                    self._replaced[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for number, handler in self._replaced.items():
            signal.signal(number, handler)
        # When another process is lost, it received the same signal and has ended.
        is_lost = kind is not None and issubclass(kind, ProcessLostError)
        if self.is_pending and (is_lost or (kind is None and not self._is_raised)):
            self.raise_pending()

    @property
    def is_pending(self) -> bool:
        """True if a signal was received."""
        return self._received is not None

    def raise_pending(self) -> NoReturn:
        """Raise KeyboardInterrupt or SigtermExit; SigtermExit if the signal came to another process of the run."""
        self._is_raised = True
        raise KeyboardInterrupt if self._received == signal.SIGINT else SigtermExit

    @contextmanager
    def immediate(self) -> Iterator[None]:
        """Raise a signal as soon as it arrives inside the block."""
        self._is_immediate = True
        try:
            if self.is_pending and not self._is_raised:
                self.raise_pending()
            yield
        finally:
            self._is_immediate = False

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self._received is None:
            self._received = number
            if self._is_immediate:
                self.raise_pending()
