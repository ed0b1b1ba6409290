"""A recipe, written with its reasons."""

from pathlib import Path
from typing import Any

import pytest

from pixelwise.api.plan import plan
from pixelwise.config import read_recipe

Arguments = dict[str, Any]

Arguments = dict[str, Any]


def test_a_plan_is_written_with_its_reasons(streets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pixelwise.planning.planner.measure_step", lambda *arguments: 10.0)
    made = plan(streets, budget="10m", output=tmp_path / "recipe.yaml", device="cpu", seed=3)
    assert read_recipe(tmp_path / "recipe.yaml") == made.recipe
    assert made.recipe.training.budget_seconds == 600
    assert made.recipe.training.seed == 3
    assert made.reasons["data.crop"] in (tmp_path / "recipe.yaml").read_text()
