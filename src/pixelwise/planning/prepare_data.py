"""Open a dataset, scan it, split it and check it for errors. Test images are not opened."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pixelwise.checks.runner import require_valid_dataset
from pixelwise.config import Config, LossConfig
from pixelwise.data.classes import Classes
from pixelwise.data.dataset import Dataset
from pixelwise.data.io.nodata import ALL_DATA
from pixelwise.data.joined_dataset import StrPath, load_datasets
from pixelwise.data.rare_classes import RareClassSampler, make_rare_class_sampler
from pixelwise.data.sample import Sample, Splits
from pixelwise.data.scan import compute_normalization, count_class_pixels, scan_dataset
from pixelwise.data.splits.splits import SplitAssignment, assign_folds, assign_splits, read_splits
from pixelwise.losses import inverse_log_weights, median_frequency_weights
from pixelwise.model_file import ModelSpec
from pixelwise.planning.exclusions import ACCEPTED_CODES, Exclusion, drop_excluded, exclude_invalid, is_waived
from pixelwise.planning.fingerprint import Fingerprint, compute_dataset_fingerprint
from pixelwise.training.trainer import Trainer


@dataclass(frozen=True, kw_only=True)
class TrainingData:
    """A dataset that was scanned, split and checked."""

    dataset: Dataset
    splits: Splits
    groups: Mapping[Sample, str]
    """Group of a sample, if the splits keep groups or blocks together."""
    notes: tuple[str, ...]
    """Warnings and notes for the user."""
    exclusions: tuple[Exclusion, ...] | None = None
    """Files that --skip-invalid excluded; None without it."""
    waived: tuple[str, ...] = ()
    """Errors and files that --skip-invalid ignored, for the report; they were logged before."""

    @property
    def classes(self) -> Classes:
        """The classes, known after the scan."""
        return self.dataset.classes

    @cached_property
    def fingerprint(self) -> Fingerprint:
        """The statistics on which a plan depends; reads some label maps."""
        return compute_dataset_fingerprint(self.dataset, self.splits)

    @cached_property
    def class_pixels(self) -> tuple[int, ...]:
        """Pixels of each class in the training images."""
        return tuple(count_class_pixels(self.dataset, self.splits["train"]).sum(0).tolist())

    @property
    def class_shares(self) -> tuple[float, ...]:
        """Fraction of each class among the labeled training pixels."""
        total = max(sum(self.class_pixels), 1)
        return tuple(pixels / total for pixels in self.class_pixels)

    def class_weights(self, loss: LossConfig) -> tuple[float, ...] | None:
        """Return the weight of each class in the loss; None: all equal."""
        if loss.class_weights == "none":
            return None
        if loss.class_weights == "inverse_log":
            return tuple(inverse_log_weights(self.class_pixels, loss.class_weight_power).tolist())
        pixels = count_class_pixels(self.dataset, self.splits["train"])
        sizes = {stats.sample: sum(stats.value_counts.values()) for stats in self.dataset.stats}
        image_pixels = np.array([sizes[sample] for sample in self.splits["train"]])
        weights = median_frequency_weights(pixels.sum(0), ((pixels > 0) * image_pixels[:, None]).sum(0))
        return tuple(float(weight) for weight in np.asarray(weights) ** loss.class_weight_power)

    def make_rare_class_sampler(self, fraction: float) -> RareClassSampler | None:
        """Return the sampler for rare classes; None: all training samples are drawn uniformly."""
        if not fraction:
            return None
        return make_rare_class_sampler(count_class_pixels(self.dataset, self.splits["train"]), fraction)

    def trainer_arguments(self, config: Config) -> dict[str, Any]:
        """Return the arguments of a Trainer for a config, except those of the machine."""
        mean, std = compute_normalization(self.dataset, self.splits["train"])
        train = set(self.splits["train"])
        spec = ModelSpec(
            network=config.network,
            classes=self.classes,
            channels=self.dataset.channels or 0,
            channel_files=self.dataset.index.channel_files,
            nodata=self.dataset.nodata or ALL_DATA,
            dtype=next(stats.dtype for stats in self.dataset.stats if stats.sample in train),
            mean=tuple(mean),
            std=tuple(std),
            scores={},
        )
        return {
            "config": config,
            "dataset": replace(self.dataset, stats=()),  # large, and not needed any more
            "splits": self.splits,
            "spec": spec,
            "class_weights": self.class_weights(config.loss),
            "rare_classes": self.make_rare_class_sampler(config.data.rare_class_fraction),
        }

    def make_trainer(self, config: Config, device: torch.device) -> Trainer:
        """Return a trainer in this process, with random weights."""
        return Trainer(**self.trainer_arguments(config), device=device)


def prepare_data(
    data: StrPath | Sequence[StrPath],
    config: Config,
    *,
    splits_file: Path | None = None,
    skip_invalid: bool = False,
    exclusions: tuple[Exclusion, ...] | None = None,
    update_splits: bool = False,
) -> TrainingData:
    """Read every training and validation pair once.

    Args:
        data: the folder of the dataset, or several.
        config: format and splits of the dataset (section `data`), and the seed.
        splits_file: splits.yaml of a run to resume.
        skip_invalid: exclude the files that errors name, and read the remaining pairs a second time.
        exclusions: files that the resumed run excludes.
        update_splits: remove missing samples from the splits of the file, and add new ones.

    Raises:
        DataError: the dataset has errors; the message names all of them.
    """
    dataset, exclusions = _scan(data, config, skip_invalid, exclusions)
    if splits_file:
        assignment = SplitAssignment(splits=read_splits(splits_file, dataset.samples, update=update_splits))
    else:
        assignment = assign_splits(dataset, config.data, config.training.seed)
    return _check(dataset, assignment, exclusions, config.data.group_by)


def prepare_folds(
    data: StrPath | Sequence[StrPath],
    config: Config,
    num_folds: int,
    *,
    splits_files: Sequence[Path] = (),
    skip_invalid: bool = False,
    exclusions: tuple[Exclusion, ...] | None = None,
) -> list[TrainingData]:
    """Prepare the data of each fold as `prepare_data` does; the files are read once."""
    dataset, exclusions = _scan(data, config, skip_invalid, exclusions)
    if splits_files:
        assignments = [SplitAssignment(splits=read_splits(path, dataset.samples)) for path in splits_files]
    else:
        assignments = assign_folds(dataset, config.data, num_folds, config.training.seed)
    return [_check(dataset, assignment, exclusions, config.data.group_by) for assignment in assignments]


def _scan(
    data: StrPath | Sequence[StrPath], config: Config, skip_invalid: bool, exclusions: tuple[Exclusion, ...] | None
) -> tuple[Dataset, tuple[Exclusion, ...] | None]:
    """Read the training and validation pairs, without the excluded ones."""
    dataset = load_datasets(data, config.data.format, config.data.masks)
    if skip_invalid:
        dataset, exclusions = exclude_invalid(dataset)
    elif exclusions:
        dataset = drop_excluded(dataset, exclusions)
    return scan_dataset(dataset, [sample for sample in dataset.samples if sample.split != "test"]), exclusions


def _check(
    dataset: Dataset, assignment: SplitAssignment, exclusions: tuple[Exclusion, ...] | None, group_by: str | None
) -> TrainingData:
    """Raise DataError for errors in the data that are not waived."""
    report = require_valid_dataset(
        dataset,
        assignment.splits,
        group_by=group_by,
        is_accepted=partial(is_waived, exclusions=exclusions),
    )
    accepted = [f"error: {f.message}" for f in report.errors if f.code in ACCEPTED_CODES]
    notes = [f"{f.severity}: {f.message}" for f in report.findings if f.severity != "error"]
    notes += [f"warning: {assignment.warning}"] if assignment.warning else []
    return TrainingData(
        dataset=dataset,
        splits=assignment.splits,
        groups=assignment.groups,
        notes=(*notes, *assignment.notes),
        exclusions=exclusions,
        waived=(*accepted, *map(str, exclusions or ())),
    )
