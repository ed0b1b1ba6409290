"""From a folder to a job: open, split, survey, describe. Test images are not opened."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch

from pixelwise.data.classes import Classes
from pixelwise.data.dataset import DataSet, open_dataset
from pixelwise.data.doctor import require_sound
from pixelwise.data.splits import Splits, make_splits, read_splits
from pixelwise.data.survey import Survey, survey
from pixelwise.losses import median_frequency_weights
from pixelwise.model_file import ModelSpec
from pixelwise.planning.fingerprint import Fingerprint, fingerprint
from pixelwise.planning.forced import ACCEPTED, LeftOut, is_overruled, leave_out_faults, without
from pixelwise.progress import Progress, Silent
from pixelwise.recipe import Recipe
from pixelwise.training.trainer import Job


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """A data set opened, split, read once and found sound."""

    dataset: DataSet
    splits: Splits
    seen: Fingerprint
    notes: tuple[str, ...]
    left_out: tuple[LeftOut, ...] | None = None
    """What --force has left out; None: not forced."""
    overruled: tuple[str, ...] = ()
    """What --force has set aside, in words: for the report, said already when it was done."""

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


def prepare(
    data: str | Path,
    recipe: Recipe,
    *,
    made_splits: Path | None = None,
    force: bool = False,
    left_out: tuple[LeftOut, ...] | None = None,
    progress: Progress | None = None,
) -> Prepared:
    """Reads every training and validation pair once. Errors in the data stop here, all named.

    `recipe` says how the data set lies and how it is split: its section `data`, and its seed.
    `made_splits` is the splits.yaml of a run to go on with; its lists are used as they are, and
    `left_out` what that run, if forced, has left out. `force` leaves out what errors name, says so to
    `progress`, and reads the pairs a second time; what errors still forbid stops.
    """
    dataset = open_dataset(data, recipe.data.layout)
    if force:
        dataset, left_out = leave_out_faults(dataset, progress or Silent())
    elif left_out:
        dataset = without(dataset, left_out)
    if made_splits:
        splits, note = read_splits(made_splits, dataset.samples), None
    else:
        splits, note = make_splits(dataset.samples, recipe.data.val_fraction, recipe.training.seed)
    surveyed = survey(dataset, splits["train"] + splits["val"])
    report = require_sound(surveyed, overruled=partial(is_overruled, left_out=left_out))
    accepted = [f"error: {f.message}" for f in report.errors if f.code in ACCEPTED]
    described = [f for f in report.findings if f.severity != "error" and f.code != "split_made"]
    notes = [f"{f.severity}: {f.message}" for f in described]
    return Prepared(
        dataset=surveyed.dataset,
        splits=splits,
        seen=fingerprint(surveyed, splits, _class_weights(surveyed, splits)),
        notes=tuple(notes + ([note] if note else [])),
        left_out=left_out,
        overruled=(*accepted, *map(str, left_out or ())),
    )


def _class_weights(surveyed: Survey, splits: Splits) -> tuple[float, ...]:
    pixels = surveyed.class_pixels(splits["train"])
    by_sample = {r.sample: sum(r.values.values()) for r in surveyed.readings}
    sizes = np.array([by_sample[s] for s in splits["train"]])
    weights = median_frequency_weights(pixels.sum(0), ((pixels > 0) * sizes[:, None]).sum(0))
    return tuple(float(weight) for weight in weights)
