"""Select the images on which a model is evaluated, and read them in its classes."""

import itertools
from collections.abc import Iterable
from pathlib import Path

import yaml

from pixelwise.data.dataset import Dataset
from pixelwise.data.sample import Sample
from pixelwise.data.splits.splits import read_splits
from pixelwise.errors import DataError, InvalidArgumentError
from pixelwise.inference.predictor import Predictor


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
    return dataset.with_classes(classes, predictor.spec.channels)


def _read_sample_names(path: Path) -> dict[str, list[str]]:
    """Return the names under each split of a splits.yaml; nothing if it does not exist."""
    listed = yaml.safe_load(path.read_text(encoding="utf-8")) if path.is_file() else {}
    if not isinstance(listed, dict):
        raise DataError(f"{path} is damaged. Restore or remove it.")
    return {split: names or [] for split, names in listed.items()}


def _has_any(samples: Iterable[Sample], names: Iterable[str]) -> bool:
    return not {sample.name for sample in samples}.isdisjoint(names)
