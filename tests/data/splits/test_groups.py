from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from pixelwise.config import DataConfig
from pixelwise.data.dataset import Dataset
from pixelwise.data.io.images import write_png
from pixelwise.data.scan import scan_dataset
from pixelwise.data.splits.groups import SampleGroup, find_copies, find_sample_groups, single_sample_groups
from pixelwise.errors import InvalidArgumentError

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
    assert notes == ["4 images are copies of 2 image(s), equal in all pixels. Copies stay in one split."]


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
