"""Which group each image belongs to, by the user's word: a pattern on its name, or a column of a table.

patient(\\d+)_            the first capture group, else the whole match, of the sample's name
patients.csv:patient     column `patient` of a CSV file, whose first column names the images
"""

import csv
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath

from pixelwise.data.io.images import IMAGE_EXTENSIONS
from pixelwise.data.sample import Sample
from pixelwise.errors import InvalidArgumentError

_TABLE = re.compile(r"(?P<path>.+\.(?:csv|tsv)):(?P<column>[^:]+)", re.IGNORECASE)


def find_groups(samples: Sequence[Sample], group: str, root: Path) -> dict[Sample, str]:
    """The group of every sample. InvalidArgumentError names some that have none.

    `root` is the dataset's folder: a table that is not found as named is looked for there.
    """
    if table := _TABLE.fullmatch(group):
        return _groups_by_table(samples, Path(table["path"]), table["column"].strip(), root)
    return _groups_by_pattern(samples, group)


def _groups_by_pattern(samples: Sequence[Sample], pattern: str) -> dict[Sample, str]:
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise InvalidArgumentError(
            f"--group-by {pattern!r} is not a regular expression ({error}); see docs/splits.md for examples."
        ) from error
    groups = {sample: _matched(compiled, sample.name) for sample in samples}
    if unmatched := [sample.name for sample, found in groups.items() if not found]:
        raise InvalidArgumentError(
            f"--group-by {pattern!r} does not match {len(unmatched)} of {len(groups)} names: {_some(unmatched)}; "
            f"write a pattern that finds a group in every name."
        )
    return groups


def _matched(pattern: re.Pattern[str], name: str) -> str:
    match = pattern.search(name)
    if not match:
        return ""
    return match[1] or "" if pattern.groups else match[0]


def _groups_by_table(samples: Sequence[Sample], path: Path, column: str, root: Path) -> dict[Sample, str]:
    path = path if path.exists() else root / path
    table = _read_table(path, column)
    groups = {sample: _looked_up(table, sample, root) for sample in samples}
    if missing := [sample.name for sample, found in groups.items() if not found]:
        raise InvalidArgumentError(
            f"{path} gives no {column!r} for {len(missing)} of {len(groups)} images: {_some(missing)}; "
            f"add a row for each, its first column the file name."
        )
    return groups


def _read_table(path: Path, column: str) -> dict[str, str]:
    """Name of an image, without ending → its group."""
    try:
        text = path.read_text(encoding="utf-8-sig")  # spreadsheets write a mark at the start
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidArgumentError(f"{path} cannot be read ({error}); give --group-by a CSV file in UTF-8.") from error
    lines = text.splitlines()
    header = lines[0] if lines else ""
    delimiter = max(",;\t", key=header.count)
    rows = csv.reader(lines, delimiter=delimiter)
    columns = [name.strip() for name in next(rows, [])]
    if column not in columns[1:]:
        raise InvalidArgumentError(
            f"{path} has no column {column!r} beside the file names; it has {', '.join(columns[1:]) or 'none'}."
        )
    return _by_name(path, rows, columns.index(column))


def _by_name(path: Path, rows: Iterator[list[str]], column: int) -> dict[str, str]:
    table: dict[str, str] = {}
    for row in rows:
        if not any(cell.strip() for cell in row):
            continue
        name = _without_ending(row[0].strip().replace("\\", "/"))
        found = row[column].strip() if len(row) > column else ""
        if table.setdefault(name, found) != found:
            raise InvalidArgumentError(
                f"{path} lists {name!r} as {table[name]!r} and as {found!r}; keep one of the rows."
            )
    return table


def _looked_up(table: Mapping[str, str], sample: Sample, root: Path) -> str:
    """By as much of the path as the table writes: `images/train/0001`, `train/0001` or `0001`."""
    path = sample.image_path
    inner = path.relative_to(root) if path.is_relative_to(root) else path
    for name in (_without_ending(inner.as_posix()), sample.name):
        parts = name.split("/")
        for start in range(len(parts)):
            if found := table.get("/".join(parts[start:])):
                return found
    return ""


def _without_ending(name: str) -> str:
    path = PurePosixPath(name)
    return str(path.with_suffix("")) if path.suffix.lower() in IMAGE_EXTENSIONS else name


def _some(names: Sequence[str]) -> str:
    shown = ", ".join(names[:3])
    return f"{shown} and {len(names) - 3} more" if len(names) > 3 else shown
