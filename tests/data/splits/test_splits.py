from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pixelwise.data.sample import Sample, Split
from pixelwise.data.splits.groups import Unit, join
from pixelwise.data.splits.splits import (
    Splits,
    describe_split_groups,
    group_by_split,
    make_folds,
    make_splits,
    read_splits,
    require_valid_num_folds,
    write_splits,
)
from pixelwise.errors import DataError, InvalidArgumentError


def samples(count: int, split: Split | None = None) -> list[Sample]:
    path = Path("unread")
    names = [f"{split or 'all'}/{i:03}" for i in range(count)]
    return [Sample(name=n, image_path=path, label_path=path, split=split) for n in names]


GIVEN = [*samples(5, "train"), *samples(2, "val"), *samples(3, "test")]


def test_own_splits_are_taken_as_they_are() -> None:
    splits, note = make_splits(GIVEN[::-1], 0.2, 0)
    assert note is None
    assert splits == group_by_split(GIVEN)
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
    write_splits(tmp_path / "splits.yaml", group_by_split(GIVEN))
    with pytest.raises(DataError, match=r"splits.yaml lists 'train/000', which the dataset does not"):
        read_splits(tmp_path / "splits.yaml", GIVEN[1:])


def test_revised_lists_lose_what_is_gone_and_train_on_what_is_new(tmp_path: Path) -> None:
    write_splits(tmp_path / "splits.yaml", {"train": GIVEN[1:5], "val": GIVEN[5:7], "test": []})
    there = [*GIVEN[2:], *samples(1), *samples(3, "val")]
    revised = read_splits(tmp_path / "splits.yaml", there, revise=True)
    assert [sample.name for sample in revised["train"]] == ["all/000", "train/002", "train/003", "train/004"]
    assert [sample.name for sample in revised["val"]] == ["val/000", "val/001", "val/002"]
    assert revised["test"] == GIVEN[7:]


@pytest.mark.parametrize("content", ["", "- a", "dev: [a]"])
def test_another_file_is_an_error(tmp_path: Path, content: str) -> None:
    (tmp_path / "splits.yaml").write_text(content, encoding="utf-8")
    with pytest.raises(DataError, match=r"splits.yaml must list samples under train, val, test"):
        read_splits(tmp_path / "splits.yaml", GIVEN)


# Groups and folds.


@st.composite
def grouped(draw: st.DrawFn) -> tuple[list[Sample], dict[Sample, str], tuple[Unit, ...]]:
    """Samples of train, val and test, the group of each of train and val, and their units."""
    sizes = {split: draw(st.integers(least, 12)) for split, least in (("train", 2), ("val", 0), ("test", 0))}
    everything = [s for split, size in sizes.items() for s in samples(size, split)]  # type: ignore[arg-type]
    pool = [s for s in everything if s.split != "test"]
    groups = {sample: draw(st.sampled_from("abcdefgh")) for sample in pool}
    copies = draw(st.lists(st.lists(st.sampled_from(pool), min_size=2, max_size=3, unique=True), max_size=3))
    units = join(sorted(pool), groups, copies)
    assert all(sum(set(one) <= set(unit.samples) for unit in units) == 1 for one in copies)
    return everything, groups, units


def torn(splits: Splits, units: tuple[Unit, ...]) -> list[str]:
    """Units in more than one split."""
    places = [{split for split, there in splits.items() if set(there) & set(unit.samples)} for unit in units]
    return [unit.name for unit, found in zip(units, places, strict=True) if len(found) > 1]


@given(grouped(), st.floats(0.05, 0.95), st.integers(0, 9))
def test_no_group_is_in_two_splits(
    made: tuple[list[Sample], dict[Sample, str], tuple[Unit, ...]], fraction: float, seed: int
) -> None:
    everything, groups, _ = made
    everything = [s for s in everything if s.split != "val"]
    train = [s for s in everything if s.split == "train"]
    units = join(train, {s: groups[s] for s in train}, ())
    if len(units) < 2:
        with pytest.raises(DataError, match=r"make 1 group\(s\) that may not be torn apart"):
            make_splits(everything, fraction, seed, units=units)
        return
    splits, note = make_splits(everything, fraction, seed, units=units)
    assert torn(splits, units) == []
    assert sorted(splits["train"] + splits["val"]) == train
    assert splits["train"]
    assert splits["val"]
    assert splits == make_splits(everything[::-1], fraction, seed, units=units[::-1])[0]
    largest = max(len(unit.samples) for unit in units)
    assert abs(len(splits["val"]) - fraction * len(train)) <= largest + 1
    assert note is not None
    assert ("groups" in note) == (len(units) < len(train))


@given(grouped(), st.integers(2, 6), st.integers(0, 9))
def test_folds_tear_no_group_and_validate_each_image_once(
    made: tuple[list[Sample], dict[Sample, str], tuple[Unit, ...]], count: int, seed: int
) -> None:
    everything, _, units = made
    if len(units) < count:
        with pytest.raises(DataError, match=rf"but {count} folds need one each; make fewer folds, group otherwise"):
            make_folds(everything, count, seed, units=units)
        return
    folds = make_folds(everything, count, seed, units=units)
    pool = sorted(s for s in everything if s.split != "test")
    assert len(folds) == count
    assert sorted(s for fold in folds for s in fold["val"]) == pool
    for fold in folds:
        assert fold["val"]
        assert torn(fold, units) == []
        assert sorted(fold["train"] + fold["val"]) == pool
        assert fold["train"] == sorted(fold["train"])
        assert fold["test"] == group_by_split(everything)["test"]
    assert folds == make_folds(everything[::-1], count, seed, units=units[::-1])


def test_two_pairs_make_two_folds() -> None:
    folds = make_folds(samples(2), 2, 0)
    assert [(len(fold["train"]), len(fold["val"])) for fold in folds] == [(1, 1), (1, 1)]


def test_one_fold_is_refused() -> None:
    with pytest.raises(InvalidArgumentError, match="--folds is 1, but must be at least 2"):
        require_valid_num_folds(1)
    with pytest.raises(InvalidArgumentError, match="--folds is 0"):
        make_folds(samples(4), 0, 0)


def test_a_single_group_says_why_and_what_to_do() -> None:
    units = [Unit(name="patient 7", samples=tuple(samples(3)))]
    said = (
        r"the 3 images make 1 group\(s\) .* \('patient 7'\), but .* name a val split, group otherwise with --group-by"
    )
    with pytest.raises(DataError, match=said):
        make_splits(samples(3), 0.2, 0, units=units)


def test_a_group_in_two_of_the_own_splits_is_told() -> None:
    splits = group_by_split(GIVEN)
    groups = {s: s.name[-1] for s in GIVEN}
    assert describe_split_groups(splits, {s: s.name for s in GIVEN}) is None
    note = describe_split_groups(splits, groups)
    assert note is not None
    assert note.startswith("3 of 5 groups lie in more than one of the dataset's own splits")
    assert note.endswith("'0' (train, val, test), '1' (train, val, test), '2' (train, test).")


def test_the_group_stands_beside_each_sample(tmp_path: Path) -> None:
    splits = group_by_split(GIVEN)
    write_splits(tmp_path / "splits.yaml", splits, {s: f"patient\n{s.name[-1]}" for s in GIVEN[:4]})
    lines = (tmp_path / "splits.yaml").read_text(encoding="utf-8").splitlines()
    assert lines[:2] == ["train:", "- train/000  # patient 0"]
    assert lines[5] == "- train/004"
    assert read_splits(tmp_path / "splits.yaml", GIVEN) == splits


@given(st.text(min_size=1, max_size=40), st.text(min_size=1, max_size=20))
def test_any_name_is_read_back(tmp_path_factory: pytest.TempPathFactory, name: str, group: str) -> None:
    path = tmp_path_factory.mktemp("splits") / "splits.yaml"
    one = Sample(name=name, image_path=path, label_path=path, split=None)
    write_splits(path, {"train": [one]}, {one: group})
    assert read_splits(path, [one])["train"] == [one]
