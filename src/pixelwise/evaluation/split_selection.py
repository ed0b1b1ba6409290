"""Which images of a dataset a model is scored on, and in which classes."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from pixelwise.data.dataset import Dataset
from pixelwise.data.sample import Sample
from pixelwise.data.splits.splits import read_splits
from pixelwise.errors import InvalidArgumentError
from pixelwise.inference.predictor import Predictor


def choose_split(dataset: Dataset, model: Path, split: str | None) -> tuple[str, list[Sample]]:
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
        raise InvalidArgumentError(
            f"{dataset.root} has no split {split or 'test or val'!r}; it has {', '.join(sorted(by_split))}."
        )
    return wanted, by_split[wanted]


def _trained_on_val(model: Path, own_val: Sequence[Sample]) -> bool:
    """Whether the model's run is one of several folds: those train on images of the dataset's own val split."""
    listed = _listed_splits(model)
    trained = listed.get("train") if isinstance(listed, dict) else None
    return not {sample.name for sample in own_val}.isdisjoint(trained or ())


def _listed_splits(model: Path) -> Any:
    """What the splits.yaml beside a model holds; nothing where there is none."""
    path = _splits_file(model)
    return yaml.safe_load(path.read_text(encoding="utf-8")) if path.is_file() else {}


def _splits_file(model: Path) -> Path:
    return (model if model.is_dir() else model.parent) / "splits.yaml"


def _made_splits(model: Path, dataset: Dataset) -> dict[str, list[Sample]]:
    """The splits that the model's run made of this dataset; none where it was trained on another."""
    path = _splits_file(model)
    if not path.is_file():
        return {}
    listed = _listed_splits(model)
    names = {sample.name for sample in dataset.samples}
    if isinstance(listed, dict) and not any(names.intersection(found or ()) for found in listed.values()):
        return {}
    return {str(name): found for name, found in read_splits(path, dataset.samples).items() if found}


def for_model(dataset: Dataset, predictor: Predictor) -> Dataset:
    """The dataset read in the model's classes; classes it names itself must be the same."""
    classes = dataset.declared_classes or predictor.classes
    if classes.names != predictor.classes.names:
        raise InvalidArgumentError(
            f"{dataset.root} has the classes {', '.join(classes.names)}, but the model knows "
            f"{', '.join(predictor.classes.names)}; score it on data with the same classes."
        )
    return dataset.with_classes(classes, predictor.spec.channels)
