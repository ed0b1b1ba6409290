from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pixelwise.data.sample import Sample
from pixelwise.data.splits.groups import SampleGroup
from pixelwise.data.splits.stratify import ClassPresence, divide_evenly, stratify

HERE = Path("unread")
Problem = tuple[list[SampleGroup], ClassPresence, int]


def make_group(number: int, size: int = 1) -> SampleGroup:
    names = [f"{number:03}-{i}" for i in range(size)]
    samples = tuple(Sample(name=n, image_path=HERE, label_path=HERE, split=None) for n in names)
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
