"""`pixelwise check`: what is wrong with a dataset."""

from pathlib import Path

from pixelwise import checks
from pixelwise.checks import CheckReport
from pixelwise.reports.check_report import write_check_report
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
    """Reads every file of a dataset and says what is wrong with it, by name, with the cure.

    `resolution` is the height and width to which images are to be scaled for training; regions that
    would vanish there are told. None: images are not scaled, and nothing vanishes. `group` is what a
    split may not tear apart, as `data.group_by` of a config.
    `json_path` receives the report as JSON, `html_path` a page with pictures of what was found and of
    a random sample; both are written whatever the report says. Raises DataError where there is no dataset at all.
    """
    report = checks.check(data, format=format, resolution=resolution, group_by=group_by, json_path=json_path)
    if html_path:
        assert report.surveyed is not None
        write_check_report(Path(html_path), report, report.surveyed)
    return report
