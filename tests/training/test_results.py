import json
from pathlib import Path

from pixelwise.api import load
from pixelwise.training.results import CrossValidationResult, TrainResult


def make_result(run: Path, **scores: float | None) -> TrainResult:
    return TrainResult(run=run, model=run / "model.safetensors", report=run / "report.html", scores=scores)


def test_a_run_shows_scores_and_curves_in_notebooks(trained: Path) -> None:
    result = make_result(trained, mean_iou=0.5, boundary_f1=None)
    page = result._repr_html_()
    assert "<td>mean iou</td><td>0.5000</td>" in page
    assert "<td>boundary f1</td><td>-</td>" in page
    assert page.count("<svg") == 2
    assert "training loss" in page
    assert "validation mean IoU" in page


def test_metrics_are_read_as_they_were_written(trained: Path) -> None:
    lines = (trained / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    assert make_result(trained).read_metrics() == [json.loads(line) for line in lines]


def test_a_run_without_metrics_shows_its_scores(tmp_path: Path) -> None:
    result = make_result(tmp_path / "<run>", mean_iou=0.25)
    assert "<svg" not in result._repr_html_()
    assert "&lt;run&gt;" in result._repr_html_()
    assert repr(result) == f"TrainResult(run={str(tmp_path / '<run>')!r}, mean_iou=0.2500)"


def test_cross_validation_shows_mean_and_std() -> None:
    scores = {"mean": {"mean_iou": 0.5}, "std": {"mean_iou": 0.125}}
    run = Path("runs/folds")
    result = CrossValidationResult(run=run, folds=(run / "fold-1",), report=run / "folds.html", scores=scores)
    assert "0.5000 ± 0.1250" in result._repr_html_()
    assert repr(result) == "CrossValidationResult(run='runs/folds', folds=1, mean_iou=0.5000 ± 0.1250)"


def test_the_model_of_a_result_can_be_loaded(trained: Path) -> None:
    assert load(make_result(trained).model, device="cpu").classes.names
