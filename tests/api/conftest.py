"""Runs to go on with."""

import shutil
from pathlib import Path
from typing import Any

import pytest

from pixelwise.model_file import MODEL_FILE_NAME

Arguments = dict[str, Any]


@pytest.fixture
def finished(trained: Path, tmp_path: Path) -> Path:
    """A copy of a finished run that may be written to."""
    return shutil.copytree(trained, tmp_path / "finished")


@pytest.fixture
def started(finished: Path) -> Path:
    """A run that was stopped before its first checkpoint."""
    for name in ("last.checkpoint", "previous.checkpoint", MODEL_FILE_NAME, "report.html", "metrics.jsonl"):
        (finished / name).unlink()
    return finished
