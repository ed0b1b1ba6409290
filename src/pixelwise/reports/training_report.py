"""`report.html`: the data, scores, best and worst predictions, curves and configuration of a training run."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pixelwise.data.classes import Classes
from pixelwise.data.dataset import Dataset
from pixelwise.data.sample import Sample, Split
from pixelwise.data.visualization import to_css_color, to_data_uri
from pixelwise.evaluation.evaluate import EvaluationCounts
from pixelwise.files import write_atomically
from pixelwise.inference.predictor import Predictor
from pixelwise.metrics import ConfusionMatrix, mean_iou
from pixelwise.reports.gallery import draw_panels, list_panel_swatches
from pixelwise.reports.html import SCORE_TITLES, build_confusion_table, format_percent, render_page
from pixelwise.reports.plots import plot_training

IMAGES_PER_GROUP = 3
MAX_PICTURE_SIDE = 640

SCORE_EXPLANATIONS = {
    "mean_iou": "overlap of prediction and truth, averaged over the classes",
    "global_accuracy": "share of pixels with the right class",
    "mean_class_accuracy": "share of each class that was found, averaged",
    "mean_dice": "twice the overlap over the sum of both areas, averaged",
    "boundary_f1": "boundary pixels within 0.75 % of the image diagonal",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingReport:
    """The content of the report; every score comes from `counts` or `metrics`."""

    title: str
    dataset: Dataset
    splits: Mapping[Split, Sequence[Sample]]
    class_shares: Sequence[float]
    """Share of each class among the training pixels."""
    predictor: Predictor
    counts: EvaluationCounts
    """On the validation images."""
    metrics: Sequence[Mapping[str, Any]]
    """Lines of metrics.jsonl."""
    config: str
    """YAML, with a comment for each automatic choice."""
    notes: Sequence[str]


def write_training_report(path: Path, report: TrainingReport) -> None:
    """Write the report atomically."""
    classes = report.predictor.classes
    scores = report.counts.compute_scores(classes.names)
    values = {
        "report": report,
        "scores": scores,
        "cards": [(title, format_percent(scores[key]), SCORE_EXPLANATIONS[key]) for key, title in SCORE_TITLES.items()],
        "split_sizes": {name: len(samples) for name, samples in report.splits.items() if samples},
        "class_rows": _build_class_rows(report, classes, scores["per_class"]),
        "legend": list_panel_swatches(classes),
        "curves": plot_training(report.metrics, "minutes"),
        "confusion": build_confusion_table(classes, report.counts.confusion.counts),
        "groups": {
            title: [_draw_image(report, classes, sample) for sample in samples]
            for title, samples in _select_images(report.counts.per_image).items()
        },
        "num_parameters": sum(p.numel() for p in report.predictor.module.parameters()),
        "network": report.predictor.spec.network,
    }
    write_atomically(path, render_page("training_report.html.jinja", values))


def compute_image_score(confusion: ConfusionMatrix) -> float:
    """Return the mean IoU of an image, or 0 if it is undefined."""
    value = mean_iou(confusion.counts)
    return 0.0 if np.isnan(value) else value


def _build_class_rows(
    report: TrainingReport, classes: Classes, scores: Mapping[str, Mapping[str, Any]]
) -> list[dict[str, Any]]:
    return [
        {
            "name": name,
            "color": to_css_color(color),
            "share": format_percent(share),
            "bar": 100 * (scores[name]["iou"] or 0),
            **{key: format_percent(scores[name][key]) for key in ("iou", "accuracy", "dice")},
            "pixels": f"{scores[name]['pixels']:,}",
        }
        for name, color, share in zip(classes.names, classes.colors, report.class_shares, strict=True)
    ]


def _select_images(per_image: Mapping[Sample, ConfusionMatrix]) -> dict[str, list[Sample]]:
    """Return the worst, median and best images with labeled pixels, none twice."""
    labeled = [sample for sample in per_image if per_image[sample].counts.any()]
    ranked = sorted(labeled, key=lambda sample: compute_image_score(per_image[sample]))
    count = min(IMAGES_PER_GROUP, -(-len(ranked) // 3))
    middle = (len(ranked) - count) // 2
    groups = {
        "Worst": ranked[:count],
        "Median": [s for s in ranked[middle : middle + count] if s not in ranked[:count]],
        "Best": [s for s in ranked[-count:] if s not in ranked[: middle + count]],
    }
    return {title: samples for title, samples in groups.items() if samples}


def _draw_image(report: TrainingReport, classes: Classes, sample: Sample) -> dict[str, Any]:
    image, labels = report.dataset.read(sample)
    panels = draw_panels(image, labels, report.predictor.predict(image).labels, classes)
    return {
        "name": sample.name,
        "score": format_percent(compute_image_score(report.counts.per_image[sample])),
        "size": f"{labels.shape[1]} × {labels.shape[0]}",
        "panels": {title: to_data_uri(picture, MAX_PICTURE_SIDE) for title, picture in panels.items()},
    }
