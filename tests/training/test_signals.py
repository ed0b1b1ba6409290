import os
import signal
import threading
from collections.abc import Iterator

import pytest

from pixelwise.training.signals import Interruption, Terminated


@pytest.fixture(autouse=True)
def _handlers_are_put_back() -> Iterator[None]:
    yield
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def send(number: int) -> None:
    os.kill(os.getpid(), number)


SIGNALS = pytest.mark.parametrize(
    ("number", "error"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, Terminated)]
)


@SIGNALS
def test_a_signal_is_raised_at_once(number: int, error: type[BaseException]) -> None:
    done = []

    def block() -> None:
        with Interruption():
            send(number)
            done.append("the rest")

    with pytest.raises(error):
        block()
    assert done == []


@SIGNALS
def test_a_signal_waits_for_the_end_of_a_block(number: int, error: type[BaseException]) -> None:
    done = []

    def block() -> None:
        with Interruption() as interruption:
            with interruption.put_off():
                send(number)
                done.append("all of it")
            done.append("the rest")

    with pytest.raises(error):
        block()
    assert done == ["all of it"]


def test_termination_uncaught_ends_with_143() -> None:
    assert Terminated().code == 143


@pytest.mark.parametrize("second", [signal.SIGINT, signal.SIGTERM])
def test_a_second_signal_does_not_cut_off_what_the_first_led_to(second: int) -> None:
    saved = []
    with Interruption() as interruption:
        try:
            send(signal.SIGTERM)
        except Terminated:
            send(second)
            with interruption.put_off():
                send(second)
            saved.append(True)
    assert saved == [True]


def test_an_error_in_the_block_goes_before_a_signal() -> None:
    def block() -> None:
        with Interruption() as interruption, interruption.put_off():
            send(signal.SIGINT)
            raise RuntimeError("pulled the plug")

    with pytest.raises(RuntimeError, match="pulled the plug"):
        block()


def test_a_handler_of_the_caller_is_left_alone() -> None:
    heard: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, frame: heard.append(number))
    try:
        with Interruption():
            send(signal.SIGINT)
    finally:
        signal.signal(signal.SIGINT, before)
    assert heard == [signal.SIGINT]


def test_training_in_a_thread_is_possible() -> None:
    done = []

    def block() -> None:
        with Interruption() as interruption, interruption.put_off():
            done.append(True)

    thread = threading.Thread(target=block)
    thread.start()
    thread.join()
    assert done == [True]
