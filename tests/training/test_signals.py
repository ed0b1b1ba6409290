import os
import signal
import threading
from collections.abc import Iterator

import pytest

from pixelwise.training.signals import SignalGuard, SigtermExit


@pytest.fixture(autouse=True)
def _handlers_are_put_back() -> Iterator[None]:
    yield
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def send(number: int) -> None:
    os.kill(os.getpid(), number)


SIGNALS = pytest.mark.parametrize(
    ("number", "error"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, SigtermExit)]
)


@SIGNALS
def test_a_signal_is_raised_at_once_in_an_immediate_block(number: int, error: type[BaseException]) -> None:
    done = []

    def block() -> None:
        with SignalGuard() as signals, signals.immediate():
            send(number)
            done.append("the rest")

    with pytest.raises(error):
        block()
    assert done == []


@SIGNALS
def test_a_signal_waits_until_it_is_asked_for(number: int, error: type[BaseException]) -> None:
    done = []

    def block() -> None:
        with SignalGuard() as signals:
            send(number)
            assert signals.is_pending
            done.append("all of it")
            signals.raise_pending()
            done.append("the rest")

    with pytest.raises(error):
        block()
    assert done == ["all of it"]


@SIGNALS
def test_a_signal_that_was_not_asked_for_is_raised_at_the_end(number: int, error: type[BaseException]) -> None:
    with pytest.raises(error), SignalGuard():
        send(number)


@SIGNALS
def test_a_pending_signal_is_raised_at_the_start_of_an_immediate_block(number: int, error: type[BaseException]) -> None:
    done = []

    def block() -> None:
        with SignalGuard() as signals:
            send(number)
            with signals.immediate():
                done.append("the block")

    with pytest.raises(error):
        block()
    assert done == []


def test_a_signal_of_another_process_is_a_termination() -> None:
    with pytest.raises(SigtermExit), SignalGuard() as signals:
        signals.raise_pending()


def test_termination_uncaught_ends_with_143() -> None:
    assert SigtermExit().code == 143


@pytest.mark.parametrize("second", [signal.SIGINT, signal.SIGTERM])
def test_a_second_signal_does_not_interrupt_the_save_that_the_first_caused(second: int) -> None:
    saved = []
    with SignalGuard() as signals:
        try:
            with signals.immediate():
                send(signal.SIGTERM)
        except SigtermExit:
            send(second)
            with signals.immediate():
                send(second)
                saved.append(True)
    assert saved == [True]


def test_an_error_in_the_block_goes_before_a_signal() -> None:
    def block() -> None:
        with SignalGuard():
            send(signal.SIGINT)
            raise RuntimeError("pulled the plug")

    with pytest.raises(RuntimeError, match="pulled the plug"):
        block()


def test_a_handler_of_the_caller_stays() -> None:
    received: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, frame: received.append(number))
    try:
        with SignalGuard():
            send(signal.SIGINT)
    finally:
        signal.signal(signal.SIGINT, before)
    assert received == [signal.SIGINT]


def test_training_in_a_thread_is_possible() -> None:
    done = []

    def block() -> None:
        with SignalGuard() as signals, signals.immediate():
            done.append(True)

    thread = threading.Thread(target=block)
    thread.start()
    thread.join()
    assert done == [True]
