r"""Groups of samples that must be in one split: user groups, blocks of neighbors, and copies of one image.

The user defines groups with `--group-by`: a pattern on sample names, or a column of a table.

    patient(\d+)_            the first capture group, else the whole match, of the sample's name
    patients.csv:patient     column `patient` of a CSV file; its first column names the images

Blocks of neighbors are tiles of one raster and frames of one video, recognized by their names.

    scene_x1024_y2048, tile_r003_c017, row3_col17      tiles, with the two numbers anywhere in the name
    tile_3_17, scene_patch-3-17                        tiles: row, column at the end, after such a word
    vid2/frame_0031, Seq05VD_f00030, clip3_0001        frames of a video
    volume/page_0003                                   pages of a stack

The rest of the name, without those numbers, is the scene. A trailing number without such a word is not
treated as a frame index, because photos are numbered too.
"""

import csv
import math
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path, PurePosixPath
from typing import Literal

import numpy as np

from pixelwise.config import DataConfig
from pixelwise.data.dataset import Dataset
from pixelwise.data.io.images import IMAGE_EXTENSIONS
from pixelwise.data.sample import Sample
from pixelwise.errors import InvalidArgumentError, describe_cause, format_count

PositionKind = Literal["tiles", "frames"]

MIN_TILES = 4
"""Least number of tiles of a block: a smaller block would consist mostly of tiles at its border."""

_TOKEN = re.compile(r"(?<![a-z])(x|y|row|r|column|col|c)[_\-=]?(\d+)(?!\d)", re.IGNORECASE)
_AXES = {"y": "row", "row": "row", "r": "row", "x": "column", "column": "column", "col": "column", "c": "column"}
_PAIRS = ({"x", "y"}, {"r", "c"}, {"row", "col"}, {"row", "column"})
_TWO_NUMBERS = re.compile(r"(\d+)[_\-x](\d+)$", re.IGNORECASE)
_TILE_WORD = re.compile(r"(?<![a-z])(tile|patch|crop|chip|block|grid)s?(?![a-z])", re.IGNORECASE)
_FRAME = re.compile(r"(?<![a-z])(?:frame|frm|page|f(?=\d{3}))[_\-]?(\d+)$", re.IGNORECASE)
_VIDEO_WORD = re.compile(r"(?<![a-z])(video|vid|clip|movie|sequence|seq)s?(?![a-z])", re.IGNORECASE)
_LAST_NUMBER = re.compile(r"(\d+)$")


@dataclass(frozen=True, slots=True, kw_only=True)
class Position:
    """Row and column of a tile or frame in its scene, in the unit of the names; a frame has row 0."""

    kind: PositionKind
    scene: str
    row: int
    column: int


def find_positions(names: Sequence[str], *, accept_plain_numbers: bool = False) -> list[Position]:
    """Return the position of each name; an empty list unless every name has one and all are of one kind.

    Args:
        names: Sample names without their split.
        accept_plain_numbers: Accept trailing numbers without a word for tiles or frames.
    """
    positions = [find_position(name, accept_plain_numbers=accept_plain_numbers) for name in names]
    found = [position for position in positions if position]
    if len(found) < len(names) or len({position.kind for position in found}) != 1:
        return []
    return found


def find_position(name: str, *, accept_plain_numbers: bool = False) -> Position | None:
    """Return the position that a name indicates, or None."""
    tokens = {match[1].lower(): match for match in _TOKEN.finditer(name)}
    for pair in _PAIRS:
        if pair <= tokens.keys():
            matches = {_AXES[word]: tokens[word] for word in pair}
            return _make_tile_position(name, matches["row"].span(2), matches["column"].span(2))
    two = _TWO_NUMBERS.search(name)
    if two and _TILE_WORD.search(name):
        return _make_tile_position(name, two.span(1), two.span(2))
    frame = _FRAME.search(name)
    if not frame and (accept_plain_numbers or _VIDEO_WORD.search(name)):
        if accept_plain_numbers and two:
            return _make_tile_position(name, two.span(1), two.span(2))
        frame = _LAST_NUMBER.search(name)
    if not frame:
        return None
    scene = _replace_numbers(name, [frame.span(1)])
    return Position(kind="frames", scene=scene, row=0, column=int(frame[1]))


def _make_tile_position(name: str, row: tuple[int, int], column: tuple[int, int]) -> Position:
    return Position(
        kind="tiles",
        scene=_replace_numbers(name, [row, column]),
        row=int(name[slice(*row)]),
        column=int(name[slice(*column)]),
    )


def _replace_numbers(name: str, spans: Iterable[tuple[int, int]]) -> str:
    """Replace each of the numbers by an asterisk."""
    for start, end in sorted(spans, reverse=True):
        name = f"{name[:start]}*{name[end:]}"
    return name


def make_blocks(positions: Sequence[Position], num_blocks: int) -> list[str]:
    """Return the name of the block of each position: about `num_blocks` compact blocks over all scenes.

    A scene smaller than a block is one block, so with many scenes whole scenes stay together.
    """
    size = max(MIN_TILES, len(positions) / num_blocks)
    members: dict[str, list[int]] = defaultdict(list)
    for index, position in enumerate(positions):
        members[position.scene].append(index)
    names = [""] * len(positions)
    for scene, indices in members.items():
        blocks = _assign_blocks([(positions[i].row, positions[i].column) for i in indices], size)
        for block in set(blocks):
            in_block = [i for i, other in zip(indices, blocks, strict=True) if other == block]
            name = _name_block(scene, [positions[i] for i in in_block])
            for i in in_block:
                names[i] = name
    return names


def _assign_blocks(cells: Sequence[tuple[int, int]], size: float) -> list[tuple[int, int]]:
    """Return the block (row, column) of each (row, column) of one scene, with about `size` cells per block."""
    rows, columns = (np.unique(axis, return_inverse=True)[1] for axis in zip(*cells, strict=True))
    num_rows, num_columns = int(rows.max()) + 1, int(columns.max()) + 1
    down, across = choose_block_grid(num_rows, num_columns, max(1, round(len(cells) / size)))
    return list(zip((rows * down // num_rows).tolist(), (columns * across // num_columns).tolist(), strict=True))


def choose_block_grid(rows: int, columns: int, count: int) -> tuple[int, int]:
    """Return the numbers of blocks down and across that give at least `count` nearly square blocks.

    Example:
        >>> choose_block_grid(10, 20, 8)  # blocks of 5 x 5 tiles
        (2, 4)
        >>> choose_block_grid(1, 100, 8)  # a video
        (1, 8)
    """
    grids = [(down, -(-count // down)) for down in range(1, min(rows, count) + 1)]
    fitting = [(down, across) for down, across in grids if across <= columns]
    # the elongation of a block
    return min(fitting, key=lambda grid: abs(math.log(rows / grid[0] * grid[1] / columns)), default=(rows, columns))


def _name_block(scene: str, positions: Sequence[Position]) -> str:
    columns = _format_range(position.column for position in positions)
    if positions[0].kind == "frames":
        return f"{scene} {columns}"
    return f"{scene} rows {_format_range(position.row for position in positions)}, columns {columns}"


def _format_range(numbers: Iterable[int]) -> str:
    ordered = sorted(numbers)
    return f"{ordered[0]}-{ordered[-1]}"


def describe_scenes(positions: Sequence[Position]) -> str:
    """Return text such as `tiles of 3 scenes`."""
    count = len({position.scene for position in positions})
    nouns: Mapping[PositionKind, str] = {"tiles": "scene", "frames": "video"}
    kind = positions[0].kind
    return f"{kind} of {count} {nouns[kind]}{'s' if count > 1 else ''}"


MIN_BLOCKS = 8
"""Fewer blocks cannot give the requested shares, so `split_by: auto` splits single images instead."""

BLOCKS_WANTED = 20
"""Number of blocks for a split in two; folds want at least `BLOCKS_PER_FOLD` each."""

BLOCKS_PER_FOLD = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class SampleGroup:
    """Samples that are all assigned to the same split."""

    name: str
    samples: tuple[Sample, ...]
    """Sorted, at least one."""


def single_sample_groups(samples: Iterable[Sample]) -> tuple[SampleGroup, ...]:
    """Return a group for each sample."""
    return tuple(SampleGroup(name=sample.name, samples=(sample,)) for sample in sorted(samples))


def find_sample_groups(
    dataset: Dataset, samples: Sequence[Sample], config: DataConfig, num_parts: int = 2
) -> tuple[tuple[SampleGroup, ...], list[str]]:
    """Find which of `samples` must stay together.

    Groups come from `data.group_by` if it is set, else from `data.split_by`. Copies of one image always stay
    together.

    Args:
        dataset: A scanned dataset.
        samples: The samples to split.
        config: The section `data` of a configuration.
        num_parts: The number of parts to split into: 2, or the number of folds.

    Returns:
        The groups, ordered by their first samples, and notes for the user.
    """
    samples = sorted(samples)
    group_names: dict[Sample, str] = {}
    notes: list[str] = []
    if config.group_by is not None:
        group_names = find_user_groups(samples, config.group_by, dataset.root)
    elif config.split_by != "image":
        group_names, notes = _find_blocks(samples, config.split_by == "block", num_parts)
    copies = find_copies(dataset, samples)
    if copies:
        notes.append(
            f"{sum(map(len, copies))} images are copies of {format_count(len(copies), 'image')}, equal in all pixels. "
            f"Copies stay in one split."
        )
    return merge_groups(samples, group_names, copies), notes


def _find_blocks(samples: Sequence[Sample], is_required: bool, num_parts: int) -> tuple[dict[Sample, str], list[str]]:
    """Find blocks of neighboring tiles or frames by the names of the samples; return them and notes."""
    names = [sample.name.removeprefix(f"{sample.split}/") for sample in samples]
    positions = find_positions(names, accept_plain_numbers=is_required)
    if not positions:
        if is_required:
            raise _missing_positions_error(names)
        stacks = {sample: str(sample.image_path) for sample in samples if sample.is_page}
        return stacks, ["The pages of a stack stay in one split."] if stacks else []
    blocks = make_blocks(positions, max(BLOCKS_WANTED, BLOCKS_PER_FOLD * num_parts))
    count, scenes = len(set(blocks)), describe_scenes(positions)
    if not is_required and count < max(MIN_BLOCKS, 2 * num_parts):
        note = (
            f"File names indicate {scenes}, too few for blocks: single images are split, so neighbors may be in "
            f"two splits. Keep neighbors together with --set data.split_by=block, or group by name with --group-by."
        )
        return {}, [note]
    note = f"File names indicate {scenes}: {count} blocks of neighbors are split instead of single images."
    if not is_required:
        note += " Split single images with --set data.split_by=image, or group by name with --group-by."
    return dict(zip(samples, blocks, strict=True)), [note]


def _missing_positions_error(names: Sequence[str]) -> InvalidArgumentError:
    without = [name for name in names if find_position(name, accept_plain_numbers=True) is None]
    reason = f"{without[0]!r} does not end in a number" if without else "some names number tiles and others frames"
    return InvalidArgumentError(
        f"data.split_by is 'block', but {reason}. Name tiles as scene_x512_y1024 or scene_3_17 and frames as "
        f"video_0031, or group by name with --group-by."
    )


def find_copies(dataset: Dataset, samples: Iterable[Sample]) -> list[list[Sample]]:
    """Find the scanned samples whose images are equal in all pixels, in lists of at least two.

    Constant images are left out: empty tiles are all equal, and would join all groups that contain one.
    """
    wanted, copies = set(samples), defaultdict(list)
    for stats in dataset.stats:
        if stats.image_fingerprint and not stats.is_constant and stats.sample in wanted:
            copies[stats.image_fingerprint].append(stats.sample)
    return [sorted(equal) for equal in copies.values() if len(equal) > 1]


def merge_groups(
    samples: Sequence[Sample], group_names: Mapping[Sample, str], copies: Iterable[Sequence[Sample]]
) -> tuple[SampleGroup, ...]:
    """Return the smallest groups that split neither a named group nor a list of copies (union-find).

    A group is named by the groups that it contains, else by its first sample.
    """
    parent = {sample: sample for sample in samples}

    def find_root(sample: Sample) -> Sample:
        while parent[sample] != sample:
            parent[sample] = sample = parent[parent[sample]]
        return sample

    members = defaultdict(list)
    for sample, name in group_names.items():
        members[name].append(sample)
    for linked in (*members.values(), *copies):
        for one, other in pairwise(linked):
            parent[find_root(one)] = find_root(other)
    merged = defaultdict(list)
    for sample in samples:
        merged[find_root(sample)].append(sample)
    return tuple(
        SampleGroup(name=" + ".join(sorted({group_names.get(s, group[0].name) for s in group})), samples=tuple(group))
        for group in sorted(map(sorted, merged.values()))
    )


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
            f"--group-by {pattern!r} is not a valid regular expression ({describe_cause(error)}). Expected a pattern "
            "such as 'patient(\\d+)', or FILE.csv:COLUMN."
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
            f"{path} cannot be read ({describe_cause(error)}). Expected a CSV file in UTF-8 for --group-by."
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
