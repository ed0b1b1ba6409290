from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pixelwise.config import Config
from pixelwise.reports.evaluation_report import render_evaluation_report
from pixelwise.reports.training_report import TrainingReport, list_choices, write_training_report
from pixelwise.reports.verdict import TrainingFacts
from support.pages import Page, require_offline
from support.reports import evaluate_noise, make_masks

LINES = [
    {"step": 1, "progress": 0.1, "loss": 2.0, "lr": 0.1, "images_per_second": 9.0, "seconds": 1.0},
    {"step": 2, "progress": 0.2, "loss": 1.0, "lr": 0.1, "images_per_second": 9.0, "seconds": 2.0},
    {"step": 2, "progress": 0.2, "val": {"mean_iou": None, "global_accuracy": 0.5}, "seconds": 2.0},
]

CONFIG = Config().replace(
    {"network.base_channels": 4, "training.steps": 60, "training.batch_size": 2, "loss.class_weights": "none"},
    reasons={"network.base_channels": "the <b>largest</b>", "data.crop_size": "whole images"},
)


@pytest.fixture
def report(make_model: Callable[..., Path], tmp_path: Path) -> TrainingReport:
    shares = {"a": 0.5, "b": 0.4995, "c": 0.0005}
    training = TrainingFacts(config=CONFIG, num_images=6, class_shares=shares, metrics=LINES, has_test=True)
    evaluation = evaluate_noise(make_model(tmp_path / "m"), tmp_path / "data", make_masks(3))
    commands = replace(evaluation.commands, config=CONFIG)
    evaluation = replace(evaluation, training=training, commands=commands)
    splits = {"train": [], "val": list(evaluation.counts.per_image)}
    return TrainingReport(evaluation=evaluation, splits=splits, notes=("warning: a < b",))


def write(path: Path, report: TrainingReport) -> Page:
    write_training_report(path, report)
    return Page(path.read_bytes())


def test_the_report_of_a_run_is_offline(trained: Path) -> None:
    page = Page((trained / "report.html").read_bytes())
    require_offline(page)
    assert page.source.count("<svg") == 2
    assert "pixelwise train" in page.text


def test_the_report_has_everything_of_the_page_of_an_evaluation(report: TrainingReport, tmp_path: Path) -> None:
    page = write(tmp_path / "r.html", report)
    require_offline(page)
    alone = Page(render_evaluation_report(replace(report.evaluation, training=None)))
    titles = [text for tag, text in page.headings if tag == "h2"]
    assert titles[:3] == ["Verdict", "Classes", "Images"]
    assert {text for tag, text in alone.headings if tag == "h2"} <= set(titles)
    assert titles[-3:] == ["Training", "Choices", "Notes on the data"]
    assert [image["src"] for image in page.images] == [image["src"] for image in alone.images]


def test_the_report_names_training_shares_and_notes(report: TrainingReport, tmp_path: Path) -> None:
    page = write(tmp_path / "r.html", report)
    assert page.find_row("class")[-1] == "training pixels"
    assert page.find_row("c")[-1] == "0.05 %"
    assert "warning: a < b" in page.text
    assert "scores on 3 validation images" in page.text
    assert "--steps 120" in page.text


def test_six_choices_have_reasons_and_the_rest_is_folded(report: TrainingReport, tmp_path: Path) -> None:
    choices = list_choices(CONFIG)
    assert [title for title, _, _ in choices] == [
        "Network", "Samples", "Batch", "Length", "Optimizer", "Class weights"
    ]  # fmt: skip
    assert choices[0][1:] == ("unet, 4 channels, depth 4", "the <b>largest</b>")
    assert choices[2][1:] == ("2 samples", "the default")
    assert choices[3][1] == "60 steps"
    page = write(tmp_path / "r.html", report)
    assert "<b>largest" not in page.source
    folded = page.source[page.source.index("<details>") :]
    for section, values in CONFIG.to_dict().items():
        assert f"<h3>{section}</h3>" in folded
        assert all(f'<th scope="row">{key}</th>' in folded for key in values)


@pytest.mark.parametrize(
    ("changes", "title", "value"),
    [
        ({"network.name": "segnet"}, "Network", "segnet"),
        ({"network.encoder": "resnet34", "network.encoder_weights": "imagenet"}, "Network",
         "unet with encoder resnet34, ImageNet weights"),
        ({"training.steps": None, "training.budget_seconds": 300}, "Length", "5.0 min"),
        ({"training.steps": 1}, "Length", "1 step"),
    ],
)  # fmt: skip
def test_choices_are_described(changes: dict[str, Any], title: str, value: str) -> None:
    described = {name: text for name, text, _ in list_choices(CONFIG.replace(changes))}
    assert described[title] == value


def test_a_report_without_metrics_has_no_curves(report: TrainingReport, tmp_path: Path) -> None:
    training = replace(report.evaluation.training, metrics=[])
    evaluation = replace(report.evaluation, training=training)
    page = write(tmp_path / "r.html", replace(report, evaluation=evaluation, notes=()))
    assert "<svg" not in page.source
    assert "Notes on the data" not in page.text
