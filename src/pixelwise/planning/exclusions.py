"""`train --skip-invalid`: what of a dataset with errors is left out, by name, so that the rest can train."""

import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import yaml

from pixelwise.checks import CODES, Finding
from pixelwise.checks.runner import run_checks
from pixelwise.data.dataset import Dataset
from pixelwise.data.sample import Sample
from pixelwise.data.scan import scan_dataset
from pixelwise.errors import CheckpointError
from pixelwise.files import write_atomically

logger = logging.getLogger(__name__)

ACCEPTED = ("jpeg_mask", "foreground_ignored", "palette_order")
"""Codes of errors that harm what is learned, but keep no pair from being used: with skip_invalid, all are."""


@dataclass(frozen=True, slots=True)
class LeftOut:
    """One line of `left_out.yaml`."""

    file: str
    """Below the dataset's root; of a pair, its image."""
    reason: str

    def __str__(self) -> str:
        return f"left out: {self.file}: {self.reason}"


def leave_out_faults(dataset: Dataset) -> tuple[Dataset, tuple[LeftOut, ...]]:
    """The dataset without the pairs that errors name, and what was left out; both are said aloud.

    Reads every pair once. Test pairs are not opened, and stay.
    """
    scanned = scan_dataset(dataset, [s for s in dataset.samples if s.split != "test"])
    errors = run_checks(scanned).errors
    for error in errors:
        logger.info(f"error: {error.message} {error.fix}")
    blocking = [error for error in errors if error.code not in ACCEPTED]
    left_out = (*_in_pairs(scanned, blocking), *_in_no_pair(dataset, blocking))
    for one in left_out:
        logger.info(str(one))
    return without(dataset, left_out), left_out


def without(dataset: Dataset, left_out: Iterable[LeftOut]) -> Dataset:
    """The dataset less the pairs that are left out."""
    files = {one.file for one in left_out}
    names = _pair_names(dataset)
    kept = tuple(sample for sample in dataset.samples if names[sample] not in files)
    return dataset.with_samples(kept)


def is_overruled(error: Finding, left_out: Sequence[LeftOut] | None) -> bool:
    """Whether an error is no reason to stop: training can bear it, or all that shows it is left out.

    `left_out` is None where nothing was forced.
    """
    if left_out is None:
        return False
    return error.code in ACCEPTED or (bool(error.files) and {one.file for one in left_out}.issuperset(error.files))


def write_left_out(path: Path, left_out: Iterable[LeftOut]) -> None:
    """A list of file and reason. An empty one tells that the run was forced without need."""
    header = "# Trained with --skip-invalid. Files of the dataset that were left out:\n"
    text = yaml.safe_dump([asdict(one) for one in left_out], sort_keys=False, allow_unicode=True, width=1000)
    write_atomically(path, (header + text).encode())


def read_left_out(path: Path) -> tuple[LeftOut, ...]:
    """The inverse of `write_left_out`. Raises CheckpointError for anything else."""
    try:
        listed = yaml.safe_load(path.read_text(encoding="utf-8"))
        return tuple(LeftOut(file=str(one["file"]), reason=str(one["reason"])) for one in listed)
    except (OSError, ValueError, TypeError, KeyError, yaml.YAMLError) as error:
        raise CheckpointError(f"{path} must list 'file' and 'reason'; restore it, or start a new run.") from error


def _in_pairs(dataset: Dataset, errors: Sequence[Finding]) -> Iterator[LeftOut]:
    """Each pair that an error names, with the first reason why."""
    by_file = dataset.map_files_to_samples()
    reasons: dict[Sample, str] = {}
    for stats in dataset.stats:
        if fault := stats.image_error or stats.mask_error:
            reasons[stats.sample] = _below(fault, dataset)
    for error in errors:
        for sample in filter(None, map(by_file.get, error.files)):
            reasons.setdefault(sample, CODES[error.code][1])
    names = _pair_names(dataset)
    for sample, reason in sorted(reasons.items()):
        yield LeftOut(names[sample], reason.removeprefix(f"{dataset.get_relative_path(sample.image_path)}: "))


def _pair_names(dataset: Dataset) -> dict[Sample, str]:
    """What a pair is called here: its image file, and its name where the file holds other pairs too."""
    by_file = dataset.map_files_to_samples()
    files = {sample: dataset.get_relative_path(sample.image_path) for sample in dataset.samples}
    return {sample: file if file in by_file else f"{file}: {sample.name}" for sample, file in files.items()}


def _in_no_pair(dataset: Dataset, errors: Sequence[Finding]) -> Iterator[LeftOut]:
    paired = {dataset.get_relative_path(path) for s in dataset.samples for path in (s.image_path, s.label_path)}
    reasons = {file: CODES[error.code][1] for error in reversed(errors) for file in error.files}
    return (LeftOut(file, reason) for file, reason in sorted(reasons.items()) if file not in paired)


def _below(text: str, dataset: Dataset) -> str:
    """A text with paths, without the folder of the dataset."""
    return text.replace(f"{dataset.root}/", "")
