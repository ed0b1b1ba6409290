import contextlib
import logging
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from pixelwise.progress import (
    STARTED_VARIABLE,
    budget_start,
    count_budget_from,
    format_duration,
    report_progress,
    use_reporter,
)
from support.recorder import Recorder

logger = logging.getLogger("pixelwise.tests")


def test_nothing_is_printed_by_default(capfd: pytest.CaptureFixture[str]) -> None:
    logger.warning("careful")
    report_progress("train", 1, 2)
    assert capfd.readouterr() == ("", "")


def test_python_is_silent_without_a_reporter() -> None:
    """In a process of its own, as pytest installs handlers."""
    script = (
        "import logging, pixelwise.progress as progress\n"
        "logging.getLogger('pixelwise.training').warning('careful')\n"
        "progress.report_progress('train', 1, 2)"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert (result.stdout, result.stderr) == ("", "")


def test_a_reporter_receives_messages_and_progress() -> None:
    recorder = Recorder()
    with use_reporter(recorder):
        logger.info("training")
        logger.warning("careful")
        logger.debug("details")
        report_progress("train", 1, 2, "loss 1.0")
    logger.info("after")
    report_progress("train", 2, 2)
    assert recorder.messages == ["training", "warning: careful"]
    assert recorder.tracked == [("train", 1, 2, "loss 1.0")]


def test_the_level_selects_messages() -> None:
    recorder = Recorder()
    with use_reporter(recorder, logging.DEBUG):
        logger.debug("details")
    with use_reporter(recorder, logging.ERROR):
        logger.warning("careful")
    assert recorder.messages == ["details"]


def test_nested_blocks_replace_and_restore_the_reporter() -> None:
    outer, inner = Recorder(), Recorder()
    with use_reporter(outer):
        logger.info("1")
        with contextlib.suppress(KeyError), use_reporter(inner, logging.WARNING):
            logger.warning("2")
            report_progress("a", 1, 1)
            raise KeyError
        logger.info("3")
        report_progress("b", 1, 1)
    assert (outer.messages, inner.messages) == (["1", "3"], ["warning: 2"])
    assert ([label for label, *_ in outer.tracked], [label for label, *_ in inner.tracked]) == (["b"], ["a"])


def test_a_thread_reaches_the_reporter() -> None:
    recorder = Recorder()
    with use_reporter(recorder):
        thread = threading.Thread(target=lambda: (logger.info("written"), report_progress("write", 1, 1)))
        thread.start()
        thread.join()
    assert recorder.messages == ["written"]
    assert recorder.tracked == [("write", 1, 1, "")]


def test_a_message_of_the_writer_thread_reaches_the_reporter(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From `predict`, whose label files are written in background threads."""
    from pixelwise.api import predict
    from pixelwise.data.io import images

    threads: list[int] = []
    encode = images.encode_png

    def log_and_encode(*arguments: object, **options: object) -> bytes:
        threads.append(threading.get_ident())
        logger.info("encoding")
        return encode(*arguments, **options)  # type: ignore[arg-type]

    for name, module in list(sys.modules.items()):
        if name.startswith("pixelwise.") and getattr(module, "encode_png", None) is encode:
            monkeypatch.setattr(module, "encode_png", log_and_encode)
    images.write_png(tmp_path / "a.png", np.zeros((64, 96, 3), np.uint8))
    threads.clear()
    recorder = Recorder()
    with use_reporter(recorder):
        predict(trained, [tmp_path / "a.png"], tmp_path / "out", device="cpu")
    assert threads
    assert threading.get_ident() not in threads
    assert "encoding" in recorder.messages


def test_a_budget_counts_from_the_start_of_the_command() -> None:
    with count_budget_from(100.0):
        assert budget_start() == 100.0
        with count_budget_from(90.0):
            assert budget_start() == 90.0
        assert budget_start() == 100.0
    assert time.monotonic() - budget_start() < 1


def test_a_rank_counts_from_the_command_that_launched_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(STARTED_VARIABLE, "90.5")
    with count_budget_from(100.0):
        assert budget_start() == 90.5


def test_a_budget_includes_imports() -> None:
    """The command line sets the start before it imports PyTorch."""
    script = (
        "import sys, time\n"
        "from pixelwise.cli import main\n"
        "from pixelwise.progress import budget_start\n"
        "def run(*arguments):\n"
        "    assert 'torch' not in sys.modules\n"
        "    before = time.monotonic()\n"
        "    import torch\n"
        "    print(budget_start() <= before < time.monotonic())\n"
        "main._run = run\n"
        "main.main(['train', 'data'])"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert result.stdout == "True\n"


@pytest.mark.parametrize(
    ("seconds", "text"), [(45.4, "45 s"), (119, "119 s"), (1230, "20.5 min"), (7199, "120.0 min"), (11520, "3.2 h")]
)
def test_durations_have_a_unit_that_fits(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text
