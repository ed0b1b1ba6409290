"""Scores of a model on a dataset, over one confusion matrix."""

import json
import logging
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from pixelwise.data.dataset import Dataset
from pixelwise.data.io.images import Array
from pixelwise.data.sample import Sample
from pixelwise.errors import DataError
from pixelwise.evaluation.split_selection import choose_split, for_model
from pixelwise.files import write_atomically
from pixelwise.inference.batching import Failure, predict_all
from pixelwise.inference.engine_selection import for_job
from pixelwise.inference.predictor import Predictor, load
from pixelwise.metrics import BoundaryScore, ConfusionMatrix, compute_scores, mean_iou
from pixelwise.progress import report_progress

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class Tally:
    """What is counted while images are scored; every figure of a report comes from here."""

    confusion: ConfusionMatrix
    boundary: BoundaryScore | None
    """None where boundaries are not scored (they take longer than the network on small images)."""
    per_image: dict[Sample, ConfusionMatrix] = field(default_factory=dict)

    def scores(self, names: Sequence[str]) -> dict[str, Any]:
        return compute_scores(self.confusion, self.boundary, names, num_images=len(self.per_image))


def evaluate(
    model: str | Path,
    data: str | Path,
    *,
    split: str | None = None,
    format: str | None = None,
    json_path: str | Path | None = None,
    device: str = "auto",
    precision: str = "auto",
    engine: str = "auto",
) -> dict[str, Any]:
    """Scores on split `test`, else `val`, else (no splits anywhere) on all images.

    `precision="int8"` uses the file that `quantize` writes.

    Returns the dictionary that `json_path` receives: fractions in [0, 1], None where undefined.
    Raises InvalidArgumentError where the dataset's classes are not the model's.
    """
    predictor = load(model, device=device, precision=precision, engine=engine)
    dataset = for_model(Dataset.load(data, format), predictor)
    chosen, samples = choose_split(dataset, Path(model), split)
    logger.info(f"scoring split {chosen!r}: {len(samples)} images, {predictor.precision}")
    if unlabeled := len(dataset.index.images_without_mask):
        logger.info(f"{unlabeled} image(s) of {dataset.root} have no mask and are not scored")
    if dataset.index.same_stem:
        names = ", ".join(path.name for path in dataset.index.same_stem[:3])
        raise DataError(f"{dataset.root} holds files of the same stem ({names}); rename or remove one of each.")
    if engine == "auto":
        predictor = for_job(predictor, model, num_images=len(samples))
    tally = score_samples(predictor, dataset, samples, report=True)
    result = tally.scores(predictor.classes.names)
    result |= {"split": chosen, "model": str(model), "data": str(data)}
    if json_path:
        write_atomically(Path(json_path), (json.dumps(result, indent=2) + "\n").encode())
    return result


def score_samples(
    predictor: Predictor,
    dataset: Dataset,
    samples: Sequence[Sample],
    *,
    boundaries: bool = True,
    report: bool = False,
    on_image: Callable[[Sample, Array, Array], None] = lambda sample, labels, prediction: None,
) -> Tally:
    """Predicts and counts. Files are read ahead, small images of one size share batches, and boundaries
    are matched in a thread beside the network. `report` shows the progress.
    """
    names = predictor.classes.names
    ignore = predictor.classes.ignore_index
    tally = Tally(ConfusionMatrix(len(names)), BoundaryScore(len(names)) if boundaries else None)
    with ThreadPoolExecutor(1, thread_name_prefix="boundaries") as pool:
        matched = []
        answers = predict_all(predictor, samples, dataset.read, name=lambda sample: sample.image_location)
        for done, answer in enumerate(answers, start=1):
            if isinstance(answer, Failure):
                raise answer.error
            sample, labels, prediction = answer.item, answer.extra, answer.prediction.labels
            one = ConfusionMatrix(len(names))
            one.update(prediction, labels, ignore_index=ignore)
            tally.confusion = tally.confusion + one
            tally.per_image[sample] = one
            if tally.boundary is not None:
                matched.append(pool.submit(tally.boundary.update, prediction, labels, ignore_index=ignore))
            on_image(sample, labels, prediction)
            if report:
                report_progress("evaluate", done, len(samples))
        for match in matched:
            match.result()
    return tally


def mean_iou_of(confusion: ConfusionMatrix) -> float:
    """Mean IoU of one image or set; 0 where nothing is defined, so that it can be sorted by."""
    value = mean_iou(confusion.counts)
    return 0.0 if np.isnan(value) else float(value)
