"""Evaluate a model on a dataset: predict, count, compute scores from one confusion matrix."""

import json
import logging
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pixelwise.data.dataset import Dataset
from pixelwise.data.io.images import Array
from pixelwise.data.sample import Sample
from pixelwise.errors import DataError
from pixelwise.evaluation.split_selection import adapt_to_model, choose_split
from pixelwise.files import write_atomically
from pixelwise.inference.batching import Failure, predict_all
from pixelwise.inference.engines import select_engine
from pixelwise.inference.predictor import Predictor, load
from pixelwise.metrics import BoundaryScore, ConfusionMatrix, compute_scores
from pixelwise.progress import report_progress

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class EvaluationCounts:
    """The counts from which every score of an evaluation is computed."""

    confusion: ConfusionMatrix
    boundary: BoundaryScore | None
    """None if boundaries are not scored; they take longer than the network on small images."""
    per_image: dict[Sample, ConfusionMatrix] = field(default_factory=dict)

    def compute_scores(self, names: Sequence[str]) -> dict[str, Any]:
        """Compute the scores, see `metrics.compute_scores`.

        Args:
            names: of the classes.
        """
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
    """Compute the scores of a model on a split of a dataset, see `pixelwise.evaluate`."""
    predictor = load(model, device=device, precision=precision, engine=engine)
    dataset = adapt_to_model(Dataset.load(data, format), predictor)
    split, samples = choose_split(dataset, model, split)
    logger.info(f"Evaluating on split {split!r}: {len(samples)} images, {predictor.precision}")
    if num_unlabeled := len(dataset.index.images_without_mask):
        logger.info(f"{num_unlabeled} image(s) of {dataset.root} have no mask and are left out")
    if dataset.index.same_stem:
        names = ", ".join(path.name for path in dataset.index.same_stem[:3])
        raise DataError(f"{dataset.root} has files with the same stem ({names}). Rename or remove one of each.")
    if engine == "auto":
        predictor = select_engine(predictor, model, num_images=len(samples), store=False)
    counts = score_samples(predictor, dataset, samples, report=True)
    result = counts.compute_scores(predictor.classes.names)
    result |= {"split": split, "model": str(model), "data": str(data)}
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
) -> EvaluationCounts:
    """Predict samples and count pixels by class. Files are read ahead, and boundaries are matched in another thread.

    Args:
        boundaries: also score boundaries.
        report: report progress.
        on_image: called with each sample, its labels and its predicted labels.
    """
    num_classes = len(predictor.classes.names)
    ignore_index = predictor.classes.ignore_index
    counts = EvaluationCounts(ConfusionMatrix(num_classes), BoundaryScore(num_classes) if boundaries else None)
    with ThreadPoolExecutor(1, thread_name_prefix="boundaries") as pool:
        matches = []
        answers = predict_all(predictor, samples, dataset.read, name=lambda sample: sample.image_location)
        for done, answer in enumerate(answers, start=1):
            if isinstance(answer, Failure):
                raise answer.error
            sample, labels, prediction = answer.item, answer.extra, answer.prediction.labels
            confusion = ConfusionMatrix(num_classes)
            confusion.update(prediction, labels, ignore_index=ignore_index)
            counts.confusion = counts.confusion + confusion
            counts.per_image[sample] = confusion
            if counts.boundary is not None:
                matches.append(pool.submit(counts.boundary.update, prediction, labels, ignore_index=ignore_index))
            on_image(sample, labels, prediction)
            if report:
                report_progress("evaluate", done, len(samples))
        for match in matches:
            match.result()
    return counts
