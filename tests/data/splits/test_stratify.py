from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pixelwise.data.sample import Sample
from pixelwise.data.splits.groups import Unit
from pixelwise.data.splits.stratify import Presence, divide_evenly, stratify

HERE = Path("unread")


def unit(number: int, size: int = 1) -> Unit:
    names = [f"{number:03}-{i}" for i in range(size)]
    samples = tuple(Sample(name=n, image_path=HERE, label_path=HERE, split=None) for n in names)
    return Unit(name=f"{number:03}", samples=samples)


@st.composite
def deals(draw: st.DrawFn, largest: int = 1) -> tuple[list[Unit], Presence, int]:
    """Units of up to `largest` images, the classes that each image shows, and in how many parts they go."""
    sizes = draw(st.lists(st.integers(1, largest), min_size=2, max_size=30))
    units = [unit(number, size) for number, size in enumerate(sizes)]
    classes = st.frozensets(st.integers(0, 5), max_size=4)
    presence = {sample: draw(classes) for one in units for sample in one.samples}
    return units, presence, draw(st.integers(2, min(6, len(units))))


def num_images(units: list[Unit]) -> int:
    return sum(len(one.samples) for one in units)


def units_with(units: list[Unit], presence: Presence, index: int) -> int:
    return sum(any(index in presence[s] for s in one.samples) for one in units)


@given(deals(largest=6), st.integers(0, 9))
def test_each_unit_is_dealt_once_and_no_part_is_empty(deal: tuple[list[Unit], Presence, int], seed: int) -> None:
    units, presence, count = deal
    parts = stratify(units, presence, divide_evenly(num_images(units), count), seed)
    assert len(parts) == count
    assert all(parts)
    assert sorted(u.name for part in parts for u in part) == [u.name for u in units]


@given(deals(largest=6), st.integers(0, 9), st.randoms(use_true_random=False))
def test_the_seed_decides_and_not_the_order(deal: tuple[list[Unit], Presence, int], seed: int, random: object) -> None:
    units, presence, count = deal
    targets = divide_evenly(num_images(units), count)
    shuffled = list(units)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert stratify(units, presence, targets, seed) == stratify(shuffled, presence, targets, seed)


@given(deals(), st.floats(0.05, 0.95))
def test_single_images_hold_the_proportions_exactly(deal: tuple[list[Unit], Presence, int], share: float) -> None:
    units, presence, count = deal
    taken = min(max(1, round(share * len(units))), len(units) - 1)
    for targets in ([len(units) - taken, taken], divide_evenly(len(units), count)):
        assert [len(part) for part in stratify(units, presence, targets, 0)] == targets


@given(deals(largest=6), st.floats(0.05, 0.95))
def test_groups_hold_the_proportions_within_the_largest(deal: tuple[list[Unit], Presence, int], share: float) -> None:
    units, presence, count = deal
    total, largest = num_images(units), max(len(u.samples) for u in units)
    taken = min(max(1, round(share * total)), total - 1)
    for targets in ([total - taken, taken], divide_evenly(total, count)):
        sizes = [num_images(part) for part in stratify(units, presence, targets, 0)]
        assert all(abs(size - target) <= largest for size, target in zip(sizes, targets, strict=True))


@given(deals(largest=6), st.integers(0, 9))
def test_the_rarest_class_that_can_be_everywhere_is(deal: tuple[list[Unit], Presence, int], seed: int) -> None:
    units, presence, count = deal
    shown = {c: units_with(units, presence, c) for c in range(6) if units_with(units, presence, c)}
    if not shown:
        return
    rarest = min(shown, key=lambda c: (shown[c], c))
    parts = stratify(units, presence, divide_evenly(num_images(units), count), seed)
    there = [units_with(part, presence, rarest) > 0 for part in parts]
    assert sum(there) == min(count, shown[rarest])


@given(st.lists(st.integers(0, 9), min_size=1, max_size=6), st.integers(0, 9), st.integers(2, 6))
def test_a_class_of_as_many_images_as_folds_is_in_every_fold(more: list[int], seed: int, count: int) -> None:
    """Images of one class each; where classes share images, no deal need exist that does it."""
    numbers = [count + extra for extra in more]
    presence: dict[Sample, frozenset[int]] = {}
    units = []
    for index, number in enumerate(numbers):
        for _ in range(number):
            units.append(unit(len(units)))
            presence[units[-1].samples[0]] = frozenset({index})
    for part in stratify(units, presence, divide_evenly(len(units), count), seed):
        assert all(units_with(part, presence, index) for index in range(len(numbers)))


def test_shares_of_a_class_follow_the_shares_of_the_parts() -> None:
    units = [unit(i) for i in range(100)]
    presence = {u.samples[0]: frozenset({0} if i % 4 == 0 else {1}) for i, u in enumerate(units)}
    for seed in range(5):
        train, val = stratify(units, presence, [80, 20], seed)
        assert (units_with(train, presence, 0), units_with(val, presence, 0)) == (20, 5)


@pytest.mark.parametrize("seed", range(5))
def test_a_class_of_two_images_is_in_both_splits_and_of_one_in_train(seed: int) -> None:
    units = [unit(i) for i in range(20)]
    presence = {u.samples[0]: frozenset({0}) for u in units}
    presence[units[3].samples[0]] = presence[units[7].samples[0]] = frozenset({0, 1})
    presence[units[5].samples[0]] = frozenset({0, 2})
    train, val = stratify(units, presence, [16, 4], seed)
    assert units_with(train, presence, 1) == units_with(val, presence, 1) == 1
    assert units_with(train, presence, 2) == 1


def test_even_targets_differ_by_one() -> None:
    assert divide_evenly(7, 3) == [3, 2, 2]
    assert divide_evenly(6, 3) == [2, 2, 2]
