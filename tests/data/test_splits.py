from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pixelwise.data.sample import Sample, Split
from pixelwise.data.splits import make_splits, own_splits, read_splits, write_splits
from pixelwise.errors import DataError


def samples(count: int, split: Split | None = None) -> list[Sample]:
    path = Path("unread")
    names = [f"{split or 'all'}/{i:03}" for i in range(count)]
    return [Sample(name=n, image_path=path, label_path=path, split=split) for n in names]


GIVEN = [*samples(5, "train"), *samples(2, "val"), *samples(3, "test")]


def test_own_splits_are_taken_as_they_are() -> None:
    splits, note = make_splits(GIVEN[::-1], 0.2, 0)
    assert note is None
    assert splits == own_splits(GIVEN)
    assert splits == {"train": GIVEN[:5], "val": GIVEN[5:7], "test": GIVEN[7:]}


@given(st.integers(2, 60), st.floats(0.01, 0.99), st.integers(0, 99))
def test_a_made_split_is_seeded_and_disjoint(count: int, fraction: float, seed: int) -> None:
    all_samples = samples(count)
    splits, note = make_splits(all_samples, fraction, seed)
    train, val = splits["train"], splits["val"]
    assert sorted(train + val) == all_samples
    assert train == sorted(train)
    assert val == sorted(val)
    assert train
    assert val
    assert abs(len(val) - fraction * count) <= 1
    expected = f"no val split: {len(val)} of the {count} training images, drawn with seed {seed}"
    assert note is not None
    assert note.startswith(expected)
    assert (splits, note) == make_splits(all_samples[::-1], fraction, seed)


def test_another_seed_draws_others() -> None:
    drawn = [make_splits(samples(40), 0.2, seed)[0]["val"] for seed in range(5)]
    assert len({tuple(val) for val in drawn}) == 5


def test_a_split_is_made_of_train_alone() -> None:
    splits, _ = make_splits([*samples(10, "train"), *samples(3, "test")], 0.3, 0)
    assert [len(splits[s]) for s in ("train", "val", "test")] == [7, 3, 3]
    assert {s.split for s in splits["val"]} == {"train"}


@pytest.mark.parametrize(
    ("there", "message"),
    [
        ([], r"0 training pair\(s\) and 0 of a val split.* are needed; add some"),
        (samples(1), r"1 training pair\(s\) and 0 of a val split"),
        (samples(9, "val"), r"0 training pair\(s\) and 9 of a val split"),
        (samples(9, "test"), r"0 training pair\(s\) and 0 of a val split"),
    ],
)
def test_nothing_to_train_or_validate_on_is_an_error(there: list[Sample], message: str) -> None:
    with pytest.raises(DataError, match=message):
        make_splits(there, 0.2, 0)


def test_one_to_train_and_one_to_validate_are_enough() -> None:
    assert make_splits([*samples(1, "train"), *samples(1, "val")], 0.2, 0)[1] is None


@pytest.mark.parametrize("there", [GIVEN, samples(9)])
def test_splits_to_file_and_back(tmp_path: Path, there: list[Sample]) -> None:
    splits, _ = make_splits(there, 0.2, 0)
    write_splits(tmp_path / "splits.yaml", splits)
    assert read_splits(tmp_path / "splits.yaml", there) == splits


def test_a_pair_that_is_gone_is_an_error(tmp_path: Path) -> None:
    write_splits(tmp_path / "splits.yaml", own_splits(GIVEN))
    with pytest.raises(DataError, match=r"splits.yaml lists 'train/000', which the data set does not"):
        read_splits(tmp_path / "splits.yaml", GIVEN[1:])


@pytest.mark.parametrize("content", ["", "- a", "dev: [a]"])
def test_another_file_is_an_error(tmp_path: Path, content: str) -> None:
    (tmp_path / "splits.yaml").write_text(content, encoding="utf-8")
    with pytest.raises(DataError, match=r"splits.yaml must list samples under train, val, test"):
        read_splits(tmp_path / "splits.yaml", GIVEN)
