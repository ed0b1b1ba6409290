"""A config, written with its reasons."""

from pathlib import Path
from typing import Any

import pytest

from pixelwise.api import plan
from pixelwise.config import load_config

Arguments = dict[str, Any]


def test_a_plan_is_written_with_its_reasons(streets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pixelwise.planning.planner.measure_step", lambda *arguments: 10.0)
    made = plan(streets, budget="10m", output=tmp_path / "config.yaml", device="cpu", seed=3)
    assert load_config(tmp_path / "config.yaml") == made
    assert made.training.budget_seconds == 600
    assert made.training.seed == 3
    assert made.reasons["data.crop_size"] in (tmp_path / "config.yaml").read_text()
