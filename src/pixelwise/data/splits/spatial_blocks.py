"""Blocks of neighbors: tiles of one raster and frames of one video, recognized by their names.

    scene_x1024_y2048, tile_r003_c017, row3_col17      tiles, with the two numbers anywhere in the name
    tile_3_17, scene_patch-3-17                        tiles: row, column at the end, after such a word
    vid2/frame_0031, Seq05VD_f00030, clip3_0001        frames of a video

The rest of the name, without those numbers, is the scene. A trailing number without such a word is not
treated as a frame index, because photos are numbered too.
"""

import math
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

PositionKind = Literal["tiles", "frames"]

MIN_TILES = 4
"""Least number of tiles of a block: a smaller block would consist mostly of tiles at its border."""

_TOKEN = re.compile(r"(?<![a-z])(x|y|row|r|column|col|c)[_\-=]?(\d+)(?!\d)", re.IGNORECASE)
_AXES = {"y": "row", "row": "row", "r": "row", "x": "column", "column": "column", "col": "column", "c": "column"}
_PAIRS = ({"x", "y"}, {"r", "c"}, {"row", "col"}, {"row", "column"})
_TWO_NUMBERS = re.compile(r"(\d+)[_\-x](\d+)$", re.IGNORECASE)
_TILE_WORD = re.compile(r"(?<![a-z])(tile|patch|crop|chip|block|grid)s?(?![a-z])", re.IGNORECASE)
_FRAME = re.compile(r"(?<![a-z])(?:frame|frm|f(?=\d{3}))[_\-]?(\d+)$", re.IGNORECASE)
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
    return list(
        zip((rows * down // num_rows).tolist(), (columns * across // num_columns).tolist(), strict=True),
    )


def choose_block_grid(rows: int, columns: int, count: int) -> tuple[int, int]:
    """Return the numbers of blocks down and across that give at least `count` nearly square blocks.

    Example:
        >>> choose_block_grid(10, 20, 8)  # blocks of 5 x 5 tiles
        (2, 4)
        >>> choose_block_grid(1, 100, 8)  # a video
        (1, 8)
    """
    best, least = (rows, columns), math.inf
    for down in range(1, min(rows, count) + 1):
        across = -(-count // down)
        if across > columns:
            continue
        elongation = abs(math.log(rows / down * across / columns))
        if elongation < least:
            best, least = (down, across), elongation
    return best


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
