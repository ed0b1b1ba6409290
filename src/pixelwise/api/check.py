"""`pixelwise check`: what is wrong with a data set."""

from pathlib import Path

from pixelwise import checks
from pixelwise.checks import CheckReport
from pixelwise.reports.check_report import write_check_page
from pixelwise.shapes import Size


def check(
    data: str | Path,
    *,
    layout: str | None = None,
    resolution: Size | None = None,
    group: str | None = None,
    json_path: str | Path | None = None,
    html_path: str | Path | None = None,
) -> CheckReport:
    """Reads every file of a data set and says what is wrong with it, by name, with the cure.

    `resolution` is the height and width to which images are to be scaled for training; regions that
    would vanish there are told. None: images are not scaled, and nothing vanishes. `group` is what a
    split may not tear apart, as `data.group` of a recipe.
    `json_path` receives the report as JSON, `html_path` a page with pictures of what was found and of
    a random sample; both are written whatever the report says. Raises DataError where there is no data
    set at all.
    """
    report = checks.check(data, layout=layout, resolution=resolution, group=group, json_path=json_path)
    if html_path:
        assert report.surveyed is not None
        write_check_page(Path(html_path), report, report.surveyed)
    return report
