"""Dealing units out to parts so that every part shows the classes alike.

Iterative stratification (Sechidis, Tsoumakas and Vlahavas 2011, "On the stratification of
multi-label data"): the class that fewest units show is dealt first, each unit to the part that still
lacks most of it, because a common class finds its balance in what is left while a rare one does not.
Two things are added: parts that lack a class altogether come first, and no part takes more than its
share while another has room, so that sizes hold whatever the classes are.
"""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from pixelwise.data.sample import Sample
from pixelwise.data.splits.groups import Unit

Presence = Mapping[Sample, frozenset[int]]
"""The classes that an image shows."""


def stratify(units: Sequence[Unit], presence: Presence, targets: Sequence[int], seed: int) -> list[list[Unit]]:
    """Units for each part: disjoint, all of them, none empty; the same whatever the order of `units`.

    `targets` are the images that each part should get. A part differs from its target by fewer
    images than the largest unit has, so not at all where units are single images. The class that
    fewest units show is in every part, if as many units show it as there are equal parts. Needs as
    many units as parts.
    """
    assert len(units) >= len(targets) > 0
    rng = np.random.default_rng(seed)
    ordered = sorted(units, key=lambda unit: unit.name)
    ordered = [ordered[i] for i in rng.permutation(len(ordered))]
    ordered.sort(key=lambda unit: -len(unit.samples))  # large ones first: small ones fill the gaps
    counts = _images_by_class(ordered, presence)
    dealer = _Dealer(counts, np.array([len(unit.samples) for unit in ordered]), np.array(targets), rng)
    parts: list[list[Unit]] = [[] for _ in targets]
    for unit, part in zip(ordered, dealer.deal(), strict=True):
        parts[part].append(unit)
    return parts


def even_targets(total: int, num_parts: int) -> list[int]:
    """7 in 3 parts → 3, 2, 2."""
    return [total // num_parts + (part < total % num_parts) for part in range(num_parts)]


def _images_by_class(units: Sequence[Unit], presence: Presence) -> npt.NDArray[np.int64]:
    """(U, K) images of each unit that show each class that occurs."""
    shown = [[presence.get(sample, frozenset()) for sample in unit.samples] for unit in units]
    classes = sorted({index for of_unit in shown for classes in of_unit for index in classes})
    return np.array([[sum(c in found for found in of_unit) for c in classes] for of_unit in shown]).reshape(
        len(units), len(classes)
    )


class _Dealer:
    """The state of a deal: what each part still wants."""

    def __init__(
        self,
        counts: npt.NDArray[np.int64],
        sizes: npt.NDArray[np.int64],
        targets: npt.NDArray[np.int64],
        rng: np.random.Generator,
    ) -> None:
        self.counts, self.sizes, self.rng = counts, sizes, rng
        self.part_of = np.full(len(sizes), -1)
        self.held = np.zeros(len(targets), np.int64)
        """(P,) units that each part has."""
        self.wanted = targets.astype(np.int64)
        """(P,) images that each part has still room for."""
        self.wanted_by_class = np.outer(targets / targets.sum(), counts.sum(0))
        """(P, K) images of each class that each part should still get."""
        self.shows = np.zeros(self.wanted_by_class.shape, bool)
        """(P, K) whether a part shows a class."""

    def deal(self) -> list[int]:
        """The part of each unit."""
        while (left := np.flatnonzero(self.part_of < 0)).size:
            shown_by = (self.counts[left] > 0).sum(0)
            if not shown_by.any():
                self._place_all(left, None)
                break
            rarest = int(np.where(shown_by > 0, shown_by, len(self.sizes) + 1).argmin())
            self._place_all(left[self.counts[left, rarest] > 0], rarest)
        return [int(part) for part in self.part_of]

    def _place_all(self, units: Iterable[int], rarest: int | None) -> None:
        for unit in units:
            part = self._choose(unit, rarest)
            self.part_of[unit] = part
            self.held[part] += 1
            self.wanted[part] -= self.sizes[unit]
            self.wanted_by_class[part] -= self.counts[unit]
            self.shows[part] |= self.counts[unit] > 0

    def _choose(self, unit: int, rarest: int | None) -> int:
        missing = ~self.shows[:, self.counts[unit] > 0]
        draw = self.rng.random(len(self.wanted))

        def preference(part: int) -> tuple[float, ...]:
            of_rarest: tuple[float, ...] = ()
            if rarest is not None:
                lack = not self.shows[part, rarest]
                of_rarest = (lack, round(float(self.wanted_by_class[part, rarest]), 9))
            return (*of_rarest, int(missing[part].sum()), int(self.wanted[part]), float(draw[part]))

        return max(self._open_to(unit), key=preference)

    def _open_to(self, unit: int) -> list[int]:
        """Parts that may take a unit: none is left empty, and none overfilled while another has room."""
        empty = np.flatnonzero(self.held == 0)
        if len(empty) == len(self.sizes) - self.held.sum():
            return [int(part) for part in empty]
        fitting = np.flatnonzero(self.wanted >= self.sizes[unit])
        if not fitting.size:
            fitting = np.flatnonzero(self.wanted == self.wanted.max())
        return [int(part) for part in fitting]
