"""`report.html`: one offline file that shows what was learned from what, how well, and where not."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from pixelwise.data.classes import Classes
from pixelwise.data.dataset import Dataset
from pixelwise.data.io.images import Array
from pixelwise.data.sample import Sample, Split
from pixelwise.data.visualization import overlay_labels, to_css_color, to_data_uri, to_display_image
from pixelwise.evaluation.evaluate import EvaluationCounts
from pixelwise.files import write_atomically
from pixelwise.inference.predictor import Predictor
from pixelwise.metrics import ConfusionMatrix, mean_iou
from pixelwise.reports.html import render
from pixelwise.reports.plots import chart, smooth

SHOWN_PER_GROUP = 3
MAX_PICTURE_SIDE = 640


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """All that the page is made from; every figure on it comes from `tally` or `metrics`."""

    title: str
    dataset: Dataset
    splits: Mapping[Split, Sequence[Sample]]
    class_shares: Sequence[float]
    """Share of each class among the training pixels."""
    predictor: Predictor
    tally: EvaluationCounts
    """Of the validation images."""
    metrics: Sequence[Mapping[str, Any]]
    """Lines of metrics.jsonl."""
    config: str
    """As YAML, with reasons."""
    notes: Sequence[str]


def write_report(path: Path, report: Report) -> None:
    """Writes the page whole or not at all."""
    classes = report.predictor.classes
    scores = report.tally.compute_scores(classes.names)
    values = {
        "report": report,
        "scores": scores,
        "cards": _cards(scores),
        "split_sizes": {name: len(samples) for name, samples in report.splits.items() if samples},
        "class_rows": _class_rows(report, classes, scores),
        "curves": _curves(report.metrics),
        "confusion": confusion_table(classes, report.tally.confusion.counts),
        "groups": _groups(report, classes),
        "parameters": sum(p.numel() for p in report.predictor.module.parameters()),
        "network": report.predictor.spec.network,
    }
    write_atomically(path, render("training_report.html.jinja", values))


def _cards(scores: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    explained = {
        "mean_iou": ("mean IoU", "overlap of prediction and truth, averaged over the classes"),
        "global_accuracy": ("global accuracy", "share of pixels with the right class"),
        "mean_class_accuracy": ("mean class accuracy", "share found of each class, averaged"),
        "mean_dice": ("mean Dice", "twice the overlap over both areas, averaged"),
        "boundary_f1": ("boundary F1", "borders met within 0.75 % of the diagonal"),
    }
    return [(title, percent(scores[key]), text) for key, (title, text) in explained.items()]


def _class_rows(report: Report, classes: Classes, scores: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [
        {
            "name": name,
            "color": to_css_color(color),
            "share": percent(share),
            "bar": 100 * (scores["per_class"][name]["iou"] or 0),
            **{key: percent(scores["per_class"][name][key]) for key in ("iou", "accuracy", "dice")},
            "pixels": f"{scores['per_class'][name]['pixels']:,}",
        }
        for name, color, share in zip(classes.names, classes.colors, report.class_shares, strict=True)
    ]


def confusion_table(classes: Classes, counts: Array) -> dict[str, Any]:
    """Rows of truth, as shares of the row; the darker, the more."""
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    rows = [
        {
            "name": name,
            "cells": [
                {"text": f"{100 * s:.0f}" if s >= 0.005 else "", "strength": round(float(s) ** 0.6, 3), "own": i == j}
                for j, s in enumerate(row)
            ],
        }
        for i, (name, row) in enumerate(zip(classes.names, shares, strict=True))
    ]
    return {"names": classes.names, "rows": rows}


def _groups(report: Report, classes: Classes) -> list[dict[str, Any]]:
    """The worst, median and best images, each as image, truth, prediction and errors."""
    tallies = report.tally.per_image
    scored = [sample for sample in tallies if tallies[sample].counts.any()]  # else all is ignored
    ranked = sorted(scored, key=lambda s: compute_image_score(tallies[s]))
    count = min(SHOWN_PER_GROUP, -(-len(ranked) // 3))
    middle = (len(ranked) - count) // 2
    chosen = {
        "Worst": ranked[:count],
        "Median": [s for s in ranked[middle : middle + count] if s not in ranked[:count]],
        "Best": [s for s in ranked[-count:] if s not in ranked[: middle + count]],
    }
    show = partial(_show, report, classes)
    return [{"title": title, "images": [show(s) for s in samples]} for title, samples in chosen.items() if samples]


def _show(report: Report, classes: Classes, sample: Sample) -> dict[str, Any]:
    image, labels = report.dataset.read(sample)
    shown = panels(image, labels, report.predictor.predict(image).labels, classes)
    return {
        "name": sample.name,
        "score": percent(compute_image_score(report.tally.per_image[sample])),
        "size": f"{labels.shape[1]} × {labels.shape[0]}",
        "panels": {name: to_data_uri(pixels, MAX_PICTURE_SIDE) for name, pixels in shown.items()},
    }


def panels(image: Array, labels: Array, prediction: Array, classes: Classes) -> dict[str, Array]:
    """One image four times, each (H, W, 3) uint8: as it is, with the truth, the prediction, the errors."""
    picture = to_display_image(image)
    return {
        "image": picture,
        "truth": overlay_labels(picture, labels, classes, 0.75),
        "prediction": overlay_labels(picture, prediction, classes, 0.75),
        "errors": _errors(picture, labels, prediction, classes.ignore_index),
    }


def _errors(picture: Array, labels: Array, prediction: Array, ignore_index: int) -> Array:
    """Wrong pixels in red on a pale gray image; ignored ones hatched out in blue-gray."""
    gray = picture.mean(2, keepdims=True) * 0.45 + 130
    shown = np.repeat(gray, 3, 2)
    wrong = (prediction != labels) & (labels != ignore_index)
    shown[wrong] = 0.25 * shown[wrong] + 0.75 * np.array([220, 20, 40])
    ignored = labels == ignore_index
    shown[ignored] = 0.5 * shown[ignored] + 0.5 * np.array([120, 140, 170])
    return shown.astype(np.uint8)


def _curves(metrics: Sequence[Mapping[str, Any]]) -> list[str]:
    """Loss, and validation scores, over the minutes of training, as inline SVG."""
    steps = [m for m in metrics if "loss" in m]
    scored = [m for m in metrics if "val" in m]
    charts = []
    if len(steps) > 1:
        minutes = [m["seconds"] / 60 for m in steps]
        losses = [m["loss"] for m in steps]
        lines = [(minutes, losses, "#c9d6e8", ""), (minutes, smooth(losses), "#2f6db5", "")]
        charts.append(chart("Training loss", lines))
    if scored:
        minutes = [m["seconds"] / 60 for m in scored]
        lines = [
            (minutes, [m["val"]["mean_iou"] or 0 for m in scored], "#d9602b", "mean IoU"),
            (minutes, [m["val"]["global_accuracy"] or 0 for m in scored], "#3a8a5f", "global accuracy"),
        ]
        charts.append(chart("Validation", lines))
    return charts


def compute_image_score(confusion: ConfusionMatrix) -> float:
    """Return the mean IoU of an image, or 0 if it is undefined."""
    value = mean_iou(confusion.counts)
    return 0.0 if np.isnan(value) else value


def percent(value: float | None) -> str:
    return "–" if value is None or np.isnan(value) else f"{100 * value:.1f} %"
