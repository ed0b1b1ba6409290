import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pixelwise.config import DataConfig
from pixelwise.data.dataset import Dataset
from pixelwise.data.io.images import write_png
from pixelwise.data.sample import Sample, Split, Splits, group_by_split
from pixelwise.data.scan import scan_dataset
from pixelwise.data.splits.groups import SampleGroup, merge_groups
from pixelwise.data.splits.splits import (
    ClassPresence,
    assign_folds,
    assign_splits,
    describe_split_groups,
    divide_evenly,
    find_class_presence,
    make_folds,
    make_splits,
    read_splits,
    require_valid_num_folds,
    stratify,
    write_splits,
)
from pixelwise.errors import DataError, InvalidArgumentError


def samples(count: int, split: Split | None = None) -> list[Sample]:
    path = Path("unread")
    names = [f"{split or 'all'}/{i:03}" for i in range(count)]
    return [Sample(name=n, image_path=path, mask_path=path, split=split) for n in names]


GIVEN = [*samples(5, "train"), *samples(2, "val"), *samples(3, "test")]


def test_own_splits_are_used() -> None:
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
    expected = f"No validation split found: {len(val)} of the {count} training images, drawn with seed {seed}"
    assert note is not None
    assert note.startswith(expected)
    assert (splits, note) == make_splits(all_samples[::-1], fraction, seed)


def test_another_seed_draws_others() -> None:
    drawn = [make_splits(samples(40), 0.2, seed)[0]["val"] for seed in range(5)]
    assert len({tuple(val) for val in drawn}) == 5


def test_a_split_is_made_of_train_only() -> None:
    splits, _ = make_splits([*samples(10, "train"), *samples(3, "test")], 0.3, 0)
    assert [len(splits[s]) for s in ("train", "val", "test")] == [7, 3, 3]
    assert {s.split for s in splits["val"]} == {"train"}


@pytest.mark.parametrize(
    ("available", "message"),
    [
        ([], r"0 training and 0 validation pairs.* is needed. Add images"),
        (samples(1), r"1 training and 0 validation"),
        (samples(9, "val"), r"0 training and 9 validation"),
        (samples(9, "test"), r"0 training and 0 validation"),
    ],
)
def test_too_few_samples_are_an_error(available: list[Sample], message: str) -> None:
    with pytest.raises(DataError, match=message):
        make_splits(available, 0.2, 0)


def test_one_to_train_and_one_to_validate_are_enough() -> None:
    assert make_splits([*samples(1, "train"), *samples(1, "val")], 0.2, 0)[1] is None


@pytest.mark.parametrize("available", [GIVEN, samples(9)])
def test_splits_to_file_and_back(tmp_path: Path, available: list[Sample]) -> None:
    splits, _ = make_splits(available, 0.2, 0)
    write_splits(tmp_path / "splits.yaml", splits)
    assert read_splits(tmp_path / "splits.yaml", available) == splits


def test_a_missing_sample_is_an_error(tmp_path: Path) -> None:
    write_splits(tmp_path / "splits.yaml", group_by_split(GIVEN))
    with pytest.raises(DataError, match=r"splits.yaml lists 'train/000', which the dataset no longer contains"):
        read_splits(tmp_path / "splits.yaml", GIVEN[1:])


def test_revised_splits_drop_missing_samples_and_add_new_ones_to_train(tmp_path: Path) -> None:
    write_splits(tmp_path / "splits.yaml", {"train": GIVEN[1:5], "val": GIVEN[5:7], "test": []})
    available = [*GIVEN[2:], *samples(1), *samples(3, "val")]
    revised = read_splits(tmp_path / "splits.yaml", available, update=True)
    assert [sample.name for sample in revised["train"]] == ["all/000", "train/002", "train/003", "train/004"]
    assert [sample.name for sample in revised["val"]] == ["val/000", "val/001", "val/002"]
    assert revised["test"] == GIVEN[7:]


@pytest.mark.parametrize("content", ["", "- a", "dev: [a]"])
def test_a_damaged_file_is_an_error(tmp_path: Path, content: str) -> None:
    (tmp_path / "splits.yaml").write_text(content, encoding="utf-8")
    with pytest.raises(DataError, match=r"splits.yaml is damaged. Expected samples under train, val, test"):
        read_splits(tmp_path / "splits.yaml", GIVEN)


# Groups and folds.


@st.composite
def draw_groups(draw: st.DrawFn) -> tuple[list[Sample], dict[Sample, str], tuple[SampleGroup, ...]]:
    """Draw samples of train, val and test, the group names of those in train and val, and the merged groups."""
    sizes = {split: draw(st.integers(least, 12)) for split, least in (("train", 2), ("val", 0), ("test", 0))}
    everything = [s for split, size in sizes.items() for s in samples(size, split)]  # type: ignore[arg-type]
    pool = [s for s in everything if s.split != "test"]
    names = {sample: draw(st.sampled_from("abcdefgh")) for sample in pool}
    copies = draw(st.lists(st.lists(st.sampled_from(pool), min_size=2, max_size=3, unique=True), max_size=3))
    groups = merge_groups(sorted(pool), names, copies)
    assert all(sum(set(one) <= set(group.samples) for group in groups) == 1 for one in copies)
    return everything, names, groups


def find_divided(splits: Splits, groups: tuple[SampleGroup, ...]) -> list[str]:
    """Return the names of groups in more than one split."""
    found = [{split for split, samples in splits.items() if set(samples) & set(group.samples)} for group in groups]
    return [group.name for group, where in zip(groups, found, strict=True) if len(where) > 1]


@given(draw_groups(), st.floats(0.05, 0.95), st.integers(0, 9))
def test_no_group_is_in_two_splits(
    drawn: tuple[list[Sample], dict[Sample, str], tuple[SampleGroup, ...]], fraction: float, seed: int
) -> None:
    everything, names, _ = drawn
    everything = [s for s in everything if s.split != "val"]
    train = [s for s in everything if s.split == "train"]
    groups = merge_groups(train, {s: names[s] for s in train}, ())
    if len(groups) < 2:
        with pytest.raises(DataError, match="form 1 group that must stay together"):
            make_splits(everything, fraction, seed, groups=groups)
        return
    splits, note = make_splits(everything, fraction, seed, groups=groups)
    assert find_divided(splits, groups) == []
    assert sorted(splits["train"] + splits["val"]) == train
    assert splits["train"]
    assert splits["val"]
    assert splits == make_splits(everything[::-1], fraction, seed, groups=groups[::-1])[0]
    largest = max(len(group.samples) for group in groups)
    assert abs(len(splits["val"]) - fraction * len(train)) <= largest + 1
    assert note is not None
    assert ("groups" in note) == (len(groups) < len(train))


@given(draw_groups(), st.integers(2, 6), st.integers(0, 9))
def test_folds_divide_no_group_and_validate_each_image_once(
    drawn: tuple[list[Sample], dict[Sample, str], tuple[SampleGroup, ...]], count: int, seed: int
) -> None:
    everything, _, groups = drawn
    if len(groups) < count:
        with pytest.raises(DataError, match=rf"but {count} folds need {count}. Group differently"):
            make_folds(everything, count, seed, groups=groups)
        return
    folds = make_folds(everything, count, seed, groups=groups)
    pool = sorted(s for s in everything if s.split != "test")
    assert len(folds) == count
    assert sorted(s for fold in folds for s in fold["val"]) == pool
    for fold in folds:
        assert fold["val"]
        assert find_divided(fold, groups) == []
        assert sorted(fold["train"] + fold["val"]) == pool
        assert fold["train"] == sorted(fold["train"])
        assert fold["test"] == group_by_split(everything)["test"]
    assert folds == make_folds(everything[::-1], count, seed, groups=groups[::-1])


def test_two_pairs_make_two_folds() -> None:
    folds = make_folds(samples(2), 2, 0)
    assert [(len(fold["train"]), len(fold["val"])) for fold in folds] == [(1, 1), (1, 1)]


def test_one_fold_is_refused() -> None:
    with pytest.raises(InvalidArgumentError, match=r"--folds is 1\. Expected at least 2"):
        require_valid_num_folds(1)
    with pytest.raises(InvalidArgumentError, match="--folds is 0"):
        make_folds(samples(4), 0, 0)


def test_a_single_group_is_an_error() -> None:
    groups = [SampleGroup(name="patient 7", samples=tuple(samples(3)))]
    message = r"The 3 images form 1 group .* \('patient 7'\), but a validation split needs 2. Group differently"
    with pytest.raises(DataError, match=message):
        make_splits(samples(3), 0.2, 0, groups=groups)


def test_a_group_in_two_of_the_own_splits_is_a_warning() -> None:
    splits = group_by_split(GIVEN)
    groups = {s: s.name[-1] for s in GIVEN}
    assert describe_split_groups(splits, {s: s.name for s in GIVEN}) is None
    note = describe_split_groups(splits, groups)
    assert note is not None
    assert note.startswith("3 of 5 groups are in more than one of the dataset's own splits")
    assert note.endswith("'0' (train, val, test), '1' (train, val, test), '2' (train, test).")


def test_the_group_is_a_comment_of_each_sample(tmp_path: Path) -> None:
    splits = group_by_split(GIVEN)
    write_splits(tmp_path / "splits.yaml", splits, {s: f"patient\n{s.name[-1]}" for s in GIVEN[:4]})
    lines = (tmp_path / "splits.yaml").read_text(encoding="utf-8").splitlines()
    assert lines[:2] == ["train:", "- train/000  # patient 0"]
    assert lines[5] == "- train/004"
    assert read_splits(tmp_path / "splits.yaml", GIVEN) == splits


@given(st.text(min_size=1, max_size=40), st.text(min_size=1, max_size=20))
def test_any_name_is_read_back(tmp_path_factory: pytest.TempPathFactory, name: str, group: str) -> None:
    path = tmp_path_factory.mktemp("splits") / "splits.yaml"
    one = Sample(name=name, image_path=path, mask_path=path, split=None)
    write_splits(path, {"train": [one]}, {one: group})
    assert read_splits(path, [one])["train"] == [one]


# From a scanned dataset and a configuration.

PATIENTS = DataConfig(group_by=r"p(\d+)", val_fraction=0.25)


def write_pairs(root: Path, *names: str) -> None:
    """Write pairs; class 2 occurs only in those whose name ends in `rare`."""
    rng = np.random.default_rng(len(names))
    for name in names:
        write_png(root / f"images/{name}.png", rng.integers(0, 256, (4, 4), np.uint8))
        write_png(root / f"masks/{name}.png", np.array([[0, 1], [1, 2 if name.endswith("rare") else 0]], np.uint8))


def scan(root: Path) -> Dataset:
    """Scan what training reads: all except the test images."""
    dataset = Dataset.load(root)
    return scan_dataset(dataset, [s for s in dataset.samples if s.split != "test"])


@pytest.fixture
def patients(tmp_path: Path) -> Path:
    write_pairs(tmp_path, *(f"p{p}_{i}" for p in range(8) for i in range(3)))
    return tmp_path


def test_patients_are_in_one_split(patients: Path) -> None:
    assignment = assign_splits(scan(patients), PATIENTS, 0)
    val = {assignment.groups[s] for s in assignment.splits["val"]}
    assert len(val) == 2
    assert val.isdisjoint(assignment.groups[s] for s in assignment.splits["train"])
    assert assignment.notes == (
        "No validation split found: 6 of the 24 training images in 2 of 8 groups, drawn with seed 0, are used for "
        "validation.",
    )
    assert assignment.warning is None


def test_classes_are_stratified(tmp_path: Path) -> None:
    write_pairs(tmp_path, *(f"{i}" for i in range(18)), "a_rare", "b_rare")
    dataset = scan(tmp_path)
    presence = find_class_presence(dataset, list(dataset.samples))
    assert {s.name for s, classes in presence.items() if 2 in classes} == {"a_rare", "b_rare"}
    for seed in range(3):
        splits = assign_splits(dataset, DataConfig(), seed).splits
        assert sum(s.name.endswith("rare") for s in splits["val"]) == 1


def test_own_splits_stay_and_a_patient_in_two_is_a_warning(tmp_path: Path) -> None:
    write_pairs(tmp_path, "train/p1_a", "train/p2_a", "val/p2_b", "val/p3_a", "test/p1_b")
    assignment = assign_splits(scan(tmp_path), PATIENTS, 0)
    assert [len(assignment.splits[s]) for s in ("train", "val", "test")] == [2, 2, 1]
    assert assignment.notes == ()
    assert assignment.warning is not None
    assert "'1' (train, test), '2' (train, val)" in assignment.warning
    assert assign_splits(scan(tmp_path), DataConfig(), 0).warning is None


def test_folds_combine_train_and_val_and_do_not_read_test(tmp_path: Path) -> None:
    write_pairs(tmp_path, *(f"train/p{i}_a" for i in range(6)), *(f"val/p{i}_b" for i in range(6)), "test/p9_a")
    (tmp_path / "images/test/p9_a.png").write_bytes(b"not an image")
    folds = assign_folds(scan(tmp_path), PATIENTS, 3, 0)
    assert len(folds) == 3
    for fold in folds:
        assert [len(fold.splits[s]) for s in ("train", "val", "test")] == [8, 4, 1]
        assert len({fold.groups[s] for s in fold.splits["val"]}) == 2
        assert fold.warning is None
    assert folds[0].notes == (
        "3 folds of 12 images in 6 groups (train and val combined: 6 + 6), drawn with seed 0: each image is used for "
        "validation in one fold and for training in the others. The 1 test images are not used.",
    )


def test_blocks_are_noted_once(tmp_path: Path) -> None:
    write_pairs(tmp_path, *(f"tile_{r}_{c}" for r in range(8) for c in range(8)))
    assignment = assign_splits(scan(tmp_path), DataConfig(), 0)
    assert len(assignment.notes) == 2
    assert len(assignment.groups) == 64
    shutil.move(tmp_path / "images/tile_0_0.png", tmp_path / "images/photo.png")
    shutil.move(tmp_path / "masks/tile_0_0.png", tmp_path / "masks/photo.png")
    assert assign_splits(scan(tmp_path), DataConfig(), 0).groups == {}


HERE = Path("unread")
Problem = tuple[list[SampleGroup], ClassPresence, int]


def make_group(number: int, size: int = 1) -> SampleGroup:
    names = [f"{number:03}-{i}" for i in range(size)]
    samples = tuple(Sample(name=n, image_path=HERE, mask_path=HERE, split=None) for n in names)
    return SampleGroup(name=f"{number:03}", samples=samples)


@st.composite
def draw_problem(draw: st.DrawFn, largest: int = 1) -> Problem:
    """Draw groups of up to `largest` samples, the classes of each sample, and a number of parts."""
    sizes = draw(st.lists(st.integers(1, largest), min_size=2, max_size=30))
    groups = [make_group(number, size) for number, size in enumerate(sizes)]
    classes = st.frozensets(st.integers(0, 5), max_size=4)
    presence = {sample: draw(classes) for group in groups for sample in group.samples}
    return groups, presence, draw(st.integers(2, min(6, len(groups))))


def count_samples(groups: list[SampleGroup]) -> int:
    return sum(len(group.samples) for group in groups)


def count_groups_with_class(groups: list[SampleGroup], presence: ClassPresence, index: int) -> int:
    return sum(any(index in presence[s] for s in group.samples) for group in groups)


@given(draw_problem(largest=6), st.integers(0, 9))
def test_each_group_is_in_one_part_and_no_part_is_empty(problem: Problem, seed: int) -> None:
    groups, presence, count = problem
    parts = stratify(groups, presence, divide_evenly(count_samples(groups), count), seed)
    assert len(parts) == count
    assert all(parts)
    assert sorted(u.name for part in parts for u in part) == [u.name for u in groups]


@given(draw_problem(largest=6), st.integers(0, 9), st.randoms(use_true_random=False))
def test_the_result_depends_on_the_seed_but_not_on_the_order(problem: Problem, seed: int, random: object) -> None:
    groups, presence, count = problem
    targets = divide_evenly(count_samples(groups), count)
    shuffled = list(groups)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert stratify(groups, presence, targets, seed) == stratify(shuffled, presence, targets, seed)


@given(draw_problem(), st.floats(0.05, 0.95))
def test_single_samples_meet_the_targets_exactly(problem: Problem, share: float) -> None:
    groups, presence, count = problem
    taken = min(max(1, round(share * len(groups))), len(groups) - 1)
    for targets in ([len(groups) - taken, taken], divide_evenly(len(groups), count)):
        assert [len(part) for part in stratify(groups, presence, targets, 0)] == targets


@given(draw_problem(largest=6), st.floats(0.05, 0.95))
def test_groups_meet_the_targets_within_the_largest_group(problem: Problem, share: float) -> None:
    groups, presence, count = problem
    total, largest = count_samples(groups), max(len(u.samples) for u in groups)
    taken = min(max(1, round(share * total)), total - 1)
    for targets in ([total - taken, taken], divide_evenly(total, count)):
        sizes = [count_samples(part) for part in stratify(groups, presence, targets, 0)]
        assert all(abs(size - target) <= largest for size, target in zip(sizes, targets, strict=True))


@given(draw_problem(largest=6), st.integers(0, 9))
def test_the_rarest_class_is_in_every_part_if_possible(problem: Problem, seed: int) -> None:
    groups, presence, count = problem
    num_groups = {
        c: count_groups_with_class(groups, presence, c)
        for c in range(6)
        if count_groups_with_class(groups, presence, c)
    }
    if not num_groups:
        return
    rarest = min(num_groups, key=lambda c: (num_groups[c], c))
    parts = stratify(groups, presence, divide_evenly(count_samples(groups), count), seed)
    present = [count_groups_with_class(part, presence, rarest) > 0 for part in parts]
    assert sum(present) == min(count, num_groups[rarest])


@given(st.lists(st.integers(0, 9), min_size=1, max_size=6), st.integers(0, 9), st.integers(2, 6))
def test_a_class_of_as_many_images_as_folds_is_in_every_fold(more: list[int], seed: int, count: int) -> None:
    """Samples of one class each in folds of one size; for samples of several classes, no such solution may exist."""
    numbers = [count + extra for extra in more]
    numbers[-1] += -sum(numbers) % count
    presence: dict[Sample, frozenset[int]] = {}
    groups = []
    for index, number in enumerate(numbers):
        for _ in range(number):
            groups.append(make_group(len(groups)))
            presence[groups[-1].samples[0]] = frozenset({index})
    for part in stratify(groups, presence, divide_evenly(len(groups), count), seed):
        assert all(count_groups_with_class(part, presence, index) for index in range(len(numbers)))


def test_shares_of_a_class_follow_the_shares_of_the_parts() -> None:
    groups = [make_group(i) for i in range(100)]
    presence = {u.samples[0]: frozenset({0} if i % 4 == 0 else {1}) for i, u in enumerate(groups)}
    for seed in range(5):
        train, val = stratify(groups, presence, [80, 20], seed)
        assert (count_groups_with_class(train, presence, 0), count_groups_with_class(val, presence, 0)) == (20, 5)


@pytest.mark.parametrize("seed", range(5))
def test_a_class_of_two_images_is_in_both_splits_and_of_one_in_train(seed: int) -> None:
    groups = [make_group(i) for i in range(20)]
    presence = {u.samples[0]: frozenset({0}) for u in groups}
    presence[groups[3].samples[0]] = presence[groups[7].samples[0]] = frozenset({0, 1})
    presence[groups[5].samples[0]] = frozenset({0, 2})
    train, val = stratify(groups, presence, [16, 4], seed)
    assert count_groups_with_class(train, presence, 1) == count_groups_with_class(val, presence, 1) == 1
    assert count_groups_with_class(train, presence, 2) == 1


def test_a_number_is_divided_evenly() -> None:
    assert divide_evenly(7, 3) == [3, 2, 2]
    assert divide_evenly(6, 3) == [2, 2, 2]
