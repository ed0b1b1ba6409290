import io
import logging
import shutil
import time
from pathlib import Path
from typing import Any

import pytest

from pixelwise.cli import main
from pixelwise.cli.console import PLAIN_SECONDS, ConsoleProgress, show_progress
from pixelwise.progress import report_progress

Capture = pytest.CaptureFixture[str]


def test_without_a_terminal_progress_is_lines(capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    now: list[float] = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    with ConsoleProgress() as progress:
        for step in range(4):
            progress.track("train", step, 4, "loss 1.0 [a]")
            now[0] += PLAIN_SECONDS / 2
        progress.log("a [line] worth keeping")
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.splitlines() == [
        "train   0%  loss 1.0 [a]",
        "train  50%  loss 1.0 [a]",
        "a [line] worth keeping",
    ]


def test_without_a_terminal_a_printed_label_is_also_printed_at_its_end(
    capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(time, "monotonic", lambda: 1000.0)
    with ConsoleProgress() as progress:
        for label in ("predict", "write"):
            for step in (1, 2):
                progress.track(label, step, 2)
    assert capsys.readouterr().err.splitlines() == ["predict  50%", "predict 100%"]


def test_in_a_terminal_progress_is_a_bar_that_disappears(capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TTY_COMPATIBLE", "1")
    progress: Any = ConsoleProgress()
    with progress:
        progress.track("train", 1, 2, "loss 1.0")
        assert list(progress.tasks) == ["train"]
        progress.track("train", 2, 2, "loss 0.5")
        assert list(progress.tasks) == []
    assert "train" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("verbosity", "shown"),
    [
        (-2, []),
        (-1, ["warning: slow"]),
        (0, ["warning: slow", "training", "train 100%"]),
        (1, ["warning: slow", "training", "details", "train 100%"]),
    ],
)
def test_verbosity_decides_what_is_shown(verbosity: int, shown: list[str], capsys: Capture) -> None:
    logger = logging.getLogger("pixelwise.training.loop")
    with show_progress(verbosity):
        logger.warning("slow")
        logger.info("training")
        logger.debug("details")
        report_progress("train", 1, 1)
    assert capsys.readouterr().err.splitlines() == shown


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "latin-1"])
@pytest.mark.parametrize("fails", [False, True])
def test_consoles_without_unicode(
    encoding: str, fails: bool, tmp_path: Path, streets: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Findings contain arrows, and file and class names any character."""
    data = Path(shutil.copytree(streets, tmp_path / "straße-日本"))
    (data / "images/train/日本→é.png").write_bytes(b"")
    out, err = (io.TextIOWrapper(io.BytesIO(), encoding=encoding) for _ in range(2))
    monkeypatch.setattr("sys.stdout", out)
    monkeypatch.setattr("sys.stderr", err)
    with pytest.raises(SystemExit) as end:
        main.main(["check", str(data / "absent") if fails else str(data)])
    assert end.value.code == (2 if fails else 1)
    for stream in (out, err):
        stream.flush()
    text = (err if fails else out).buffer.getvalue().decode(encoding)
    name = "stra\\xdfe" if encoding == "ascii" else "straße"
    words = [f"{name}-\\u65e5\\u672c"] if fails else ["-> Add a mask", "\\u65e5\\u672c->"]
    assert [word for word in words if word not in text] == []
