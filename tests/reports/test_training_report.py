import re
from collections.abc import Sequence
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pixelwise.data.dataset import Dataset
from pixelwise.data.description import describe_classes, parse_description
from pixelwise.data.io.images import write_png
from pixelwise.evaluation.evaluate import score_samples
from pixelwise.inference.predictor import load
from pixelwise.reports.training_report import TrainingReport, compute_image_score, write_training_report

LINES = [
    {"step": 1, "progress": 0.1, "loss": 2.0, "lr": 0.1, "images_per_second": 9.0, "seconds": 1.0},
    {"step": 2, "progress": 0.2, "loss": 1.0, "lr": 0.1, "images_per_second": 9.0, "seconds": 2.0},
    {"step": 2, "progress": 0.2, "val": {"mean_iou": None, "global_accuracy": 0.5}, "seconds": 2.0},
]
VOID = {"meta", "img", "br", "input"}


class TagChecker(HTMLParser):
    """A parser that fails if a closing tag does not match the innermost open tag."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def write(path: Path, report: TrainingReport) -> str:
    write_training_report(path, report)
    page = path.read_text(encoding="utf-8")
    parser = TagChecker()
    parser.feed(page)
    assert parser.open == []
    return page


def make_report(model: Path, data: Path, names: Sequence[str], **changes: Any) -> TrainingReport:
    """Evaluate the model on the validation images of `data` and return the report."""
    predictor = load(model, device="cpu")
    classes = describe_classes(parse_description({"names": list(names)}))
    predictor = replace(predictor, spec=replace(predictor.spec, classes=classes))
    dataset = Dataset.load(data).with_classes(classes, 3)
    samples = [sample for sample in dataset.samples if sample.split == "val"]
    report = TrainingReport(
        title="runs & more",
        dataset=dataset,
        splits={"train": [], "val": samples, "test": []},
        class_shares=[1 / len(names)] * len(names),
        predictor=predictor,
        counts=score_samples(predictor, dataset, samples),
        metrics=LINES,
        config="network:\n  width: 4  # <b>given</b>\n",
        notes=("warning: a < b",),
    )
    return replace(report, **changes)


@pytest.fixture
def model(make_model: Any, tmp_path: Path) -> Path:
    path: Path = make_model(tmp_path / "m")
    return path


def write_pairs(root: Path, masks: Sequence[Any]) -> Path:
    rng = np.random.default_rng(0)
    for number, mask in enumerate(masks):
        write_png(root / "images" / "val" / f"{number}.png", rng.integers(0, 255, (*mask.shape, 3), np.uint8))
        write_png(root / "masks" / "val" / f"{number}.png", mask.astype(np.uint8))
    return root


def make_masks(count: int) -> list[Any]:
    return list(np.random.default_rng(1).integers(0, 3, (count, 8, 12)))


def require_offline(page: str) -> None:
    outside = [u for u in re.findall(r"https?://[^\s\"'<)]+", page) if not u.startswith("http://www.w3.org/")]
    assert outside == []
    sources = re.findall(r"(?:src|href)\s*=\s*[\"']([^\"']*)", page)
    assert [s[:40] for s in sources if not s.startswith(("data:image/", "#"))] == []
    assert not re.search(r"@import|<link|<script|<iframe|//cdn", page)


def test_the_report_of_a_run_is_offline(trained: Path) -> None:
    page = (trained / "report.html").read_text(encoding="utf-8")
    require_offline(page)
    assert page.count("<svg") == 2
    assert "network:" in page


def test_the_report_is_offline_and_reproducible(model: Path, tmp_path: Path) -> None:
    report = make_report(model, write_pairs(tmp_path / "data", make_masks(4)), ["a", "b", "c"])
    page = write(tmp_path / "one.html", report)
    require_offline(page)
    assert write(tmp_path / "two.html", report) == page


def test_texts_are_escaped(model: Path, tmp_path: Path) -> None:
    names = ["<script>alert(1)</script>", '"><img src=x>', "a & b"]
    page = write(tmp_path / "r.html", make_report(model, write_pairs(tmp_path / "data", make_masks(1)), names))
    assert "<script" not in page
    assert "<img src=x>" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert "<b>given" not in page
    assert "warning: a &lt; b" in page
    assert "runs &amp; more" in page


def test_one_image_is_shown_once(model: Path, tmp_path: Path) -> None:
    page = write(
        tmp_path / "r.html", make_report(model, write_pairs(tmp_path / "data", make_masks(1)), ["a", "b", "c"])
    )
    assert page.count("<h3>") == 1
    assert page.count('<img src="data:image/webp') == 4
    assert "Worst" in page
    assert "Best" not in page


def test_an_absent_class_has_no_score(model: Path, tmp_path: Path) -> None:
    report = make_report(model, write_pairs(tmp_path / "data", [np.zeros((8, 12))]), ["a", "b", "c"])
    report.counts.confusion = type(report.counts.confusion).from_counts([[5, 0, 0], [0, 0, 0], [0, 0, 0]])
    page = write(tmp_path / "r.html", report)
    row = page[page.index("</span>b</td>") :]
    row = row[: row.index("</tr>")]
    assert row.count("<td>–</td>") == 3
    assert "<td>0</td>" in row


def test_the_worst_images_come_first_and_none_is_shown_twice(model: Path, tmp_path: Path) -> None:
    report = make_report(model, write_pairs(tmp_path / "data", make_masks(12)), ["a", "b", "c"])
    page = write(tmp_path / "r.html", report)
    shown = re.findall(r"<h3>(\S+)", page)
    by_score = sorted(report.counts.per_image, key=lambda s: compute_image_score(report.counts.per_image[s]))
    assert shown[:3] == [sample.name for sample in by_score[:3]]
    assert shown[-3:] == [sample.name for sample in by_score[-3:]]
    assert len(shown) == len(set(shown)) == 9


@pytest.mark.parametrize("count", range(1, 9))
def test_few_images_are_shown_once_each(model: Path, tmp_path: Path, count: int) -> None:
    report = make_report(model, write_pairs(tmp_path / "data", make_masks(count)), ["a", "b", "c"], metrics=[])
    shown = re.findall(r"<h3>(\S+)", write(tmp_path / "r.html", report))
    assert len(shown) == len(set(shown))
    assert len(shown) >= min(count, 3)


def test_an_image_without_a_labeled_pixel_is_not_the_worst(model: Path, tmp_path: Path) -> None:
    data = write_pairs(tmp_path / "data", [np.full((8, 12), 255), *make_masks(1)])
    page = write(tmp_path / "r.html", make_report(model, data, ["a", "b", "c"]))
    assert re.findall(r"<h3>(\S+)", page) == ["val/1"]


def test_a_report_without_metrics_has_no_curves(model: Path, tmp_path: Path) -> None:
    report = make_report(model, write_pairs(tmp_path / "data", make_masks(1)), ["a", "b", "c"], metrics=[], notes=())
    page = write(tmp_path / "r.html", report)
    assert "<svg" not in page
    assert "Notes on the data" not in page


def test_cards_show_the_scores(model: Path, tmp_path: Path) -> None:
    report = make_report(model, write_pairs(tmp_path / "data", make_masks(3)), ["a", "b", "c"])
    page = write(tmp_path / "r.html", report)
    scores = report.counts.compute_scores(["a", "b", "c"])
    for key in ("mean_iou", "global_accuracy", "mean_class_accuracy", "mean_dice", "boundary_f1"):
        assert f"<b>{100 * scores[key]:.1f} %</b>" in page
    assert "scores on 3 validation images" in page
