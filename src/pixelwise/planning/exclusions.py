"""`train --skip-invalid`: the files of a dataset with errors that a run excludes."""

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
from pixelwise.errors import CheckpointError, DataError
from pixelwise.files import write_atomically

logger = logging.getLogger(__name__)

ACCEPTED_CODES = ("jpeg_mask", "foreground_ignored", "palette_order")
"""Codes of errors that lower the quality, but whose pairs can be used: skip_invalid keeps these pairs."""


REFUSED_CODES = ("color_masks", "soft_masks", "instance_masks")
"""Codes of errors that a key of dataset.yaml fixes: without most of the labeled pairs, a run learns something else."""


@dataclass(frozen=True, slots=True)
class Exclusion:
    """One line of `left_out.yaml`."""

    file: str
    """Path relative to the dataset's root; the image of a pair."""
    reason: str

    def __str__(self) -> str:
        return f"excluded: {self.file}: {self.reason}"


def exclude_invalid(dataset: Dataset) -> tuple[Dataset, tuple[Exclusion, ...]]:
    """Return the dataset without the pairs that errors name, and the exclusions; log both.

    Reads every pair once. Test pairs are not opened, and stay.

    Raises:
        DataError: The values of most masks have another meaning, which dataset.yaml must give.
    """
    scanned = scan_dataset(dataset, [s for s in dataset.samples if s.split != "test"])
    errors = run_checks(scanned).errors
    num_labeled = sum(len(stats.value_counts) > 1 for stats in scanned.stats)
    misread = [error for error in errors if error.code in REFUSED_CODES and 2 * len(error.files) > num_labeled]
    if misread:
        lines = [f"{error.message} {error.fix}" for error in misread]
        raise DataError("\n".join([*lines, "--skip-invalid does not leave out these masks."]))
    for error in errors:
        logger.info(f"error: {error.message} {error.fix}")
    blocking = [error for error in errors if error.code not in ACCEPTED_CODES]
    exclusions = (*_exclude_pairs(scanned, blocking), *_exclude_unpaired(dataset, blocking))
    for exclusion in exclusions:
        logger.info(str(exclusion))
    return drop_excluded(dataset, exclusions), exclusions


def drop_excluded(dataset: Dataset, exclusions: Iterable[Exclusion]) -> Dataset:
    """Return the dataset without the excluded pairs."""
    files = {exclusion.file for exclusion in exclusions}
    names = _name_pairs(dataset)
    return dataset.with_samples(tuple(sample for sample in dataset.samples if names[sample] not in files))


def is_waived(error: Finding, exclusions: Sequence[Exclusion] | None) -> bool:
    """Return whether training may ignore an error: its code is accepted, or all its files are excluded.

    Without --skip-invalid, `exclusions` is None and no error is ignored.
    """
    if exclusions is None:
        return False
    files = {exclusion.file for exclusion in exclusions}
    return error.code in ACCEPTED_CODES or (bool(error.files) and files.issuperset(error.files))


def write_exclusions(path: Path, exclusions: Iterable[Exclusion]) -> None:
    """Write `left_out.yaml`; an empty list means that --skip-invalid found nothing to exclude."""
    header = "# Trained with --skip-invalid, without these files of the dataset:\n"
    text = yaml.safe_dump(
        [asdict(exclusion) for exclusion in exclusions], sort_keys=False, allow_unicode=True, width=1000
    )
    write_atomically(path, (header + text).encode())


def read_exclusions(path: Path) -> tuple[Exclusion, ...]:
    """Read `left_out.yaml`.

    Raises:
        CheckpointError: the file is damaged.
    """
    try:
        entries = yaml.safe_load(path.read_text(encoding="utf-8"))
        return tuple(Exclusion(file=str(entry["file"]), reason=str(entry["reason"])) for entry in entries)
    except (OSError, ValueError, TypeError, KeyError, yaml.YAMLError) as error:
        raise CheckpointError(f"{path} must list 'file' and 'reason'. Restore it, or start a new run.") from error


def _exclude_pairs(dataset: Dataset, errors: Sequence[Finding]) -> Iterator[Exclusion]:
    """Exclude each pair that an error names, with the first reason."""
    by_file = dataset.map_files_to_samples()
    reasons: dict[Sample, str] = {}
    for stats in dataset.stats:
        if error_message := stats.image_error or stats.mask_error:
            reasons[stats.sample] = _make_relative(error_message, dataset)
    for error in errors:
        for sample in filter(None, map(by_file.get, error.files)):
            reasons.setdefault(sample, CODES[error.code][1])
    names = _name_pairs(dataset)
    for sample, reason in sorted(reasons.items()):
        yield Exclusion(names[sample], reason.removeprefix(f"{dataset.get_relative_path(sample.image_path)}: "))


def _name_pairs(dataset: Dataset) -> dict[Sample, str]:
    """Return the name of each pair: its image file, and its sample name if the file holds several pairs."""
    by_file = dataset.map_files_to_samples()
    files = {sample: dataset.get_relative_path(sample.image_path) for sample in dataset.samples}
    return {sample: file if file in by_file else f"{file}: {sample.name}" for sample, file in files.items()}


def _exclude_unpaired(dataset: Dataset, errors: Sequence[Finding]) -> Iterator[Exclusion]:
    """Exclude the files that errors name and that belong to no pair."""
    paired = {dataset.get_relative_path(path) for s in dataset.samples for path in s.paths}
    paired |= {file for s in dataset.samples for file in (dataset.get_image_file(s), dataset.get_mask_file(s))}
    reasons = {file: CODES[error.code][1] for error in reversed(errors) for file in error.files}
    return (Exclusion(file, reason) for file, reason in sorted(reasons.items()) if file not in paired)


def _make_relative(text: str, dataset: Dataset) -> str:
    """Return text with paths relative to the dataset's folder."""
    return text.replace(f"{dataset.root}/", "")
