"""Evaluate a model on a dataset: select samples, predict, count, compute scores from one confusion matrix."""

import itertools
import logging
import os
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from pixelwise.config import load_config
from pixelwise.data.class_names import ask_for_similar, list_names, suggest_renames
from pixelwise.data.classes import Classes, find_foreground
from pixelwise.data.dataset import Dataset
from pixelwise.data.description import format_changes, read_description
from pixelwise.data.file_records import read_file_records
from pixelwise.data.io.images import Array
from pixelwise.data.joined_dataset import load_datasets, name_as_part
from pixelwise.data.sample import Sample
from pixelwise.data.splits.splits import read_splits
from pixelwise.errors import DataError, InvalidArgumentError, format_count
from pixelwise.evaluation.result import ChosenThreshold
from pixelwise.files import READ_ERRORS, read_yaml
from pixelwise.inference.batching import Failure, predict_all
from pixelwise.inference.predictor import Prediction, Predictor
from pixelwise.metrics import BoundaryScore, ConfusionMatrix, Criterion, MarginHistogram, compute_scores
from pixelwise.progress import report_progress

logger = logging.getLogger(__name__)

MAX_PENDING = 16
"""Predictions that may wait for their boundaries to be matched: two batches of small ones."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoredImage:
    """An image that was scored."""

    sample: Sample
    image: Array
    """(H, W, C), as the network gets it."""
    labels: Array
    """(H, W) true labels."""
    prediction: Array
    """(H, W) predicted labels."""
    confusion: ConfusionMatrix


@dataclass(slots=True)
class EvaluationCounts:
    """The counts from which every score of an evaluation is computed."""

    confusion: ConfusionMatrix
    boundary: BoundaryScore | None
    """None if boundaries are not scored; they take longer than the network on small images."""
    per_image: dict[Sample, ConfusionMatrix] = field(default_factory=dict)
    margins: MarginHistogram | None = None
    """Pixel counts by margin; None unless there are two classes, and if boundaries are not scored."""

    def compute_scores(self, names: Sequence[str]) -> dict[str, Any]:
        """Compute the scores, see `metrics.compute_scores`.

        Args:
            names: of the classes.
        """
        return compute_scores(
            self.confusion,
            self.boundary,
            names,
            num_images=len(self.per_image),
            foreground=find_foreground(names),
            margins=self.margins,
        )

    def choose_threshold(self, criterion: Criterion, split: str) -> ChosenThreshold:
        """Choose the threshold of two classes with the best score. Raises DataError if a class has no pixels."""
        assert self.margins is not None, "not two classes"
        threshold = self.margins.choose_threshold(criterion)
        confusion = ConfusionMatrix.from_counts(self.margins.count_above(threshold))
        names, num_images = ("background", "foreground"), len(self.per_image)
        scores = compute_scores(confusion, None, names, num_images=num_images, foreground=1)
        return ChosenThreshold(
            criterion=criterion,
            split=split,
            threshold=threshold,
            dice=scores["per_class"][names[1]]["dice"],
            **{name: scores["binary"][name] for name in ("sensitivity", "specificity", "precision")},
        )

    def count_details(self, prediction: Prediction, labels: Array, classes: Classes) -> None:
        """Count boundaries, and for two classes the margins of the pixels."""
        ignore_index, foreground = classes.ignore_index, classes.foreground
        if self.boundary is not None:
            self.boundary.update(prediction.labels, labels, ignore_index=ignore_index)
        if self.margins is not None and foreground is not None:
            logits = prediction.logits
            margins = logits[foreground] - logits[1 - foreground]
            self.margins.update(margins, labels, foreground=foreground, ignore_index=ignore_index)


def score_samples(
    predictor: Predictor,
    dataset: Dataset,
    samples: Sequence[Sample],
    *,
    boundaries: bool = True,
    report: bool = False,
    on_image: Callable[[ScoredImage], object] | None = None,
) -> EvaluationCounts:
    """Predict samples and count pixels by class. Files are read ahead, and details are counted in another thread.

    Args:
        boundaries: also score boundaries, and the ROC curve of two classes.
        report: report progress.
        on_image: called with each image.
    """
    num_classes = len(predictor.classes.names)
    ignore_index = predictor.classes.ignore_index
    counts = EvaluationCounts(ConfusionMatrix(num_classes), BoundaryScore(num_classes) if boundaries else None)
    if boundaries and predictor.classes.foreground is not None:
        counts.margins = MarginHistogram()
    answers = predict_all(
        predictor,
        samples,
        dataset.read,
        keep_logits=counts.margins is not None,
        name=lambda sample: sample.image_location,
    )
    # After an error the garbage collector would close it, perhaps in one of its own threads.
    with closing(answers), ThreadPoolExecutor(1, thread_name_prefix="count") as pool:
        pending: deque[Future[None]] = deque()
        for done, answer in enumerate(answers, start=1):
            if isinstance(answer, Failure):
                raise answer.error
            sample, labels, prediction = answer.item, answer.extra, answer.prediction.labels
            confusion = ConfusionMatrix(num_classes)
            confusion.update(prediction, labels, ignore_index=ignore_index)
            counts.confusion = counts.confusion + confusion
            counts.per_image[sample] = confusion
            if boundaries:
                pending.append(pool.submit(counts.count_details, answer.prediction, labels, predictor.classes))
            if len(pending) > MAX_PENDING:  # each keeps its prediction
                pending.popleft().result()
            if on_image:
                scored = ScoredImage(
                    sample=sample, image=answer.image, labels=labels, prediction=prediction, confusion=confusion
                )
                on_image(scored)
            if report:
                report_progress("evaluate", done, len(samples))
        for future in pending:
            future.result()
    return counts


def load_evaluation_data(
    data: Sequence[str | Path], model: str | Path, format: str | None = None, masks: str | None = None
) -> Dataset:
    """Load a dataset; without a format or masks, the dataset of the run of the model is read as by the run."""
    folder = get_run_folder(model)
    path = folder / "config.yaml"
    if format is None and masks is None and path.is_file():
        config = load_config(path).data
        if (config.format or config.masks) and _has_file_of_run(data, folder / "files.json"):
            format, masks = config.format, config.masks
            values = {"format": format, "masks": masks}
            shown = ", ".join(f"{key} {value}" for key, value in values.items() if value)
            logger.info(f"The dataset is read as by the run: {shown}")
    return load_datasets(data, format, masks)


def get_run_folder(model: str | Path) -> Path:
    """Return the run folder of a model, which is given by its folder or its file."""
    return Path(model) if Path(model).is_dir() else Path(model).parent


def _has_file_of_run(data: Sequence[str | Path], records_path: Path) -> bool:
    """Return whether the folders have a file of a run, by its name and contents."""
    records = read_file_records(records_path) or {}
    folders = [Path(os.path.abspath(folder)) for folder in data]
    roots = {*folders, *(folder.parent for folder in folders), Path(os.path.commonpath(folders))}
    return any(record.matches(root / name) for name, record in records.items() for root in roots)


def choose_split(dataset: Dataset, model: str | Path, split: str | None) -> tuple[str, list[Sample]]:
    """Return the name and the samples of a split: of the dataset, or of the run that trained the model.

    Args:
        split: None: the first of "test", "val" and, without any splits, "all".
    """
    folder = get_run_folder(model)
    path = folder / "splits.yaml"
    run_names = _read_sample_names(path)
    listed = set(itertools.chain(*run_names.values()))
    part = name_as_part(dataset)  # the run may have been trained on several folders
    is_part = not _select_named(dataset.samples, listed) and bool(_select_named(part.samples, listed))
    dataset = part if is_part else dataset
    by_split: dict[str, list[Sample]] = {}
    for sample in dataset.samples:
        if sample.split:
            by_split.setdefault(sample.split, []).append(sample)
    # A run takes its val split out of train, so both come from the run.
    is_from_run = "val" not in by_split and (split == "train" or (split or "test") not in by_split)
    named = _select_named(dataset.samples, listed) if is_from_run else []
    if split != "test":  # a fold also trains on images of the dataset's val split
        named += _select_named(by_split.get("val", ()), run_names.get("train", ()))
    if named and _has_recorded_file(dataset, named, folder / "files.json"):
        logger.info(f"The splits of the run apply, because {dataset.location} has images of the run")
        if not is_part:
            read_splits(path, dataset.samples)  # no sample may be missing
        named_splits = {name: _select_named(dataset.samples, names) for name, names in run_names.items()}
        by_split |= {name: samples for name, samples in named_splits.items() if samples}
        new = set(dataset.samples).difference(*by_split.values())
        if left_out := _select_left_out(dataset, new, folder / "left_out.yaml"):
            names = list_names(sorted(sample.name for sample in left_out))
            logger.info(f"Not scored, because the run left them out (see {folder / 'left_out.yaml'}): {names}")
        if num_new := len(new.difference(left_out)):
            logger.info(f"{format_count(num_new, 'image')} of {dataset.location} in no split of the run: not scored")
    elif named:
        scope = "the splits of the folder apply" if by_split else f"all {len(dataset.samples)} images are scored"
        logger.info(
            f"{dataset.location} is not the dataset of the run: its images have the same names, but other contents. "
            f"The splits of the run do not apply to it; {scope}"
        )
    if not by_split:
        by_split = {"all": list(dataset.samples)}
    wanted = split or next((s for s in ("test", "val", "all") if s in by_split), None)
    if wanted is None or wanted not in by_split:
        raise InvalidArgumentError(
            f"{dataset.location} has no split {split or 'test or val'!r}. It has: {', '.join(sorted(by_split))}."
        )
    return wanted, by_split[wanted]


def adapt_to_model(dataset: Dataset, predictor: Predictor, samples: Sequence[Sample]) -> Dataset:
    """Return the dataset with the classes of the model, matched by name, and with its channels and nodata.

    Masks without names have the mask values of the model. Names that only one of both has are logged.

    Raises:
        InvalidArgumentError: The samples show a class that the model does not have.
    """
    declared, classes, spec = dataset.declared_classes, predictor.classes, predictor.spec
    if declared is None:
        return dataset.with_classes(classes, spec.channels, spec.nodata)
    unknown = [name for name in declared.names if name not in classes.names]
    shown = _find_shown_classes(dataset, declared, samples) if unknown else set()
    if not shown.isdisjoint(unknown):
        raise InvalidArgumentError(_explain_other_classes(dataset, declared.names, classes.names))
    if unknown:
        logger.info(f"The model does not have these classes, which no image shows: {list_names(unknown)}")
    if missing := [name for name in classes.names if name not in declared.names]:
        logger.info(f"{dataset.location} does not have these classes of the model: {list_names(missing)}")
    index_of = {i: classes.names.index(name) for i, name in enumerate(declared.names) if name not in unknown}
    matched = replace(
        classes,
        label_mapping={value: index_of[i] for value, i in declared.label_mapping.items() if i in index_of},
        ranges={limits: index_of[i] for limits, i in declared.ranges.items() if i in index_of},
        ignore=declared.ignore,
        coding=declared.coding,
    )
    return dataset.with_classes(matched, spec.channels, spec.nodata)


def _find_shown_classes(dataset: Dataset, classes: Classes, samples: Sequence[Sample]) -> set[str]:
    """Return the names of the classes that occur in masks; a mask that cannot be read is reported when it is scored."""

    def find(sample: Sample) -> set[str]:
        try:
            labels = np.unique(classes.to_labels(dataset.read_mask(sample))[0])
        except READ_ERRORS:
            return set()
        return {classes.names[label] for label in labels.tolist() if label < len(classes.names)}

    with ThreadPoolExecutor(max_workers=4) as pool:
        return set().union(*pool.map(find, samples))


def _explain_other_classes(dataset: Dataset, names: Sequence[str], wanted: Sequence[str]) -> str:
    suggested = suggest_renames(names, wanted)
    changed = {name: suggested.get(name, "NAME") for name in names if name not in wanted}
    hint = ", with a class of the model for NAME, or ignore" if "NAME" in changed.values() else ""
    lines = format_changes(read_description(dataset.folders[0]), dataset.index.description.names, names, changed)
    return (
        f"{dataset.location} has the classes {list_names(names)}, but the model has {list_names(wanted)}. "
        f"Not in the model: {list_names(list(changed))}.{ask_for_similar(list(changed), wanted)} Use data with the "
        f"classes of the model, or write into the dataset.yaml of the dataset{hint}:\n{lines}"
    )


def _read_sample_names(path: Path) -> dict[str, list[str]]:
    """Return the names under each split of a splits.yaml; nothing if it does not exist."""
    listed = read_yaml(path) if path.is_file() else {}
    if not isinstance(listed, dict):
        raise DataError(f"{path} is damaged. Restore or remove it.")
    return {split: names or [] for split, names in listed.items()}


def _select_named(samples: Iterable[Sample], names: Iterable[str]) -> list[Sample]:
    wanted = set(names)
    return [sample for sample in samples if sample.name in wanted]


def _select_left_out(dataset: Dataset, samples: Iterable[Sample], path: Path) -> list[Sample]:
    """Return the samples that a run left out with --skip-invalid, by its list of them."""
    files = {entry["file"] for entry in read_yaml(path)} if path.is_file() else set()
    paths = {sample: dataset.get_relative_path(sample.image_path) for sample in samples}
    return [sample for sample, file in paths.items() if not files.isdisjoint((file, f"{file}: {sample.name}"))]


def _has_recorded_file(dataset: Dataset, samples: Iterable[Sample], path: Path) -> bool:
    """Return whether the image of a sample is a file of the run, by its record; True without a record."""
    records = read_file_records(path)
    if records is None:
        return True
    images = {dataset.get_relative_path(sample.image_path): sample.image_path for sample in samples}
    return any(name in records and records[name].matches(image) for name, image in images.items())
