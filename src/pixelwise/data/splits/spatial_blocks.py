"""Blocks of neighbors: tiles of one raster and frames of one video, told by their names alone.

    scene_x1024_y2048, tile_r003_c017, row3_col17      tiles, wherever the two numbers stand
    tile_3_17, scene_patch-3-17                        tiles: row, column at the end, after such a word
    vid2/frame_0031, Seq05VD_f00030, clip3_0001        frames of a video

What stays of the name without those numbers is the scene. A name with a number and no such word
says nothing: photographs are numbered too.
"""

import math
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

Kind = Literal["tiles", "frames"]

MIN_TILES = 4
"""Tiles of a block at least: smaller ones would be nearly all border."""

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
    """Where an image lies: row and column in whatever unit the names count; a frame has row 0."""

    kind: Kind
    scene: str
    row: int
    column: int


def find_positions(names: Sequence[str], *, certain: bool = False) -> list[Position]:
    """The position of each name; none at all unless every name has one and all are of one kind.

    `certain`: the user said that they are tiles or frames, so plain numbers at the end will do.
    """
    positions = [find_position(name, certain=certain) for name in names]
    found = [position for position in positions if position]
    if len(found) < len(names) or len({position.kind for position in found}) != 1:
        return []
    return found


def find_position(name: str, *, certain: bool = False) -> Position | None:
    tokens = {match[1].lower(): match for match in _TOKEN.finditer(name)}
    for pair in _PAIRS:
        if pair <= tokens.keys():
            matches = {_AXES[word]: tokens[word] for word in pair}
            return _tile(name, matches["row"].span(2), matches["column"].span(2))
    two = _TWO_NUMBERS.search(name)
    if two and _TILE_WORD.search(name):
        return _tile(name, two.span(1), two.span(2))
    frame = _FRAME.search(name)
    if not frame and (certain or _VIDEO_WORD.search(name)):
        if certain and two:
            return _tile(name, two.span(1), two.span(2))
        frame = _LAST_NUMBER.search(name)
    if not frame:
        return None
    scene = _without(name, [frame.span(1)])
    return Position(kind="frames", scene=scene, row=0, column=int(frame[1]))


def _tile(name: str, row: tuple[int, int], column: tuple[int, int]) -> Position:
    return Position(
        kind="tiles",
        scene=_without(name, [row, column]),
        row=int(name[slice(*row)]),
        column=int(name[slice(*column)]),
    )


def _without(name: str, spans: Iterable[tuple[int, int]]) -> str:
    """The name with a star for each of the numbers."""
    for start, end in sorted(spans, reverse=True):
        name = f"{name[:start]}*{name[end:]}"
    return name


def make_blocks(positions: Sequence[Position], wanted: int) -> list[str]:
    """The name of the block that each position is in: about `wanted` compact blocks over all scenes.

    A scene smaller than a block is one block, so where scenes are many, whole scenes stay together.
    """
    size = max(MIN_TILES, len(positions) / wanted)
    members: dict[str, list[int]] = defaultdict(list)
    for index, position in enumerate(positions):
        members[position.scene].append(index)
    names = [""] * len(positions)
    for scene, indices in members.items():
        blocks = _blocks_of([(positions[i].row, positions[i].column) for i in indices], size)
        for block in set(blocks):
            inside = [i for i, of in zip(indices, blocks, strict=True) if of == block]
            name = _block_name(scene, [positions[i] for i in inside])
            for i in inside:
                names[i] = name
    return names


def _blocks_of(places: Sequence[tuple[int, int]], size: float) -> list[tuple[int, int]]:
    """The block of each (row, column) of one scene, as a row and a column of blocks."""
    rows, columns = (np.unique(axis, return_inverse=True)[1] for axis in zip(*places, strict=True))
    num_rows, num_columns = int(rows.max()) + 1, int(columns.max()) + 1
    down, across = block_grid(num_rows, num_columns, max(1, round(len(places) / size)))
    return list(
        zip((rows * down // num_rows).tolist(), (columns * across // num_columns).tolist(), strict=True),
    )


def block_grid(rows: int, columns: int, count: int) -> tuple[int, int]:
    """How many blocks down and across make at least `count` (where there are as many tiles) that are near square.

    10 x 20 tiles in 8 blocks are 2 x 4 blocks of 5 x 5 tiles; 100 frames (1 x 100) in 8 are 1 x 8.
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


def _block_name(scene: str, inside: Sequence[Position]) -> str:
    columns = _range(position.column for position in inside)
    if inside[0].kind == "frames":
        return f"{scene} {columns}"
    return f"{scene} rows {_range(position.row for position in inside)}, columns {columns}"


def _range(numbers: Iterable[int]) -> str:
    ordered = sorted(numbers)
    return f"{ordered[0]}-{ordered[-1]}"


def describe_scenes(positions: Sequence[Position]) -> str:
    """`tiles of 3 scenes`."""
    count = len({position.scene for position in positions})
    what: Mapping[Kind, str] = {"tiles": "scene", "frames": "video"}
    kind = positions[0].kind
    return f"{kind} of {count} {what[kind]}{'s' if count > 1 else ''}"
