"""`pixelwise check`: report problems in a dataset and how to fix them."""

import json
from pathlib import Path

from pixelwise.checks import CheckReport
from pixelwise.checks.runner import require_valid_resolution, run_checks
from pixelwise.data.dataset import Dataset
from pixelwise.data.scan import scan_dataset
from pixelwise.data.splits.user_groups import find_user_groups
from pixelwise.files import write_atomically
from pixelwise.reports.check_report import write_check_page
from pixelwise.shapes import Size


def check(
    data: str | Path,
    *,
    format: str | None = None,
    resolution: Size | None = None,
    group_by: str | None = None,
    json_path: str | Path | None = None,
    html_path: str | Path | None = None,
) -> CheckReport:
    """Read every file of a dataset and report its problems and how to fix them.

    Args:
        data: The folder of the dataset.
        format: Its format; None recognizes it.
        resolution: Height and width to which images will be scaled for training; regions that would become smaller
            than a pixel are reported. None: images are not scaled.
        group_by: Images that must stay in one split: a pattern on their names, or FILE.csv:COLUMN.
        json_path: Where to write the report as JSON.
        html_path: Where to write a page with pictures of the findings and of random samples.

    Returns:
        The report. Both files are written for every result.

    Raises:
        PathNotFoundError: `data` does not exist.
        DataError: It contains no images.
        InvalidArgumentError: `format`, `resolution` or `group_by` is invalid.
    """
    require_valid_resolution(resolution)
    dataset = Dataset.load(data, format)
    if group_by is not None:  # before images are read
        find_user_groups(dataset.samples, group_by, dataset.root)
    dataset = scan_dataset(dataset)
    report = run_checks(dataset, resolution=resolution, group_by=group_by)
    if json_path:
        text = json.dumps(report.to_dict(), indent=2, ensure_ascii=False) + "\n"
        write_atomically(Path(json_path), text.encode())
    if html_path:
        write_check_page(Path(html_path), report, dataset)
    return report
