"""The page of an evaluation: verdict, scores, all images with their predictions, and commands that use the model.

`evaluate --html` writes it; the report of a training run is the same page of the validation images, with more sections.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from pixelwise.data.visualization import list_css_colors
from pixelwise.evaluation.evaluate import EvaluationCounts
from pixelwise.inference.predictor import Predictor
from pixelwise.progress import format_percent
from pixelwise.reports.commands import ModelCommands
from pixelwise.reports.gallery import ImageGallery, build_image_table, compute_image_score, list_panel_swatches
from pixelwise.reports.html import (
    Cell,
    build_confusion_table,
    build_table,
    make_count_cell,
    make_score_cards,
    make_score_cell,
    render_page,
)
from pixelwise.reports.verdict import TrainingFacts, VerdictFacts, judge, list_confusions

MAX_CONFUSIONS = 5
"""Confusions that are listed below the matrix."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluationReport:
    """The scores of a model on a split, with what the page shows of it."""

    title: str
    split: str
    """`train`, `val`, `test` or, for a dataset without splits, `all`."""
    predictor: Predictor
    counts: EvaluationCounts
    gallery: ImageGallery
    commands: ModelCommands
    training: TrainingFacts | None = None
    """The run that trained the model, if the page is about the run."""

    @property
    def facts(self) -> VerdictFacts:
        """The numbers from which the verdict follows."""
        scored = {sample.name: compute_image_score(counts) for sample, counts in self.counts.per_image.items()}
        return VerdictFacts(
            scores=self.counts.compute_scores(self.predictor.classes.names),
            split=self.split,
            commands=self.commands,
            image_scores={name: score for name, score in scored.items() if score is not None},
            training=self.training,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassRow:
    """A class, its scores and its share of the training pixels."""

    name: str
    color: str
    scores: Mapping[str, Any]
    share: float | None


CLASS_COLUMNS: Mapping[str, Callable[[ClassRow], Cell | None]] = {
    "class": lambda row: Cell(text=row.name, is_text=True, color=row.color),
    "IoU": lambda row: make_score_cell(row.scores["iou"], has_bar=True),
    "accuracy": lambda row: make_score_cell(row.scores["accuracy"]),
    "Dice": lambda row: make_score_cell(row.scores["dice"]),
    "pixels": lambda row: make_count_cell(row.scores["pixels"]),
    "training pixels": lambda row: None if row.share is None else make_score_cell(row.share),
}
"""Title → function of a class that returns the cell. A further column is one entry; one without cells is left out."""


def render_evaluation_report(report: EvaluationReport) -> bytes:
    """Render the page of an evaluation."""
    return render_page("evaluation_report.html.jinja", build_evaluation_values(report))


def build_evaluation_values(report: EvaluationReport) -> dict[str, Any]:
    """Return the values of the template, which the report of a run extends."""
    facts, classes = report.facts, report.predictor.classes
    scores, commands = facts.scores, report.commands
    shares = report.training.class_shares if report.training else {}
    rows = [
        ClassRow(name=name, color=color, scores=scores["per_class"][name], share=shares.get(name))
        for name, color in zip(classes.names, list_css_colors(classes), strict=True)
    ]
    network = report.predictor.spec.network
    has_test = report.training is not None and report.training.has_test
    return {
        "title": report.title,
        "kind": "Training run" if report.training else "Evaluation",
        "verdict": judge(facts),
        "num_images": scores["num_images"],
        "image_words": facts.images,
        "data": commands.data,
        "model": commands.model,
        "network": f"{network.name}, encoder {network.encoder}" if network.encoder else network.name,
        "num_parameters": f"{sum(p.numel() for p in report.predictor.module.parameters()):,}",
        "precision": report.predictor.precision,
        "cards": make_score_cards(scores, report.predictor.threshold),
        "classes": build_table(CLASS_COLUMNS, rows),
        "images": build_image_table(report.gallery),
        "num_shown": len(report.gallery.images),
        "legend": list_panel_swatches(classes),
        "confusion": build_confusion_table(classes, report.counts.confusion.counts),
        "confusions": [
            f"{format_percent(share)} of {truth} is taken for {other}"
            for share, truth, other in list_confusions(scores)[:MAX_CONFUSIONS]
        ],
        "commands": commands.list_uses("test" if has_test else report.split),
    }
