from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from pixelwise.config import DataConfig
from pixelwise.data.dataset import Dataset
from pixelwise.data.io.images import write_png
from pixelwise.data.scan import scan_dataset
from pixelwise.data.splits.groups import Units, find_copies, find_sample_groups, single_sample_groups
from pixelwise.errors import InvalidArgumentError

MASK = np.array([[0, 1], [1, 0]], np.uint8)


def look(root: Path, pictures: dict[str, int], constant: Sequence[str] = ()) -> Dataset:
    """Pairs by name and the picture that each shows: equal numbers are copies."""
    for name, number in pictures.items():
        image = np.full((2, 2), 9, np.uint8) if name in constant else np.array([[number, 200], [0, 1]], np.uint8)
        write_png(root / f"images/{name}.png", image)
        write_png(root / f"masks/{name}.png", MASK)
    dataset = Dataset.load(root)
    return scan_dataset(dataset)


AUTO = DataConfig()


def units_of(dataset: Dataset, config: DataConfig = AUTO, num_parts: int = 2) -> Units:
    return find_sample_groups(dataset, dataset.samples, config, num_parts)


def together(units: Units) -> list[list[str]]:
    return [[sample.name for sample in unit.samples] for unit in units.units if len(unit.samples) > 1]


def numbered(*names: str) -> dict[str, int]:
    return {name: number for number, name in enumerate(names)}


def test_plain_names_stand_alone(tmp_path: Path) -> None:
    dataset = look(tmp_path, numbered(*(f"{i:04}" for i in range(30))))
    units = units_of(dataset)
    assert units.units == single_sample_groups(dataset.samples)
    assert (units.notes, units.names) == ((), {})


def test_copies_stay_together_whatever_their_file(tmp_path: Path) -> None:
    dataset = look(tmp_path, {"a": 1, "b": 2, "c": 1, "d": 3, "e": 2})
    assert [[s.name for s in copies] for copies in find_copies(dataset, dataset.samples)] == [
        ["a", "c"],
        ["b", "e"],
    ]
    units = units_of(dataset, DataConfig(split_by="image"))
    assert together(units) == [["a", "c"], ["b", "e"]]
    assert units.notes == ("4 images are 2 picture(s) several times over, pixel for pixel; copies stay in one split.",)


def test_images_of_one_value_are_no_copies(tmp_path: Path) -> None:
    """Empty tiles would tie all scenes together."""
    assert together(units_of(look(tmp_path, numbered("a", "b", "c"), constant=("a", "b")))) == []


def test_groups_by_pattern_are_joined_by_copies(tmp_path: Path) -> None:
    dataset = look(tmp_path, {"p1_a": 1, "p1_b": 2, "p2_a": 2, "p2_b": 4, "p3_a": 5, "p4_a": 6, "p4_b": 7})
    units = units_of(dataset, DataConfig(group_by=r"p\d"))
    assert together(units) == [["p1_a", "p1_b", "p2_a", "p2_b"], ["p4_a", "p4_b"]]
    assert [unit.name for unit in units.units] == ["p1 + p2", "p3", "p4"]


def test_a_table_in_the_dataset_groups(tmp_path: Path) -> None:
    dataset = look(tmp_path, numbered("a", "b", "c"))
    (tmp_path / "who.csv").write_text("image,who\na,x\nb,y\nc,x\n", encoding="utf-8")
    assert together(units_of(dataset, DataConfig(group_by="who.csv:who"))) == [["a", "c"]]


def test_many_tiles_are_split_by_blocks_and_that_is_said(tmp_path: Path) -> None:
    dataset = look(tmp_path, numbered(*(f"s_x{x}_y{y}" for x in range(8) for y in range(8))))
    units = units_of(dataset)
    assert len(units.units) == 16
    assert {len(unit.samples) for unit in units.units} == {4}
    (note,) = units.notes
    assert note.startswith("the names are those of tiles of 1 scene: 16 blocks of neighbors are split")
    assert "--set data.split_by=image" in note
    assert units_of(dataset, DataConfig(split_by="image")).names == {}


def test_more_folds_want_more_blocks(tmp_path: Path) -> None:
    dataset = look(tmp_path, numbered(*(f"vid_{i:03}" for i in range(160))))
    assert [len(units_of(dataset, num_parts=k).units) for k in (2, 10)] == [20, 40]


def test_own_splits_do_not_part_neighbors(tmp_path: Path) -> None:
    """The folder of a split is no part of the scene."""
    for split, row in (("train", 0), ("val", 1)):
        look(tmp_path, numbered(*(f"{split}/tile_{row}_{i}" for i in range(40))))
    dataset = Dataset.load(tmp_path)
    units = find_sample_groups(scan_dataset(dataset), dataset.samples, AUTO)
    assert all({s.split for s in unit.samples} == {"train", "val"} for unit in units.units)


def test_a_few_frames_stand_alone_unless_asked_otherwise(tmp_path: Path) -> None:
    dataset = look(tmp_path, numbered(*(f"frame_{i}" for i in range(12))))
    units = units_of(dataset)
    assert units.names == {}
    (note,) = units.notes
    assert "frames of 1 video, too few for blocks, so single images are split" in note
    assert "--set data.split_by=block keeps neighbors together" in note
    asked = units_of(dataset, DataConfig(split_by="block"))
    assert {unit.name for unit in asked.units} == {"frame_* 0-3", "frame_* 4-7", "frame_* 8-11"}


def test_blocks_of_plain_numbers_are_made_where_asked_for(tmp_path: Path) -> None:
    dataset = look(tmp_path, numbered(*(f"{i:03}" for i in range(40))))
    assert len(units_of(dataset, DataConfig(split_by="block")).units) == 10


@pytest.mark.parametrize(
    ("names", "said"),
    [(("a_1", "b"), r"but 'b' ends in no number; name tiles as"), (("a_1", "a_1_2"), "some names count tiles and oth")],
)
def test_blocks_asked_of_names_without_a_place_are_an_error(tmp_path: Path, names: tuple[str, ...], said: str) -> None:
    with pytest.raises(InvalidArgumentError, match=said):
        units_of(look(tmp_path, numbered(*names)), DataConfig(split_by="block"))
