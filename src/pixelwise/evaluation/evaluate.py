"""Score a model on samples: predict, count, compute scores from one confusion matrix."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from pixelwise.data.dataset import Dataset
from pixelwise.data.io.images import Array
from pixelwise.data.sample import Sample
from pixelwise.inference.batching import Failure, predict_all
from pixelwise.inference.predictor import Predictor
from pixelwise.metrics import BoundaryScore, ConfusionMatrix, compute_scores
from pixelwise.progress import report_progress


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
