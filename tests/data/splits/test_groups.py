from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pixelwise.config import DataConfig
from pixelwise.data.dataset import Dataset
from pixelwise.data.io.images import write_png
from pixelwise.data.sample import Sample
from pixelwise.data.scan import scan_dataset
from pixelwise.data.splits.groups import (
    MIN_TILES,
    Position,
    SampleGroup,
    choose_block_grid,
    describe_scenes,
    find_copies,
    find_position,
    find_positions,
    find_sample_groups,
    find_user_groups,
    make_blocks,
    single_sample_groups,
)
from pixelwise.errors import InvalidArgumentError


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


MASK = np.array([[0, 1], [1, 0]], np.uint8)


def write_and_scan(root: Path, pictures: dict[str, int], constant: Sequence[str] = ()) -> Dataset:
    """Write pairs with an image number each, equal for copies, and scan them."""
    for name, number in pictures.items():
        image = np.full((2, 2), 9, np.uint8) if name in constant else np.array([[number, 200], [0, 1]], np.uint8)
        write_png(root / f"images/{name}.png", image)
        write_png(root / f"masks/{name}.png", MASK)
    dataset = Dataset.load(root)
    return scan_dataset(dataset)


AUTO = DataConfig()


def find_groups(
    dataset: Dataset, config: DataConfig = AUTO, num_parts: int = 2
) -> tuple[tuple[SampleGroup, ...], list[str]]:
    return find_sample_groups(dataset, dataset.samples, config, num_parts)


def list_shared(groups: tuple[SampleGroup, ...]) -> list[list[str]]:
    """Return the names in each group of several samples."""
    return [[sample.name for sample in group.samples] for group in groups if len(group.samples) > 1]


def numbered(*names: str) -> dict[str, int]:
    return {name: number for number, name in enumerate(names)}


def test_plain_names_are_single_groups(tmp_path: Path) -> None:
    dataset = write_and_scan(tmp_path, numbered(*(f"{i:04}" for i in range(30))))
    assert find_groups(dataset) == (single_sample_groups(dataset.samples), [])


def test_copies_stay_together(tmp_path: Path) -> None:
    dataset = write_and_scan(tmp_path, {"a": 1, "b": 2, "c": 1, "d": 3, "e": 2})
    assert [[s.name for s in copies] for copies in find_copies(dataset, dataset.samples)] == [
        ["a", "c"],
        ["b", "e"],
    ]
    groups, notes = find_groups(dataset, DataConfig(split_by="image"))
    assert list_shared(groups) == [["a", "c"], ["b", "e"]]
    assert notes == ["4 images are copies of 2 images, equal in all pixels. Copies stay in one split."]


def test_constant_images_are_not_copies(tmp_path: Path) -> None:
    """Empty tiles would merge all scenes."""
    assert list_shared(find_groups(write_and_scan(tmp_path, numbered("a", "b", "c"), constant=("a", "b")))[0]) == []


def test_copies_merge_groups_of_a_pattern(tmp_path: Path) -> None:
    dataset = write_and_scan(tmp_path, {"p1_a": 1, "p1_b": 2, "p2_a": 2, "p2_b": 4, "p3_a": 5, "p4_a": 6, "p4_b": 7})
    groups, _ = find_groups(dataset, DataConfig(group_by=r"p\d"))
    assert list_shared(groups) == [["p1_a", "p1_b", "p2_a", "p2_b"], ["p4_a", "p4_b"]]
    assert [group.name for group in groups] == ["p1 + p2", "p3", "p4"]


def test_groups_of_a_table_in_the_dataset(tmp_path: Path) -> None:
    dataset = write_and_scan(tmp_path, numbered("a", "b", "c"))
    (tmp_path / "who.csv").write_text("image,who\na,x\nb,y\nc,x\n", encoding="utf-8")
    assert list_shared(find_groups(dataset, DataConfig(group_by="who.csv:who"))[0]) == [["a", "c"]]


def test_many_tiles_are_split_by_blocks_with_a_note(tmp_path: Path) -> None:
    dataset = write_and_scan(tmp_path, numbered(*(f"s_x{x}_y{y}" for x in range(8) for y in range(8))))
    groups, (note,) = find_groups(dataset)
    assert len(groups) == 16
    assert {len(group.samples) for group in groups} == {4}
    assert note.startswith("File names indicate tiles of 1 scene: 16 blocks of neighbors are split")
    assert "--set data.split_by=image" in note
    assert list_shared(find_groups(dataset, DataConfig(split_by="image"))[0]) == []


def test_more_folds_make_more_blocks(tmp_path: Path) -> None:
    dataset = write_and_scan(tmp_path, numbered(*(f"vid_{i:03}" for i in range(160))))
    assert [len(find_groups(dataset, num_parts=k)[0]) for k in (2, 10)] == [20, 40]


def test_own_splits_do_not_separate_neighbors(tmp_path: Path) -> None:
    """The folder of a split is not part of the scene."""
    for split, row in (("train", 0), ("val", 1)):
        write_and_scan(tmp_path, numbered(*(f"{split}/tile_{row}_{i}" for i in range(40))))
    dataset = Dataset.load(tmp_path)
    groups, _ = find_groups(scan_dataset(dataset))
    assert all({s.split for s in group.samples} == {"train", "val"} for group in groups)


def test_a_few_frames_are_single_groups_unless_blocks_are_required(tmp_path: Path) -> None:
    dataset = write_and_scan(tmp_path, numbered(*(f"frame_{i}" for i in range(12))))
    groups, (note,) = find_groups(dataset)
    assert list_shared(groups) == []
    assert "frames of 1 video, too few for blocks: single images are split" in note
    assert "Keep neighbors together with --set data.split_by=block" in note
    blocks, _ = find_groups(dataset, DataConfig(split_by="block"))
    assert {block.name for block in blocks} == {"frame_* 0-3", "frame_* 4-7", "frame_* 8-11"}


def test_blocks_of_plain_numbers_are_made_if_required(tmp_path: Path) -> None:
    dataset = write_and_scan(tmp_path, numbered(*(f"{i:03}" for i in range(40))))
    assert len(find_groups(dataset, DataConfig(split_by="block"))[0]) == 10


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("a_1", "b"), r"but 'b' does not end in a number."),
        (("a_1", "a_1_2"), "some names number tiles and others frames"),
    ],
)
def test_required_blocks_need_names_with_positions(tmp_path: Path, names: tuple[str, ...], message: str) -> None:
    with pytest.raises(InvalidArgumentError, match=message):
        find_groups(write_and_scan(tmp_path, numbered(*names)), DataConfig(split_by="block"))


ROOT = Path("data")
NAMES = ("train/p01_a", "train/p01_b", "train/p02_a", "val/p03_c")


def sample(name: str) -> Sample:
    split, _, stem = name.partition("/")
    path = ROOT / f"images/{split}/{stem}.png"
    return Sample(name=name, image_path=path, mask_path=path, split="train" if split == "train" else "val")


SAMPLES = [sample(name) for name in NAMES]


def groups(group: str, root: Path = ROOT) -> list[str]:
    return list(find_user_groups(SAMPLES, group, root).values())


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        (r"p(\d+)_", ["01", "01", "02", "03"]),
        (r"p\d+", ["p01", "p01", "p02", "p03"]),
        (r"^(\w+)/p", ["train", "train", "train", "val"]),
        (r"(?:p)(\d+)(_)", ["01", "01", "02", "03"]),
    ],
)
def test_the_first_capture_group_or_the_match_is_the_group(pattern: str, found: list[str]) -> None:
    assert groups(pattern) == found


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        (r"p(0[12])", r"does not match 1 of 4 names: val/p03_c. Use a pattern"),
        (r"q", r"does not match 4 of 4 names: train/p01_a, train/p01_b, train/p02_a and 1 more"),
        (r"(x)?p\d", r"does not match 4 of 4"),
        (r"\d*", r"does not match 4 of 4"),
        (r"p(\d+", r"'p\(\\\\d\+' is not a valid regular expression \(missing \)"),
    ],
)
def test_an_invalid_pattern_is_an_error(pattern: str, message: str) -> None:
    with pytest.raises(InvalidArgumentError, match=message):
        groups(pattern)


ROWS = (("p01_a", "x"), ("p01_b", "x"), ("p02_a", "y"), ("p03_c", "z"))


def table(folder: Path, rows: object, header: str = "file,site,patient", delimiter: str = ",") -> Path:
    lines = [header.replace(",", delimiter)]
    lines += [delimiter.join((name, "here", group)) for name, group in rows]  # type: ignore[attr-defined]
    (folder / "groups.csv").write_text("\n".join(lines) + "\n\n", encoding="utf-8")
    return folder / "groups.csv"


@pytest.mark.parametrize("prefix", ["", "images/train/", "train/"])
@pytest.mark.parametrize("ending", ["", ".png", ".JPG"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_a_column_of_a_table_names_the_groups(tmp_path: Path, prefix: str, ending: str, delimiter: str) -> None:
    rows = [(f"{prefix}{name}{ending}", group) for name, group in ROWS[:3]] + [ROWS[3]]
    path = table(tmp_path, rows, delimiter=delimiter)
    assert groups(f"{path}:patient") == ["x", "x", "y", "z"]
    assert groups(f"{path}:site") == ["here"] * 4


def test_a_table_may_be_in_the_dataset(tmp_path: Path) -> None:
    table(tmp_path, ROWS)
    assert groups("groups.csv:patient", tmp_path) == ["x", "x", "y", "z"]


def test_the_longer_name_has_priority(tmp_path: Path) -> None:
    path = table(tmp_path, [("p01_a", "short"), ("train/p01_a", "long"), *ROWS[1:]])
    assert groups(f"{path}:patient")[0] == "long"


def test_a_table_from_a_spreadsheet_is_read(tmp_path: Path) -> None:
    path = table(tmp_path, ROWS)
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n").replace(b"y", b'"y, z"'))
    assert groups(f"{path}:patient")[2] == "y, z"


@pytest.mark.parametrize(
    ("rows", "column", "message"),
    [
        (ROWS[1:], "patient", r"has no 'patient' for 1 of 4 images: train/p01_a. Add a row for each"),
        ([*ROWS[:3], ("p03_c", " ")], "patient", r"has no 'patient' for 1 of 4 images: val/p03_c"),
        (ROWS, "file", r"has no column 'file' after the file names. Its columns: site, patient"),
        (ROWS, "age", r"has no column 'age' after the file names. Its columns: site, patient"),
        ([*ROWS, ("p01_a.png", "y")], "patient", r"assigns 'p01_a' to 'x' and to 'y'. Remove one"),
    ],
)
def test_an_invalid_table_is_an_error(tmp_path: Path, rows: object, column: str, message: str) -> None:
    path = table(tmp_path, rows)
    with pytest.raises(InvalidArgumentError, match=message):
        groups(f"{path}:{column}")


@pytest.mark.parametrize("content", [None, b"\xff\xfe\x00"])
def test_a_table_that_cannot_be_read_is_an_error(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "groups.csv").write_bytes(content)
    with pytest.raises(InvalidArgumentError, match=r"groups.csv cannot be read .* Expected a CSV file"):
        groups("groups.csv:patient", tmp_path)


def test_an_empty_table_has_no_column(tmp_path: Path) -> None:
    (tmp_path / "groups.csv").touch()
    with pytest.raises(InvalidArgumentError, match=r"Its columns: none"):
        groups("groups.csv:patient", tmp_path)
