"""From a folder to a job: open, split, survey, describe. Test images are not opened."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch

from pixelwise.checks.runner import require_valid_dataset
from pixelwise.config import Config, LossConfig
from pixelwise.data.classes import Classes
from pixelwise.data.dataset import Dataset
from pixelwise.data.sample import Sample, Splits
from pixelwise.data.scan import count_class_pixels, scan_dataset
from pixelwise.data.splits.splits import SplitAssignment, assign_folds, assign_splits, read_splits
from pixelwise.losses import inverse_log_weights, median_frequency_weights
from pixelwise.model_file import ModelSpec
from pixelwise.planning.exclusions import ACCEPTED, LeftOut, is_overruled, leave_out_faults, without
from pixelwise.planning.fingerprint import Fingerprint, fingerprint
from pixelwise.training.trainer import Job


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """A dataset opened, split, read once and found sound."""

    dataset: Dataset
    splits: Splits
    groups: Mapping[Sample, str]
    """What a sample was kept together with, where a split was made by groups or blocks."""
    seen: Fingerprint
    notes: tuple[str, ...]
    left_out: tuple[LeftOut, ...] | None = None
    """What --skip-invalid has left out; None: not forced."""
    overruled: tuple[str, ...] = ()
    """What --skip-invalid has set aside, in words: for the report, said already when it was done."""

    @property
    def classes(self) -> Classes:
        return self.dataset.classes

    def job(self, config: Config, device: torch.device) -> Job:
        """What the training loop is given."""
        spec = ModelSpec(
            network=config.network,
            classes=self.classes,
            channels=self.seen.channels,
            channel_files=self.dataset.index.channel_files,
            dtype=self.seen.dtype,
            mean=self.seen.mean,
            std=self.seen.std,
            scores={},
        )
        return Job(
            config=config,
            dataset=self.dataset,
            splits=self.splits,
            spec=spec,
            class_weights=self._weights(config.loss),
            device=device,
        )

    def _weights(self, loss: LossConfig) -> tuple[float, ...] | None:
        """What a pixel of each class counts in the loss; None: all the same."""
        if loss.class_weights == "none":
            return None
        if loss.class_weights == "inverse_log":
            return tuple(inverse_log_weights(self.seen.class_pixels, loss.class_weight_power).tolist())
        return tuple(float(w) for w in np.array(self.seen.class_weights) ** loss.class_weight_power)


def prepare(
    data: str | Path,
    config: Config,
    *,
    made_splits: Path | None = None,
    skip_invalid: bool = False,
    left_out: tuple[LeftOut, ...] | None = None,
    revise_splits: bool = False,
) -> Prepared:
    """Reads every training and validation pair once. Errors in the data stop here, all named.

    `config` says how the dataset lies and how it is split: its section `data`, and its seed.
    `made_splits` is the splits.yaml of a run to go on with; its lists are used as they are or, with
    `revise_splits`, less what is gone and with what is new (`data.splits.read_splits`). `left_out` is what that
    run, if forced, has left out. `skip_invalid` leaves out what errors name, says so to `progress`, and reads the
    pairs a second time; what errors still forbid stops.
    """
    dataset, left_out = _survey(data, config, skip_invalid, left_out)
    if made_splits:
        division = SplitAssignment(splits=read_splits(made_splits, dataset.samples, revise=revise_splits))
    else:
        division = assign_splits(dataset, config.data, config.training.seed)
    return _prepared(dataset, division, left_out)


def prepare_folds(
    data: str | Path,
    config: Config,
    num_folds: int,
    *,
    made_splits: Sequence[Path] = (),
    skip_invalid: bool = False,
    left_out: tuple[LeftOut, ...] | None = None,
) -> list[Prepared]:
    """`prepare` for each of the folds: the files are read once, and each fold is described by its training images."""
    dataset, left_out = _survey(data, config, skip_invalid, left_out)
    if made_splits:
        divisions = [SplitAssignment(splits=read_splits(path, dataset.samples)) for path in made_splits]
    else:
        divisions = assign_folds(dataset, config.data, num_folds, config.training.seed)
    return [_prepared(dataset, division, left_out) for division in divisions]


def _survey(
    data: str | Path,
    config: Config,
    skip_invalid: bool,
    left_out: tuple[LeftOut, ...] | None,
) -> tuple[Dataset, tuple[LeftOut, ...] | None]:
    """What there is to train and validate on, read, and what was left out of it."""
    dataset = Dataset.load(data, config.data.format)
    if skip_invalid:
        dataset, left_out = leave_out_faults(dataset)
    elif left_out:
        dataset = without(dataset, left_out)
    return scan_dataset(dataset, [sample for sample in dataset.samples if sample.split != "test"]), left_out


def _prepared(dataset: Dataset, division: SplitAssignment, left_out: tuple[LeftOut, ...] | None) -> Prepared:
    report = require_valid_dataset(dataset, division.splits, is_accepted=partial(is_overruled, left_out=left_out))
    accepted = [f"error: {f.message}" for f in report.errors if f.code in ACCEPTED]
    notes = [f"{f.severity}: {f.message}" for f in report.findings if f.severity != "error"]
    notes += [f"warning: {division.warning}"] if division.warning else []
    return Prepared(
        dataset=dataset,
        splits=division.splits,
        groups=division.groups,
        seen=fingerprint(dataset, division.splits, _class_weights(dataset, division.splits)),
        notes=(*notes, *division.notes),
        left_out=left_out,
        overruled=(*accepted, *map(str, left_out or ())),
    )


def _class_weights(dataset: Dataset, splits: Splits) -> tuple[float, ...]:
    pixels = count_class_pixels(dataset, splits["train"])
    by_sample = {s.sample: sum(s.value_counts.values()) for s in dataset.stats}
    sizes = np.array([by_sample[s] for s in splits["train"]])
    weights = median_frequency_weights(pixels.sum(0), ((pixels > 0) * sizes[:, None]).sum(0))
    return tuple(float(weight) for weight in weights)
