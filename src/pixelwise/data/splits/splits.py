"""Assign samples to train, val and test, or to folds: seeded, and stored with the run."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
import yaml

from pixelwise.config import DataConfig
from pixelwise.data.dataset import Dataset
from pixelwise.data.sample import SPLITS, Sample, Splits, group_by_split
from pixelwise.data.scan import count_class_pixels
from pixelwise.data.splits.groups import SampleGroup, find_sample_groups, find_user_groups, single_sample_groups
from pixelwise.errors import DataError, InvalidArgumentError, format_count
from pixelwise.files import read_yaml, write_atomically

ClassPresence = Mapping[Sample, frozenset[int]]
"""Class indices that occur in the mask of each sample."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SplitAssignment:
    """Splits of a dataset, and how they were made."""

    splits: Splits
    groups: Mapping[Sample, str] = field(default_factory=dict)
    """Name of the group of each sample that was kept together with others."""
    notes: tuple[str, ...] = ()
    """Description of how the splits were made; empty where they are the dataset's own."""
    warning: str | None = None
    """Set where a user group is in several of the dataset's own splits."""


def assign_splits(dataset: Dataset, config: DataConfig, seed: int) -> SplitAssignment:
    """Return the dataset's own splits; without a val split, a share of the training samples becomes one.

    The training samples must have been scanned. Test images are not read.
    """
    own = group_by_split(dataset.samples)
    train = own["train"] if not own["val"] else []
    groups, notes = find_sample_groups(dataset, train, config)
    presence = find_class_presence(dataset, train)
    splits, note = make_splits(dataset.samples, config.val_fraction, seed, groups=groups, presence=presence)
    return _make_assignment(dataset, config, splits, groups, [note, *notes] if note else [])


def assign_folds(dataset: Dataset, config: DataConfig, num_folds: int, seed: int) -> list[SplitAssignment]:
    """Return the splits of each fold of the training and validation samples, which must have been scanned."""
    own = group_by_split(dataset.samples)
    pool = own["train"] + own["val"]
    if dataset.index.val_folds:
        return _read_folds(dataset, config, own, num_folds)
    groups, notes = find_sample_groups(dataset, pool, config, num_folds)
    presence = find_class_presence(dataset, pool)
    folds = make_folds(dataset.samples, num_folds, seed, groups=groups, presence=presence)
    note = _describe_folds(own, len(groups), num_folds, seed)
    return [_make_assignment(dataset, config, splits, groups, [note, *notes]) for splits in folds]


def _read_folds(dataset: Dataset, config: DataConfig, own: Splits, num_folds: int) -> list[SplitAssignment]:
    """Return the folds that the split list of the dataset defines.

    Raises:
        InvalidArgumentError: The list defines another number of folds.
        DataError: A fold has no image for training or validation.
    """
    listed = dataset.index.val_folds
    if len(listed) != num_folds:
        raise InvalidArgumentError(
            f"The split list of {dataset.location} defines {len(listed)} folds, but --folds is {num_folds}. "
            f"Use --folds {len(listed)}, or remove the list to draw other folds."
        )
    pool = own["train"] + own["val"]
    assignments = []
    for number, fold in enumerate(listed, start=1):
        val = [sample for sample in pool if (sample.image_path, sample.image_entry) in fold]
        train = [sample for sample in pool if (sample.image_path, sample.image_entry) not in fold]
        if not (train and val):
            raise DataError(
                f"Fold {number} in the split list of {dataset.location} has {len(train)} images for training and "
                f"{len(val)} for validation. Complete the list, or remove it."
            )
        note = f"{num_folds} folds of {len(pool)} images, as in the split list of the dataset."
        splits: Splits = {"train": train, "val": val, "test": own["test"]}
        assignments.append(_make_assignment(dataset, config, splits, [], [note]))
    return assignments


def find_class_presence(dataset: Dataset, samples: Sequence[Sample]) -> ClassPresence:
    """Return the classes that occur in the mask of each scanned sample."""
    is_present = count_class_pixels(dataset, samples) > 0
    return {s: frozenset(row.nonzero()[0].tolist()) for s, row in zip(samples, is_present, strict=True)}


def _describe_folds(own: Splits, num_groups: int, num_folds: int, seed: int) -> str:
    num_images = len(own["train"]) + len(own["val"])
    groups = f" in {num_groups} groups" if num_groups < num_images else ""
    pooled = f" (train and val combined: {len(own['train'])} + {len(own['val'])})" if own["val"] else ""
    test = f" The {len(own['test'])} test images are not used." if own["test"] else ""
    return (
        f"{num_folds} folds of {num_images} images{groups}{pooled}, drawn with seed {seed}: each image is used for "
        f"validation in one fold and for training in the others.{test}"
    )


def _make_assignment(
    dataset: Dataset, config: DataConfig, splits: Splits, groups: Sequence[SampleGroup], notes: Sequence[str]
) -> SplitAssignment:
    group_names: dict[Sample, str] = {}
    if config.group_by is not None:
        group_names = find_user_groups(dataset.samples, config.group_by, dataset.root)
    merged = {sample: group.name for group in groups if len(group.samples) > 1 for sample in group.samples}
    return SplitAssignment(
        splits=splits,
        groups={**group_names, **merged},
        notes=tuple(notes),
        warning=describe_split_groups(splits, group_names),
    )


def make_splits(
    samples: Sequence[Sample],
    val_fraction: float,
    seed: int,
    *,
    groups: Sequence[SampleGroup] | None = None,
    presence: ClassPresence | None = None,
) -> tuple[Splits, str | None]:
    """Return the samples' own splits; without a val split, a seeded share of train becomes one.

    Args:
        samples: All samples of the dataset.
        val_fraction: The share of the training samples to use for validation.
        seed: Seed of the draw.
        groups: The training samples in groups that stay together; None: single samples.
        presence: The classes of each sample, so that both splits contain similar shares of each.

    Returns:
        The splits, and a note for the user if a split was made.

    Raises:
        DataError: There are too few samples or groups.
    """
    splits = group_by_split(samples)
    train = splits["train"]
    if splits["val"] and train:
        return splits, None
    if len(train) < 2:
        raise DataError(
            f"The dataset has {len(train)} training and {format_count(len(splits['val']), 'validation pair')}, "
            f"but at least one of each is needed. Add images with masks."
        )
    groups = single_sample_groups(train) if groups is None else groups
    _require_groups(groups, 2, "a validation split needs 2")
    num_val = min(max(1, round(val_fraction * len(train))), len(train) - 1)
    train_groups, val_groups = stratify(groups, presence or {}, (len(train) - num_val, num_val), seed)
    splits["train"], splits["val"] = _list_samples(train_groups), _list_samples(val_groups)
    in_groups = f" in {len(val_groups)} of {len(groups)} groups" if len(groups) < len(train) else ""
    note = (
        f"No validation split found: {len(splits['val'])} of the {len(train)} training images{in_groups}, drawn with "
        f"seed {seed}, are used for validation."
    )
    return splits, note


def make_folds(
    samples: Sequence[Sample],
    num_folds: int,
    seed: int,
    *,
    groups: Sequence[SampleGroup] | None = None,
    presence: ClassPresence | None = None,
) -> list[Splits]:
    """Return splits for cross-validation: each train or val sample validates in one fold and trains in the others.

    Test samples are the same in all folds. `groups` and `presence` are those of `make_splits`, for the training and
    validation samples together.
    """
    own = group_by_split(samples)
    pool = sorted(own["train"] + own["val"])
    groups = single_sample_groups(pool) if groups is None else groups
    require_valid_num_folds(num_folds)
    _require_groups(groups, num_folds, f"{num_folds} folds need {num_folds}")
    folds = stratify(groups, presence or {}, divide_evenly(len(pool), num_folds), seed)
    return [
        {
            "train": _list_samples([group for other in folds if other is not fold for group in other]),
            "val": _list_samples(fold),
            "test": own["test"],
        }
        for fold in folds
    ]


def require_valid_num_folds(num_folds: int) -> None:
    """Raise InvalidArgumentError for fewer than 2 folds."""
    if num_folds < 2:
        raise InvalidArgumentError(f"--folds is {num_folds}. Expected at least 2.")


def _require_groups(groups: Sequence[SampleGroup], count: int, requirement: str) -> None:
    if len(groups) >= count:
        return
    num_images = sum(len(group.samples) for group in groups)
    names = ", ".join(repr(group.name) for group in groups[:3])
    raise DataError(
        f"The {num_images} images form {format_count(len(groups), 'group')} that must stay together "
        f"({names}), but {requirement}. Group differently with --group-by, split "
        f"single images with --set data.split_by=image, or make fewer parts."
    )


def _list_samples(groups: Sequence[SampleGroup]) -> list[Sample]:
    return sorted(sample for group in groups for sample in group.samples)


def describe_split_groups(splits: Splits, groups: Mapping[Sample, str]) -> str | None:
    """Return a warning if a group is in several splits, which the dataset's own splits may cause."""
    found = defaultdict(set)
    for split, samples in splits.items():
        for sample in samples:
            if sample in groups:
                found[groups[sample]].add(split)
    divided = sorted(group for group, where in found.items() if len(where) > 1)
    if not divided:
        return None
    shown = ", ".join(f"{group!r} ({', '.join(s for s in SPLITS if s in found[group])})" for group in divided[:3])
    more = f" and {len(divided) - 3} more" if len(divided) > 3 else ""
    return (
        f"{len(divided)} of {len(found)} groups are in more than one of the dataset's own splits, so scores are too "
        f"high: {shown}{more}."
    )


def write_splits(path: Path, splits: Splits, groups: Mapping[Sample, str] | None = None) -> None:
    """Write the sample names of each split as YAML; the group of a sample is a comment in its line."""
    lines = []
    for split, samples in splits.items():
        if samples:
            lines.append(f"{split}:")
            lines += [_format_line(sample, (groups or {}).get(sample)) for sample in samples]
    write_atomically(path, "".join(f"{line}\n" for line in lines).encode())


def _format_line(sample: Sample, group: str | None) -> str:
    name = yaml.safe_dump([sample.name], allow_unicode=True, width=10**6).rstrip("\n")
    comment = "".join(c for c in " ".join((group or "").split()) if c.isprintable())
    return f"{name}  # {comment}" if comment else name


def read_splits(path: Path, samples: Sequence[Sample], *, update: bool = False) -> Splits:
    """Read the splits that `write_splits` wrote.

    Args:
        path: The file.
        samples: The samples of the dataset.
        update: Leave out names that the dataset no longer has, and add samples that are not listed to their own
            split, else to train: a sample that was trained on never becomes a validation sample.

    Raises:
        DataError: The file lists a name that the dataset does not have, or is damaged.
    """
    by_name = {sample.name: sample for sample in samples}
    splits: Splits = {name: [] for name in SPLITS}
    listed = read_yaml(path)
    if not isinstance(listed, dict) or not set(listed) <= set(SPLITS):
        raise DataError(f"{path} is damaged. Expected samples under {', '.join(SPLITS)}. Restore or remove it.")
    for split, names in listed.items():
        for name in names:
            if name in by_name:
                splits[split].append(by_name.pop(name))
            elif not update:
                raise DataError(
                    f"{path} lists {name!r}, which the dataset no longer contains. Restore the image and its mask, "
                    f"or start a new run."
                )
    for sample in by_name.values() if update else ():
        splits[sample.split or "train"].append(sample)
    return {split: sorted(kept) for split, kept in splits.items()} if update else splits


def stratify(
    groups: Sequence[SampleGroup], presence: ClassPresence, targets: Sequence[int], seed: int
) -> list[list[SampleGroup]]:
    """Distribute all groups to parts; the result does not depend on the order of `groups`.

    Iterative stratification (Sechidis, Tsoumakas and Vlahavas 2011, "On the stratification of multi-label data"): the
    class that occurs in the fewest groups is distributed first, each group to the part that still needs most of it,
    because common classes balance with what is left and rare ones do not. Two rules are added. Parts that lack a class
    come first. No part exceeds its target while another has room, so sizes are met for any distribution of the classes.

    Args:
        groups: At least as many groups as parts.
        presence: The classes of each sample.
        targets: The number of samples that each part should get.
        seed: Seed of the draw.

    Returns:
        The groups of each part, none empty. The size of a part differs from its target by fewer samples than the
        largest group has. The rarest class is in every part if enough groups contain it.
    """
    assert len(groups) >= len(targets) > 0
    rng = np.random.default_rng(seed)
    ordered = sorted(groups, key=lambda group: group.name)
    ordered = [ordered[i] for i in rng.permutation(len(ordered))]
    ordered.sort(key=lambda group: -len(group.samples))  # large ones first: small ones fill the gaps
    counts = _count_samples_by_class(ordered, presence)
    sizes = np.array([len(group.samples) for group in ordered])
    parts: list[list[SampleGroup]] = [[] for _ in targets]
    for group, part in zip(ordered, _Stratifier(counts, sizes, np.array(targets), rng).run(), strict=True):
        parts[part].append(group)
    return parts


def divide_evenly(total: int, num_parts: int) -> list[int]:
    """Divide a number into nearly equal parts.

    Example:
        >>> divide_evenly(7, 3)
        [3, 2, 2]
    """
    return [total // num_parts + (part < total % num_parts) for part in range(num_parts)]


def _count_samples_by_class(groups: Sequence[SampleGroup], presence: ClassPresence) -> npt.NDArray[np.int64]:
    """Count the samples of each group that contain each of the classes that occur: (G, K)."""
    present = [[presence.get(sample, frozenset()) for sample in group.samples] for group in groups]
    classes = sorted({index for in_group in present for in_sample in in_group for index in in_sample})
    counts = [[sum(c in in_sample for in_sample in in_group) for c in classes] for in_group in present]
    return np.array(counts).reshape(len(groups), len(classes))


class _Stratifier:
    """State of a distribution of G groups to P parts: what each part still needs."""

    def __init__(
        self,
        counts: npt.NDArray[np.int64],
        sizes: npt.NDArray[np.int64],
        targets: npt.NDArray[np.int64],
        rng: np.random.Generator,
    ) -> None:
        self.counts, self.sizes, self.rng = counts, sizes, rng
        self.part_of = np.full(len(sizes), -1)
        self.num_groups = np.zeros(len(targets), np.int64)
        """(P,) groups that each part has."""
        self.room = targets.astype(np.int64)
        """(P,) samples that each part still needs."""
        self.room_by_class = np.outer(targets / targets.sum(), counts.sum(0))
        """(P, K) samples of each class that each part still needs."""
        self.contains = np.zeros(self.room_by_class.shape, bool)
        """(P, K) whether a part contains a class."""

    def run(self) -> list[int]:
        """Return the part of each group."""
        while (left := np.flatnonzero(self.part_of < 0)).size:
            num_containing = (self.counts[left] > 0).sum(0)
            if not num_containing.any():
                self._place_all(left, None)
                break
            rarest = int(np.where(num_containing > 0, num_containing, len(self.sizes) + 1).argmin())
            self._place_all(left[self.counts[left, rarest] > 0], rarest)
        return [int(part) for part in self.part_of]

    def _place_all(self, groups: Iterable[int], rarest: int | None) -> None:
        for group in groups:
            part = self._choose_part(group, rarest)
            self.part_of[group] = part
            self.num_groups[part] += 1
            self.room[part] -= self.sizes[group]
            self.room_by_class[part] -= self.counts[group]
            self.contains[part] |= self.counts[group] > 0

    def _choose_part(self, group: int, rarest: int | None) -> int:
        missing = ~self.contains[:, self.counts[group] > 0]
        draw = self.rng.random(len(self.room))

        def compute_preference(part: int) -> tuple[float, ...]:
            of_rarest: tuple[float, ...] = ()
            if rarest is not None:
                of_rarest = (not self.contains[part, rarest], round(float(self.room_by_class[part, rarest]), 9))
            return (*of_rarest, int(missing[part].sum()), int(self.room[part]), float(draw[part]))

        return max(self._find_candidates(group), key=compute_preference)

    def _find_candidates(self, group: int) -> list[int]:
        """Return the parts that may take a group: none stays empty, none exceeds its target while another has room."""
        empty = np.flatnonzero(self.num_groups == 0)
        if len(empty) == len(self.sizes) - self.num_groups.sum():
            return [int(part) for part in empty]
        fitting = np.flatnonzero(self.room >= self.sizes[group])
        if not fitting.size:
            fitting = np.flatnonzero(self.room == self.room.max())
        return [int(part) for part in fitting]
