"""A run that ends early, from the command to its report."""

from pathlib import Path
from typing import Any

from pixelwise.api import train


def test_the_report_of_a_run_that_ended_early_says_so(streets: Path, tiny: dict[str, Any], tmp_path: Path) -> None:
    settings = {
        **tiny["settings"],
        "training.num_evaluations": 8,
        "training.early_stopping_patience": 1,
        "optimizer.lr": 1e-9,
    }
    result = train(streets, tmp_path / "run", **{**tiny, "settings": settings, "steps": 8})
    assert (
        "stopped early (training.early_stopping_patience): evaluations without a better mean IoU than"
        in result.report.read_text(encoding="utf-8")
    )
    page = (tmp_path / "run" / "live.html").read_text(encoding="utf-8")
    assert "Stopped early (training.early_stopping_patience)" in page
    assert '<a href="report.html">' in page
    assert 'http-equiv="refresh"' not in page
