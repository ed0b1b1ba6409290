"""From a folder to a job: open, split, survey, describe. Test images are not opened."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from pixelwise.data.classes import Classes
from pixelwise.data.dataset import DataSet, open_dataset
from pixelwise.data.division import Division, divide, divide_in_folds
from pixelwise.data.doctor import require_sound
from pixelwise.data.sample import Sample
from pixelwise.data.splits import Splits, read_splits
from pixelwise.data.survey import Survey, survey
from pixelwise.losses import median_frequency_weights
from pixelwise.model_file import ModelSpec
from pixelwise.planning.fingerprint import Fingerprint, fingerprint
from pixelwise.recipe import Recipe
from pixelwise.training.trainer import Job


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """A data set opened, split, read once and found sound."""

    dataset: DataSet
    splits: Splits
    groups: Mapping[Sample, str]
    """What a sample was kept together with, where a split was made by groups or blocks."""
    seen: Fingerprint
    notes: tuple[str, ...]

    @property
    def classes(self) -> Classes:
        assert self.dataset.classes is not None
        return self.dataset.classes

    def job(self, recipe: Recipe, device: torch.device) -> Job:
        """What the training loop is given."""
        weights = None
        if recipe.loss.class_weights == "median_frequency":
            weights = tuple(float(w) for w in np.array(self.seen.class_weights) ** recipe.loss.power)
        spec = ModelSpec(
            network=recipe.network,
            classes=self.classes,
            channels=self.seen.channels,
            dtype=self.seen.dtype,
            mean=self.seen.mean,
            deviation=self.seen.deviation,
            scores={},
        )
        return Job(
            recipe=recipe,
            dataset=self.dataset,
            splits=self.splits,
            spec=spec,
            class_weights=weights,
            device=device,
        )


def prepare(data: str | Path, recipe: Recipe, *, made_splits: Path | None = None) -> Prepared:
    """Reads every training and validation pair once. Errors in the data stop here, all named.

    `recipe` says how the data set lies and how it is split: its section `data`, and its seed.
    `made_splits` is the splits.yaml of a run to go on with; its lists are used as they are.
    """
    surveyed = _survey(data, recipe)
    if made_splits:
        division = Division(splits=read_splits(made_splits, surveyed.dataset.samples))
    else:
        division = divide(surveyed, recipe.data, recipe.training.seed)
    return _prepared(surveyed, division)


def prepare_folds(
    data: str | Path, recipe: Recipe, num_folds: int, *, made_splits: Sequence[Path] = ()
) -> list[Prepared]:
    """`prepare` for each of the folds: the files are read once, and each fold is described by its training images."""
    surveyed = _survey(data, recipe)
    if made_splits:
        divisions = [Division(splits=read_splits(path, surveyed.dataset.samples)) for path in made_splits]
    else:
        divisions = divide_in_folds(surveyed, recipe.data, num_folds, recipe.training.seed)
    return [_prepared(surveyed, division) for division in divisions]


def _survey(data: str | Path, recipe: Recipe) -> Survey:
    dataset = open_dataset(data, recipe.data.layout)
    return survey(dataset, [sample for sample in dataset.samples if sample.split != "test"])


def _prepared(surveyed: Survey, division: Division) -> Prepared:
    report = require_sound(surveyed, division.splits)
    notes = [f"{f.severity}: {f.message}" for f in report.findings]
    notes += [f"warning: {division.crossing}"] if division.crossing else []
    return Prepared(
        dataset=surveyed.dataset,
        splits=division.splits,
        groups=division.groups,
        seen=fingerprint(surveyed, division.splits, _class_weights(surveyed, division.splits)),
        notes=(*notes, *division.notes),
    )


def _class_weights(surveyed: Survey, splits: Splits) -> tuple[float, ...]:
    pixels = surveyed.class_pixels(splits["train"])
    by_sample = {r.sample: sum(r.values.values()) for r in surveyed.readings}
    sizes = np.array([by_sample[s] for s in splits["train"]])
    weights = median_frequency_weights(pixels.sum(0), ((pixels > 0) * sizes[:, None]).sum(0))
    return tuple(float(weight) for weight in weights)
