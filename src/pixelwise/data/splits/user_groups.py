r"""Groups that the user defines with `--group-by`: a pattern on sample names, or a column of a table.

patient(\d+)_            the first capture group, else the whole match, of the sample's name
patients.csv:patient     column `patient` of a CSV file; its first column names the images
"""

import csv
import re
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath

from pixelwise.data.io.images import IMAGE_EXTENSIONS
from pixelwise.data.sample import Sample
from pixelwise.errors import InvalidArgumentError

_TABLE = re.compile(r"(?P<path>.+\.(?:csv|tsv)):(?P<column>[^:]+)", re.IGNORECASE)


def find_user_groups(samples: Sequence[Sample], group_by: str, root: Path) -> dict[Sample, str]:
    """Return the group of every sample.

    Args:
        samples: The samples to group.
        group_by: A regular expression, or `FILE.csv:COLUMN`.
        root: The folder of the dataset, in which a table is looked up that is not found as given.

    Raises:
        InvalidArgumentError: The pattern or the table is invalid, or some samples have no group.
    """
    if table := _TABLE.fullmatch(group_by):
        return _group_by_table(samples, Path(table["path"]), table["column"].strip(), root)
    return _group_by_pattern(samples, group_by)


def _group_by_pattern(samples: Sequence[Sample], pattern: str) -> dict[Sample, str]:
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise InvalidArgumentError(
            f"--group-by {pattern!r} is not a valid regular expression ({error}). Expected a pattern such as "
            f"'patient(\\d+)', or FILE.csv:COLUMN."
        ) from error
    matches = {sample: compiled.search(sample.name) for sample in samples}
    groups = {s: (m[1] or "" if compiled.groups else m[0]) if m else "" for s, m in matches.items()}
    if unmatched := [sample.name for sample, group in groups.items() if not group]:
        raise InvalidArgumentError(
            f"--group-by {pattern!r} does not match {len(unmatched)} of {len(groups)} names: "
            f"{_shorten(unmatched)}. Use a pattern that matches every name."
        )
    return groups


def _group_by_table(samples: Sequence[Sample], path: Path, column: str, root: Path) -> dict[Sample, str]:
    path = path if path.exists() else root / path
    table = _read_table(path, column)
    groups = {sample: _look_up(table, sample, root) for sample in samples}
    if missing := [sample.name for sample, group in groups.items() if not group]:
        raise InvalidArgumentError(
            f"{path} has no {column!r} for {len(missing)} of {len(groups)} images: {_shorten(missing)}. "
            f"Add a row for each image, with its file name in the first column."
        )
    return groups


def _read_table(path: Path, column: str) -> dict[str, str]:
    """Return the group of each image name without suffix."""
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()  # spreadsheets write a byte order mark
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidArgumentError(
            f"{path} cannot be read ({error}). Expected a CSV file in UTF-8 for --group-by."
        ) from error
    header = lines[0] if lines else ""
    delimiter = max(",;\t", key=header.count)
    rows = csv.reader(lines, delimiter=delimiter)
    columns = [name.strip() for name in next(rows, [])]
    if column not in columns[1:]:
        raise InvalidArgumentError(
            f"{path} has no column {column!r} after the file names. Its columns: {', '.join(columns[1:]) or 'none'}."
        )
    index = columns.index(column)
    table: dict[str, str] = {}
    for row in rows:
        if not any(cell.strip() for cell in row):
            continue
        name = _remove_suffix(row[0].strip().replace("\\", "/"))
        group = row[index].strip() if len(row) > index else ""
        if table.setdefault(name, group) != group:
            raise InvalidArgumentError(
                f"{path} assigns {name!r} to {table[name]!r} and to {group!r}. Remove one of the rows."
            )
    return table


def _look_up(table: Mapping[str, str], sample: Sample, root: Path) -> str:
    """Find the sample by as much of its path as the table gives: `images/train/0001`, `train/0001` or `0001`."""
    path = sample.image_path
    relative = path.relative_to(root) if path.is_relative_to(root) else path
    for name in (_remove_suffix(relative.as_posix()), sample.name):
        parts = name.split("/")
        for start in range(len(parts)):
            if group := table.get("/".join(parts[start:])):
                return group
    return ""


def _remove_suffix(name: str) -> str:
    path = PurePosixPath(name)
    return str(path.with_suffix("")) if path.suffix.lower() in IMAGE_EXTENSIONS else name


def _shorten(names: Sequence[str]) -> str:
    shown = ", ".join(names[:3])
    return f"{shown} and {len(names) - 3} more" if len(names) > 3 else shown
