"""Finds what is wrong with a dataset before training does: `pixelwise check`.

`findings.CODES` lists every code with its severity and meaning; docs/check.md adds the cures. Each
file holds a group of looks; a look turns what was read into findings, at most one for each code
(and class, or cure, where these differ), so that 500 broken files are one line.
"""

import json
from collections.abc import Callable
from pathlib import Path

from pixelwise.checks import class_balance, color_masks, duplicates, files, images, leakage, mask_values, sizes
from pixelwise.checks.findings import CODES, Case, CheckReport, Finding, Look, Severity, finding, sentence
from pixelwise.config import DataConfig
from pixelwise.data.dataset import open_dataset
from pixelwise.data.scan import Survey, survey
from pixelwise.data.splits.assign import divide
from pixelwise.data.splits.splits import Splits, own_splits
from pixelwise.data.splits.user_groups import find_groups
from pixelwise.errors import DataError
from pixelwise.files import write_atomically
from pixelwise.shapes import Size

__all__ = ["CODES", "CheckReport", "Finding", "Severity", "check", "diagnose", "require_sound"]

_LOOKS: tuple[Look, ...] = (
    *files.LOOKS,
    *sizes.LOOKS,
    *mask_values.LOOKS,
    *color_masks.LOOKS,
    *images.LOOKS,
    *class_balance.LOOKS,
    *duplicates.LOOKS,
    *leakage.LOOKS,
)


def check(
    data: str | Path,
    *,
    format: str | None = None,
    resolution: Size | None = None,
    group_by: str | None = None,
    json_path: str | Path | None = None,
) -> CheckReport:
    """Reads every file of a dataset and says what is wrong with it, by name, with the cure.

    `resolution` is the height and width to which images are to be scaled for training; regions that
    would vanish there are told. None: images are not scaled, and nothing vanishes. `group` is what a
    split may not tear apart, as `data.group_by` of a config. `json_path` receives the report as JSON
    whatever it says. Raises DataError where there is no dataset at all, and InvalidArgumentError for a
    resolution or a group that cannot be meant.
    """
    class_balance.require_usable(resolution)
    dataset = open_dataset(data, format)
    if group_by is not None:  # before anything is read
        find_groups(dataset.samples, group_by, dataset.root)
    surveyed = survey(dataset, dataset.samples)
    report = diagnose(surveyed, resolution=resolution, group_by=group_by)
    if json_path:
        text = json.dumps(report.to_dict(), indent=2, ensure_ascii=False) + "\n"
        write_atomically(Path(json_path), text.encode())
    return report


def diagnose(
    surveyed: Survey, *, resolution: Size | None = None, group_by: str | None = None, splits: Splits | None = None
) -> CheckReport:
    """All findings of what a survey has seen, errors first; on these splits, else those that training would make."""
    dataset = surveyed.dataset
    split_findings: list[Finding] = []
    if splits is None:
        splits, split_findings = _splits(surveyed, group_by)
    case = Case(surveyed=surveyed, splits=splits, resolution=resolution, group_by=group_by)
    found = [finding for look in _LOOKS for finding in look(case)]
    order = {"error": 0, "warning": 1, "note": 2}
    return CheckReport(
        format=dataset.format,
        num_images=len(dataset.samples) + len(dataset.index.images_without_mask),
        classes=dataset.classes.names if dataset.classes else (),
        splits={name: len(samples) for name, samples in splits.items() if samples},
        findings=tuple(sorted(found + split_findings, key=lambda f: order[f.severity])),
        surveyed=surveyed,
    )


def require_sound(
    surveyed: Survey, splits: Splits | None = None, *, overruled: Callable[[Finding], bool] = lambda error: False
) -> CheckReport:
    """The report, if nothing in it forbids training; else DataError with the first errors.

    `overruled` tells of an error whether to train in spite of it.
    """
    report = diagnose(surveyed, splits=splits)
    if errors := [error for error in report.errors if not overruled(error)]:
        lines = [f"{f.message} {f.fix}" for f in errors[:5]]
        more = len(errors) - len(lines)
        tail = [f"(and {more} more)"] if more else []
        where = f"All findings: pixelwise check {surveyed.dataset.root}. To train on what is sound: --skip-invalid."
        raise DataError("\n".join([*lines, *tail, where]))
    return report


def _splits(surveyed: Survey, group: str | None) -> tuple[Splits, list[Finding]]:
    try:
        division = divide(surveyed, DataConfig(group_by=group), 0)
    except DataError as error:
        fault, _, cure = str(error).rpartition("; ")
        return own_splits(surveyed.dataset.samples), [finding("too_few_pairs", (), f"{fault}.", sentence(cure))]
    if not division.notes:
        return division.splits, []
    return division.splits, [finding("split_made", (), " ".join(division.notes), "Name a val split to choose it.")]
