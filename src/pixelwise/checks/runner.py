"""Run all checks on a scanned dataset."""

from collections.abc import Callable

from pixelwise.checks import class_balance, contradicting_masks, files, georeferences, images, masks, related_images
from pixelwise.checks.context import CheckContext
from pixelwise.checks.findings import CheckReport, Finding, make_finding, split_error_message
from pixelwise.config import DataConfig
from pixelwise.data.dataset import Dataset
from pixelwise.data.sample import Splits, group_by_split
from pixelwise.data.splits.splits import assign_splits
from pixelwise.errors import DataError, InvalidArgumentError, PixelwiseError, describe_failure, format_command
from pixelwise.shapes import Size

_MODULES = (files, georeferences, masks, contradicting_masks, images, class_balance, related_images)


def run_checks(
    dataset: Dataset, *, resolution: Size | None = None, group_by: str | None = None, splits: Splits | None = None
) -> CheckReport:
    """Run all checks on what was scanned of a dataset.

    Args:
        dataset: A dataset from `scan_dataset`.
        resolution: Height and width to which images will be scaled for training; regions that would become smaller
            than a pixel are reported. None: images are not scaled.
        group_by: The groups that must stay in one split, as `data.group_by` of a configuration.
        splits: The splits to check; None: those that training would use.

    Raises:
        InvalidArgumentError: `resolution` has no pixel, or `group_by` is invalid.
    """
    require_valid_resolution(resolution)
    findings: list[Finding] = []
    if splits is None:
        splits, findings = _assign_splits(dataset, group_by)
    context = CheckContext(dataset=dataset, splits=splits, resolution=resolution, group_by=group_by)
    found = [finding for module in _MODULES for check in module.CHECKS for finding in check(context)]
    order = {"error": 0, "warning": 1, "note": 2}
    return CheckReport(
        format=dataset.format,
        num_images=len(dataset.samples) + len(dataset.index.images_without_mask),
        classes=dataset.classes.names,
        splits={name: len(samples) for name, samples in splits.items() if samples},
        findings=tuple(sorted(found + findings, key=lambda f: order[f.severity])),
    )


def report_failure(error: PixelwiseError | OSError, dataset: Dataset | None) -> CheckReport:
    """Return the report on a dataset that could not be read, or not to its end, with the error as its only finding.

    Args:
        error: Why the checks could not run.
        dataset: The dataset, if its files were found before the error.
    """
    finding = make_finding("unreadable_dataset", (), *split_error_message(describe_failure(error)))
    return CheckReport(
        format=dataset.format if dataset else None,
        num_images=len(dataset.samples) if dataset else 0,
        classes=(),
        splits={name: len(samples) for name, samples in dataset.splits.items()} if dataset else {},
        findings=(finding,),
    )


def require_valid_dataset(
    dataset: Dataset,
    splits: Splits | None = None,
    *,
    group_by: str | None = None,
    is_accepted: Callable[[Finding], bool] = lambda error: False,
) -> CheckReport:
    """Run all checks and raise DataError with the first errors, except those that `is_accepted` accepts."""
    report = run_checks(dataset, splits=splits)
    if errors := [error for error in report.errors if not is_accepted(error)]:
        lines = [f"{f.message} {f.fix}" for f in errors[:5]]
        more = [f"(and {len(errors) - len(lines)} more)"] if len(errors) > len(lines) else []
        command = format_command("check", *dataset.arguments, *(["--group-by", group_by] if group_by else []))
        hint = f"List all findings: {command}. Train without the invalid files: --skip-invalid."
        raise DataError("\n".join([*lines, *more, hint]))
    return report


def require_valid_resolution(resolution: Size | None) -> None:
    """Raise InvalidArgumentError for a resolution without a pixel."""
    if resolution is not None and min(resolution) < 1:
        raise InvalidArgumentError(f"resolution is {resolution}. Expected height and width above 0, such as 256 512.")


def _assign_splits(dataset: Dataset, group_by: str | None) -> tuple[Splits, list[Finding]]:
    try:
        assignment = assign_splits(dataset, DataConfig(group_by=group_by), 0)
    except DataError as error:
        return group_by_split(dataset.samples), [make_finding("too_few_pairs", (), *split_error_message(str(error)))]
    if not assignment.notes:
        return assignment.splits, []
    fix = "To choose the validation images yourself, put them into a split named val."
    return assignment.splits, [make_finding("split_made", (), " ".join(assignment.notes), fix)]
