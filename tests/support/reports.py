"""Reports of small evaluations, for tests of pages."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from pixelwise.data.dataset import Dataset
from pixelwise.data.description import describe_classes, parse_description
from pixelwise.data.io.images import write_png
from pixelwise.evaluation.evaluate import score_samples
from pixelwise.inference.predictor import load
from pixelwise.reports.commands import ModelCommands
from pixelwise.reports.evaluation_report import EvaluationReport
from pixelwise.reports.gallery import ImageGallery

NAMES = ("a", "b", "c")


def make_masks(count: int) -> list[Any]:
    """Return masks (8, 12) of noise with three classes."""
    return list(np.random.default_rng(1).integers(0, 3, (count, 8, 12)))


def evaluate_noise(model: Path, folder: Path, masks: Sequence[Any], names: Sequence[str] = NAMES) -> EvaluationReport:
    """Evaluate a model on images of noise with these masks, which are written into a folder."""
    rng = np.random.default_rng(0)
    for number, mask in enumerate(masks):
        write_png(folder / "images" / "val" / f"{number}.png", rng.integers(0, 255, (*mask.shape, 3), np.uint8))
        write_png(folder / "masks" / "val" / f"{number}.png", mask.astype(np.uint8))
    predictor = load(model, device="cpu")
    classes = describe_classes(parse_description({"names": list(names)}))
    predictor = replace(predictor, spec=replace(predictor.spec, classes=classes))
    dataset = Dataset.load(folder).with_classes(classes, 3)
    gallery = ImageGallery(len(dataset.samples), classes)
    return EvaluationReport(
        title="runs & more",
        split="val",
        predictor=predictor,
        counts=score_samples(predictor, dataset, dataset.samples, on_image=gallery.add),
        gallery=gallery,
        commands=ModelCommands(model="run", data="data", image="data/images/val/0.png", page="run/evaluation.html"),
    )
