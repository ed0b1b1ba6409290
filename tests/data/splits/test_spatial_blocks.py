from collections import defaultdict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pixelwise.data.splits.spatial_blocks import (
    MIN_TILES,
    Position,
    choose_block_grid,
    describe_scenes,
    find_position,
    find_positions,
    make_blocks,
)


@pytest.mark.parametrize(
    ("name", "kind", "scene", "row", "column"),
    [
        ("scene_x1024_y2048", "tiles", "scene_x*_y*", 2048, 1024),
        ("scene_y2048_x1024", "tiles", "scene_y*_x*", 2048, 1024),
        ("r003_c017", "tiles", "r*_c*", 3, 17),
        ("Paris/row3col17_rgb", "tiles", "Paris/row*col*_rgb", 3, 17),
        ("a-row=3-column=4", "tiles", "a-row=*-column=*", 3, 4),
        ("tile_3_17", "tiles", "tile_*_*", 3, 17),
        ("tiles/area2_3-17", "tiles", "tiles/area2_*-*", 3, 17),
        ("scene7_patch_3x17", "tiles", "scene7_patch_*x*", 3, 17),
        ("vid2/frame_0031", "frames", "vid2/frame_*", 0, 31),
        ("frame31", "frames", "frame*", 0, 31),
        ("Seq05VD_f00030", "frames", "Seq05VD_f*", 0, 30),
        ("clip3_0001", "frames", "clip3_*", 0, 1),
        ("videos/a/0007", "frames", "videos/a/*", 0, 7),
    ],
)
def test_names_with_a_position(name: str, kind: str, scene: str, row: int, column: int) -> None:
    assert find_position(name) == Position(kind=kind, scene=scene, row=row, column=column)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "name",
    ["0001", "img_0001", "cell_12_03", "aachen_000000_000019", "0001TP_006690", "well_f3", "x5_r2"],
)
def test_names_without_a_position(name: str) -> None:
    assert find_position(name) is None


@pytest.mark.parametrize(
    ("name", "kind", "row", "column"),
    [("a_3_17", "tiles", 3, 17), ("img_0031", "frames", 0, 31), ("7", "frames", 0, 7)],
)
def test_plain_numbers_are_accepted_on_request(name: str, kind: str, row: int, column: int) -> None:
    found = find_position(name, accept_plain_numbers=True)
    assert found is not None
    assert (found.kind, found.row, found.column) == (kind, row, column)


def test_all_names_need_a_position_of_one_kind() -> None:
    tiles = ["tile_0_0", "tile_0_1"]
    assert len(find_positions(tiles)) == 2
    assert find_positions([*tiles, "photo"]) == []
    assert find_positions([*tiles, "frame_1"]) == []
    assert find_positions([]) == []


@pytest.mark.parametrize(
    ("rows", "columns", "count", "grid"),
    [(10, 20, 8, (2, 4)), (1, 100, 8, (1, 8)), (100, 1, 8, (8, 1)), (4, 4, 1, (1, 1)), (2, 2, 9, (2, 2))],
)
def test_a_grid_of_nearly_square_blocks(rows: int, columns: int, count: int, grid: tuple[int, int]) -> None:
    assert choose_block_grid(rows, columns, count) == grid


@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 60))
def test_a_grid_has_enough_blocks(rows: int, columns: int, count: int) -> None:
    down, across = choose_block_grid(rows, columns, count)
    assert 1 <= down <= rows
    assert 1 <= across <= columns
    assert down * across >= min(count, rows * columns)


def raster(rows: int, columns: int, scene: str = "s", step: int = 1) -> list[Position]:
    return [
        Position(kind="tiles", scene=scene, row=step * r, column=step * c) for r in range(rows) for c in range(columns)
    ]


def test_tiles_form_compact_blocks_named_by_their_range() -> None:
    blocks = make_blocks(raster(4, 8, step=512), 8)
    assert len(set(blocks)) == 8
    assert blocks[0] == blocks[1] == blocks[8] == blocks[9] == "s rows 0-512, columns 0-512"
    assert blocks[2] != blocks[0]


@given(st.integers(1, 15), st.integers(1, 15), st.integers(2, 30), st.integers(1, 3))
def test_blocks_are_rectangles(rows: int, columns: int, wanted: int, scenes: int) -> None:
    """Each block is a rectangle of its scene, so only tiles at its border have neighbors in another block."""
    positions = [p for i in range(scenes) for p in raster(rows, columns, f"s{i}")]
    inside = defaultdict(list)
    for position, block in zip(positions, make_blocks(positions, wanted), strict=True):
        inside[block].append(position)
    for members in inside.values():
        assert len({p.scene for p in members}) == 1
        height, width = ({getattr(p, axis) for p in members} for axis in ("row", "column"))
        assert len(members) == len(height) * len(width)
        assert max(height) - min(height) + 1 == len(height)
        assert max(width) - min(width) + 1 == len(width)


def test_frames_form_blocks_of_consecutive_frames() -> None:
    frames = [Position(kind="frames", scene="vid_*", row=0, column=30 * i) for i in range(100)]
    blocks = make_blocks(frames, 20)
    assert len(set(blocks)) == 20
    assert blocks[:5] == ["vid_* 0-120"] * 5


def test_small_scenes_stay_whole_and_a_large_one_is_divided() -> None:
    small = [p for i in range(30) for p in raster(3, 3, f"s{i}")]
    assert len(set(make_blocks(small, 20))) == 30
    mixed = [*small, *raster(20, 20, "large")]
    assert len({b for b in make_blocks(mixed, 20) if b.startswith("large")}) > 5


def test_a_block_has_a_minimum_size() -> None:
    assert len(set(make_blocks(raster(4, 4), 20))) == 16 // MIN_TILES


def test_scenes_are_described() -> None:
    assert describe_scenes(raster(2, 2)) == "tiles of 1 scene"
    frames = [Position(kind="frames", scene=str(i), row=0, column=0) for i in range(3)]
    assert describe_scenes(frames) == "frames of 3 videos"


@pytest.mark.parametrize("name", ["textile_3_17", "evidence_12", "frame", "video_a"])
def test_parts_of_words_and_words_without_numbers_have_no_position(name: str) -> None:
    assert find_position(name) is None
