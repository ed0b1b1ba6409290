import itertools
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from pixelwise.metrics import ConfusionMatrix
from pixelwise.reports.evaluation_report import EvaluationReport, render_evaluation_report
from support.pages import Page, require_offline
from support.reports import NAMES, evaluate_noise, make_masks

MakeReport = Callable[..., EvaluationReport]


@pytest.fixture
def make_report(make_model: Callable[..., Path], tmp_path: Path) -> MakeReport:
    """`make_report(masks, names)`: the evaluation of a random model on images of noise with these masks."""
    return partial(evaluate_noise, make_model(tmp_path / "m"), tmp_path / "data")


def render(report: EvaluationReport) -> Page:
    return Page(render_evaluation_report(report))


def test_the_page_is_offline_and_reproducible(make_report: MakeReport) -> None:
    report = make_report(make_masks(4))
    page = render(report)
    require_offline(page)
    assert page.source == render(report).source


def test_texts_are_escaped(make_report: MakeReport) -> None:
    page = render(make_report(make_masks(1), ["<script>alert(1)</script>", '"><img src=x>', "a & b"]))
    assert page.source.count("<script") == 1
    assert "<script>alert" not in page.source
    assert "<img src=x>" not in page.source
    assert "<script>alert(1)</script>" in page.text
    assert ("h1", "runs & more") in page.headings


def test_each_image_has_four_pictures_and_its_scores(make_report: MakeReport) -> None:
    report = make_report(make_masks(3))
    page = render(report)
    assert [image["data-title"] for image in page.images[:4]] == ["image", "truth", "prediction", "errors"]
    assert len(page.images) == 12
    assert all(image["alt"] for image in page.images)
    for sample, confusion in report.counts.per_image.items():
        accuracy = np.trace(confusion.counts) / confusion.counts.sum()
        assert page.find_row(sample.name)[2] == f"{100 * accuracy:.1f} %"
    assert "All 3 validation images" in page.text


def test_the_worst_images_come_first_and_those_without_labels_last(make_report: MakeReport) -> None:
    page = render(make_report([np.full((8, 12), 255), *make_masks(5)]))
    rows = [row for row in page.rows if row[0].startswith("val/")]
    scores = [row[1] for row in rows]
    assert scores[-1] == "–"
    assert rows[-1][0] == "val/0"
    values = [float(score.removesuffix(" %")) for score in scores[:-1]]
    assert values == sorted(values)


def test_an_absent_class_has_no_score(make_report: MakeReport) -> None:
    report = make_report([np.zeros((8, 12))])
    report.counts.confusion = ConfusionMatrix.from_counts([[5, 0, 0], [0, 0, 0], [0, 0, 0]])
    page = render(report)
    assert page.find_row("class") == ["class", "IoU", "accuracy", "Dice", "pixels"]
    assert page.find_row("b") == ["b", "–", "–", "–", "0"]


def test_cards_show_the_scores(make_report: MakeReport) -> None:
    report = make_report(make_masks(3))
    page = render(report)
    scores = report.counts.compute_scores(NAMES)
    for key in ("mean_iou", "global_accuracy", "mean_class_accuracy", "mean_dice", "boundary_f1"):
        assert f"<b>{100 * scores[key]:.1f} %</b>" in page.source


def test_the_page_has_a_verdict_and_commands_before_and_after_the_images(make_report: MakeReport) -> None:
    page = render(make_report(make_masks(3)))
    titles = [text for tag, text in page.headings if tag == "h2"]
    assert titles[:3] == ["Verdict", "Classes", "Images"]
    assert titles[-1] == "Use the model"
    assert "pixelwise predict run data/images/val/0.png -o predictions" in page.text
    assert "pixelwise evaluate run data --split val --html run/evaluation.html" in page.text
    assert "--resume" not in page.text


def test_headings_descend_by_one_level(make_report: MakeReport) -> None:
    levels = [int(tag[1]) for tag, _ in render(make_report(make_masks(3))).headings]
    assert levels[0] == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))
