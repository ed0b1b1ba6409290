"""Distribute groups of samples to parts so that every part contains similar shares of the classes.

Iterative stratification (Sechidis, Tsoumakas and Vlahavas 2011, "On the stratification of
multi-label data"): the class that occurs in the fewest groups is distributed first, each group to the
part that still needs most of it, because common classes balance with what is left and rare ones do not.
Two rules are added. Parts that lack a class come first. No part exceeds its target while another has
room, so sizes are met for any distribution of the classes.
"""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from pixelwise.data.sample import Sample
from pixelwise.data.splits.groups import SampleGroup

ClassPresence = Mapping[Sample, frozenset[int]]
"""Class indices that occur in the mask of each sample."""


def stratify(
    groups: Sequence[SampleGroup], presence: ClassPresence, targets: Sequence[int], seed: int
) -> list[list[SampleGroup]]:
    """Distribute all groups to parts; the result does not depend on the order of `groups`.

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
