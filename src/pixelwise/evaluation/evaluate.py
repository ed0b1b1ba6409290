"""Scores of a model on a data set, over one confusion matrix."""

import json
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from pixelwise.data.dataset import DataSet, open_dataset
from pixelwise.data.images import Array, write_atomically
from pixelwise.data.sample import Sample
from pixelwise.data.splits import read_splits
from pixelwise.errors import DataError, RequestError
from pixelwise.inference.batches import Failure, predict_all
from pixelwise.inference.engine_choice import for_job
from pixelwise.inference.predictor import Predictor, load
from pixelwise.metrics import BoundaryScore, ConfusionMatrix, mean_iou, scores
from pixelwise.progress import Progress, Silent


@dataclass(slots=True)
class Tally:
    """What is counted while images are scored; every figure of a report comes from here."""

    confusion: ConfusionMatrix
    boundary: BoundaryScore | None
    """None where boundaries are not scored (they take longer than the network on small images)."""
    per_image: dict[Sample, ConfusionMatrix] = field(default_factory=dict)

    def scores(self, names: Sequence[str]) -> dict[str, Any]:
        return scores(self.confusion, self.boundary, names, num_images=len(self.per_image))


def evaluate(
    model: str | Path,
    data: str | Path,
    *,
    split: str | None = None,
    layout: str | None = None,
    json_path: str | Path | None = None,
    device: str = "auto",
    precision: str = "auto",
    engine: str = "auto",
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Scores on split `test`, else `val`, else (no splits anywhere) on all images.

    Returns the dictionary that `json_path` receives: fractions in [0, 1], None where undefined.
    Raises DataError where the data set's classes are not the model's.
    """
    progress = progress or Silent()
    predictor = load(model, device=device, precision=precision, engine=engine)
    dataset = for_model(open_dataset(data, layout), predictor)
    chosen, samples = choose_split(dataset, Path(model), split)
    progress.say(f"scoring split {chosen!r}: {len(samples)} images, {predictor.precision}")
    if unlabeled := len(dataset.pairing.images_without_mask):
        progress.say(f"{unlabeled} image(s) of {dataset.root} have no mask and are not scored")
    if dataset.pairing.same_stem:
        names = ", ".join(path.name for path in dataset.pairing.same_stem[:3])
        raise DataError(f"{dataset.root} holds files of the same stem ({names}); rename or remove one of each.")
    if engine == "auto":
        predictor = for_job(predictor, model, num_images=len(samples), progress=progress)
    tally = score_samples(predictor, dataset, samples, progress=progress)
    result = tally.scores(predictor.classes.names)
    result |= {"split": chosen, "model": str(model), "data": str(data)}
    if json_path:
        write_atomically(Path(json_path), (json.dumps(result, indent=2) + "\n").encode())
    return result


def score_samples(
    predictor: Predictor,
    dataset: DataSet,
    samples: Sequence[Sample],
    *,
    boundaries: bool = True,
    progress: Progress | None = None,
    on_image: Callable[[Sample, Array, Array], None] = lambda sample, labels, prediction: None,
) -> Tally:
    """Predicts and counts. Files are read ahead, small images of one size share batches, and boundaries
    are matched in a thread beside the network.
    """
    names = predictor.classes.names
    ignore = predictor.classes.ignore_label
    tally = Tally(ConfusionMatrix(len(names)), BoundaryScore(len(names)) if boundaries else None)
    with ThreadPoolExecutor(1, thread_name_prefix="boundaries") as pool:
        matched = []
        answers = predict_all(predictor, samples, dataset.read_pair, name=lambda sample: sample.image_place)
        for done, answer in enumerate(answers, start=1):
            if isinstance(answer, Failure):
                raise answer.error
            sample, labels, prediction = answer.item, answer.extra, answer.prediction.labels
            one = ConfusionMatrix(len(names))
            one.update(prediction, labels, ignore_label=ignore)
            tally.confusion = tally.confusion + one
            tally.per_image[sample] = one
            if tally.boundary is not None:
                matched.append(pool.submit(tally.boundary.update, prediction, labels, ignore_label=ignore))
            on_image(sample, labels, prediction)
            if progress:
                progress.track("evaluate", done, len(samples))
        for match in matched:
            match.result()
    return tally


def choose_split(dataset: DataSet, model: Path, split: str | None) -> tuple[str, list[Sample]]:
    """The split to score and its samples; a split made by the run is found in its splits.yaml."""
    by_split: dict[str, list[Sample]] = {}
    for sample in dataset.samples:
        if sample.split:
            by_split.setdefault(sample.split, []).append(sample)
    # The run took its val split out of train, so both are asked of it.
    made = "val" not in by_split and (split == "train" or (split or "test") not in by_split)
    if made or (split != "test" and _trained_on_val(model, by_split.get("val", ()))):
        by_split |= _made_splits(model, dataset)
    if not by_split:
        by_split = {"all": list(dataset.samples)}
    wanted = split or next((s for s in ("test", "val", "all") if s in by_split), None)
    if wanted is None or wanted not in by_split:
        raise RequestError(
            f"{dataset.root} has no split {split or 'test or val'!r}; it has {', '.join(sorted(by_split))}."
        )
    return wanted, by_split[wanted]


def _trained_on_val(model: Path, own_val: Sequence[Sample]) -> bool:
    """Whether the model's run is one of several folds: those train on images of the data set's own val split."""
    listed = _listed_splits(model)
    trained = listed.get("train") if isinstance(listed, dict) else None
    return not {sample.name for sample in own_val}.isdisjoint(trained or ())


def _listed_splits(model: Path) -> Any:
    """What the splits.yaml beside a model holds; nothing where there is none."""
    path = _splits_file(model)
    return yaml.safe_load(path.read_text(encoding="utf-8")) if path.is_file() else {}


def _splits_file(model: Path) -> Path:
    return (model if model.is_dir() else model.parent) / "splits.yaml"


def _made_splits(model: Path, dataset: DataSet) -> dict[str, list[Sample]]:
    """The splits that the model's run made of this data set; none where it was trained on another."""
    path = _splits_file(model)
    if not path.is_file():
        return {}
    listed = _listed_splits(model)
    names = {sample.name for sample in dataset.samples}
    if isinstance(listed, dict) and not any(names.intersection(found or ()) for found in listed.values()):
        return {}
    return {str(name): found for name, found in read_splits(path, dataset.samples).items() if found}


def for_model(dataset: DataSet, predictor: Predictor) -> DataSet:
    """The data set read in the model's classes; classes it names itself must be the same."""
    classes = dataset.classes or predictor.classes
    if classes.names != predictor.classes.names:
        raise RequestError(
            f"{dataset.root} has the classes {', '.join(classes.names)}, but the model knows "
            f"{', '.join(predictor.classes.names)}; score it on data with the same classes."
        )
    return dataset.with_classes(classes, predictor.spec.channels)


def mean_iou_of(confusion: ConfusionMatrix) -> float:
    """Mean IoU of one image or set; 0 where nothing is defined, so that it can be sorted by."""
    value = mean_iou(confusion.counts)
    return 0.0 if np.isnan(value) else float(value)
