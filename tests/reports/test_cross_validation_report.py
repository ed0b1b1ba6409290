import statistics
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pixelwise.data.description import describe_classes, parse_description
from pixelwise.metrics import BoundaryScore, ConfusionMatrix, compute_scores
from pixelwise.reports.commands import ModelCommands
from pixelwise.reports.cross_validation_report import format_spread, summarize_folds, write_folds_report
from support.pages import Page, require_offline

NAMES = ["a & b", "c", "d"]
COUNTS = ([[6, 2, 0], [1, 9, 0], [0, 0, 0]], [[3, 3, 0], [0, 2, 0], [0, 0, 0]], [[5, 0, 1], [2, 7, 0], [0, 1, 4]])


def score_fold(counts: list[list[int]], num_images: int, boundary: float = 0.5) -> dict[str, Any]:
    return compute_scores(
        ConfusionMatrix.from_counts(counts), BoundaryScore(3, (boundary,)), NAMES, num_images=num_images
    )


FOLDS = {f"fold-{i + 1}": score_fold(counts, 2 + i, 0.1 * i) for i, counts in enumerate(COUNTS)}


def test_mean_and_std_are_over_the_folds() -> None:
    summary = summarize_folds(FOLDS)
    for key in ("mean_iou", "global_accuracy", "mean_class_accuracy", "mean_dice", "boundary_f1"):
        values = [fold[key] for fold in FOLDS.values()]
        assert summary["mean"][key] == pytest.approx(statistics.mean(values))
        assert summary["std"][key] == pytest.approx(statistics.stdev(values))
    ious = [fold["per_class"]["c"]["iou"] for fold in FOLDS.values()]
    assert summary["mean"]["per_class"]["c"]["iou"] == pytest.approx(statistics.mean(ious))
    assert summary["std"]["per_class"]["c"]["iou"] == pytest.approx(statistics.stdev(ious))


def test_a_class_counts_only_in_folds_where_it_is_defined() -> None:
    summary = summarize_folds(FOLDS)
    assert summary["mean"]["per_class"]["d"]["iou"] == FOLDS["fold-3"]["per_class"]["d"]["iou"]
    assert summary["std"]["per_class"]["d"]["iou"] is None
    two = summarize_folds({name: FOLDS[name] for name in ("fold-1", "fold-2")})
    assert two["mean"]["per_class"]["d"]["iou"] is None


def test_pooled_scores_come_from_the_sum_of_the_matrices() -> None:
    pooled = summarize_folds(FOLDS)["pooled"]
    total = np.sum(COUNTS, 0)
    assert pooled["confusion"] == total.tolist()
    assert pooled["num_images"] == 2 + 3 + 4
    assert pooled["global_accuracy"] == pytest.approx(np.trace(total) / total.sum())
    assert "boundary_f1" not in pooled


def test_a_single_fold_has_no_std() -> None:
    summary = summarize_folds({"fold-1": FOLDS["fold-1"]})
    assert summary["std"]["mean_iou"] is None
    assert "±" not in format_spread(summary, "mean_iou")


def test_the_report_shows_each_fold_and_all_images(tmp_path: Path) -> None:
    summary = summarize_folds(FOLDS)
    classes = describe_classes(parse_description({"names": NAMES}))
    commands = ModelCommands(model="run", data="cars", image="a.png", page="evaluation.html")
    write_folds_report(tmp_path / "folds.html", "runs & more", summary, classes, commands)
    page = Page((tmp_path / "folds.html").read_bytes())
    require_offline(page, *(f"fold-{number}/report.html" for number in (1, 2, 3)))
    assert ("h1", "runs & more") in page.headings
    assert "3 folds · 9 images, each scored once" in page.text
    scores = FOLDS["fold-2"]
    keys = ("mean_iou", "global_accuracy", "mean_class_accuracy", "mean_dice", "boundary_f1")
    assert ["fold-2", "3", *(f"{100 * scores[key]:.1f} %" for key in keys)] in page.rows
    assert next(row for row in page.rows if row[0] == "all images")[:2] == ["all images", "9"]
    mean, std = (100 * summary[k]["mean_iou"] for k in ("mean", "std"))
    assert format_spread(summary, "mean_iou") == f"{mean:.1f} ± {std:.1f} %"
    assert format_spread(summary, "mean_iou") in page.text
    ious = [f"{100 * fold['per_class']['a & b']['iou']:.1f} %" for fold in FOLDS.values()]
    assert next(row for row in page.rows if row[0] == "a & b" and len(row) == 7)[2:5] == ious
    assert "On 9 validation images" in page.text
