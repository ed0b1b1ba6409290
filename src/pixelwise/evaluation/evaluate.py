"""Evaluate a model on a dataset: select samples, predict, count, compute scores from one confusion matrix."""

import itertools
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from pixelwise.data.dataset import Dataset
from pixelwise.data.io.images import Array
from pixelwise.data.sample import Sample
from pixelwise.data.splits.splits import read_splits
from pixelwise.errors import DataError, InvalidArgumentError
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


def choose_split(dataset: Dataset, model: str | Path, split: str | None) -> tuple[str, list[Sample]]:
    """Return the name and the samples of a split: of the dataset, or of the run that trained the model.

    Args:
        split: None: the first of "test", "val" and, without any splits, "all".
    """
    by_split: dict[str, list[Sample]] = {}
    for sample in dataset.samples:
        if sample.split:
            by_split.setdefault(sample.split, []).append(sample)
    model = Path(model)
    path = (model if model.is_dir() else model.parent) / "splits.yaml"
    run_names = _read_sample_names(path)
    # A run takes its val split out of train, so both come from the run.
    is_from_run = "val" not in by_split and (split == "train" or (split or "test") not in by_split)
    is_trained_on_dataset = _has_any(dataset.samples, itertools.chain(*run_names.values()))
    # A fold also trains on images of the dataset's val split.
    is_trained_on_val = _has_any(by_split.get("val", ()), run_names.get("train", ()))
    if (is_from_run and is_trained_on_dataset) or (split != "test" and is_trained_on_val):
        by_split |= {name: samples for name, samples in read_splits(path, dataset.samples).items() if samples}
    if not by_split:
        by_split = {"all": list(dataset.samples)}
    wanted = split or next((s for s in ("test", "val", "all") if s in by_split), None)
    if wanted is None or wanted not in by_split:
        raise InvalidArgumentError(
            f"{dataset.root} has no split {split or 'test or val'!r}. It has: {', '.join(sorted(by_split))}."
        )
    return wanted, by_split[wanted]


def adapt_to_model(dataset: Dataset, predictor: Predictor) -> Dataset:
    """Return the dataset with the classes and channels of the model; class names must be equal."""
    classes = dataset.declared_classes or predictor.classes
    if classes.names != predictor.classes.names:
        raise InvalidArgumentError(
            f"{dataset.root} has the classes {', '.join(classes.names)}, but the model has "
            f"{', '.join(predictor.classes.names)}. Use data with the classes of the model."
        )
    return dataset.with_classes(classes, predictor.spec.channels, predictor.spec.nodata)


def _read_sample_names(path: Path) -> dict[str, list[str]]:
    """Return the names under each split of a splits.yaml; nothing if it does not exist."""
    listed = yaml.safe_load(path.read_text(encoding="utf-8")) if path.is_file() else {}
    if not isinstance(listed, dict):
        raise DataError(f"{path} is damaged. Restore or remove it.")
    return {split: names or [] for split, names in listed.items()}


def _has_any(samples: Iterable[Sample], names: Iterable[str]) -> bool:
    return not {sample.name for sample in samples}.isdisjoint(names)
