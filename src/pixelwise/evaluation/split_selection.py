"""Select the images on which a model is evaluated, and read them in its classes."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from pixelwise.data.dataset import Dataset
from pixelwise.data.sample import Sample
from pixelwise.data.splits.splits import read_splits
from pixelwise.errors import InvalidArgumentError
from pixelwise.inference.predictor import Predictor


def choose_split(dataset: Dataset, model: str | Path, split: str | None) -> tuple[str, list[Sample]]:
    """Return the name and the samples of a split: of the dataset, or of the run that trained the model.

    Args:
        split: None: the first of "test", "val" and, without any splits, "all".
    """
    model = Path(model)
    by_split: dict[str, list[Sample]] = {}
    for sample in dataset.samples:
        if sample.split:
            by_split.setdefault(sample.split, []).append(sample)
    # A run takes its val split out of train, so both come from the run.
    is_from_run = "val" not in by_split and (split == "train" or (split or "test") not in by_split)
    if is_from_run or (split != "test" and _was_trained_on(model, by_split.get("val", ()))):
        by_split |= _read_run_splits(model, dataset)
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
    return dataset.with_classes(classes, predictor.spec.channels)


def _was_trained_on(model: Path, samples: Sequence[Sample]) -> bool:
    """Return whether the run of the model trained on any of the samples, as folds do with the val split."""
    splits = _load_splits_file(model)
    trained = splits.get("train") if isinstance(splits, dict) else None
    return not {sample.name for sample in samples}.isdisjoint(trained or ())


def _read_run_splits(model: Path, dataset: Dataset) -> dict[str, list[Sample]]:
    """Return the splits in the splits.yaml of the model's run; none if it was trained on another dataset."""
    path = _find_splits_file(model)
    if not path.is_file():
        return {}
    splits = _load_splits_file(model)
    names = {sample.name for sample in dataset.samples}
    if isinstance(splits, dict) and not any(names.intersection(members or ()) for members in splits.values()):
        return {}
    return {str(name): samples for name, samples in read_splits(path, dataset.samples).items() if samples}


def _load_splits_file(model: Path) -> Any:
    path = _find_splits_file(model)
    return yaml.safe_load(path.read_text(encoding="utf-8")) if path.is_file() else {}


def _find_splits_file(model: Path) -> Path:
    return (model if model.is_dir() else model.parent) / "splits.yaml"
