"""What must stay together when a dataset is split: groups, blocks of neighbors, copies of one picture."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from pixelwise.config import DataConfig
from pixelwise.data.sample import Sample
from pixelwise.data.scan import Survey
from pixelwise.data.splits.spatial_blocks import describe_scenes, find_position, find_positions, make_blocks
from pixelwise.data.splits.user_groups import find_groups
from pixelwise.errors import InvalidArgumentError

MIN_BLOCKS = 8
"""Fewer blocks cannot hold the shares, so `auto` leaves a smaller set to single images."""

BLOCKS_WANTED = 20
"""For a split in two; folds want at least `BLOCKS_PER_FOLD` each."""

BLOCKS_PER_FOLD = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Unit:
    """Samples that are all in one split."""

    name: str
    samples: tuple[Sample, ...]
    """Sorted, at least one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Units:
    """A dataset in units, and what was decided."""

    units: tuple[Unit, ...]
    """In the order of their first samples; every sample is in exactly one."""
    notes: tuple[str, ...] = ()
    """For the user: why these, and how to choose others."""

    @property
    def names(self) -> dict[Sample, str]:
        """Unit of every sample that shares one."""
        return {sample: unit.name for unit in self.units if len(unit.samples) > 1 for sample in unit.samples}


def single_units(samples: Iterable[Sample]) -> tuple[Unit, ...]:
    """Every image for itself."""
    return tuple(Unit(name=sample.name, samples=(sample,)) for sample in sorted(samples))


def find_units(surveyed: Survey, samples: Sequence[Sample], config: DataConfig, num_parts: int = 2) -> Units:
    """What of `samples` must stay together, as the config says.

    By `data.group_by` where it is given, else by `data.split_by`; copies of one picture in any case.
    `num_parts` is what will be made of them: two splits, or so many folds.
    """
    samples = sorted(samples)
    groups: dict[Sample, str] = {}
    notes: list[str] = []
    if config.group_by is not None:
        groups = find_groups(samples, config.group_by, surveyed.dataset.root)
    elif config.split_by != "image":
        groups, notes = _find_blocks(samples, config.split_by == "block", num_parts)
    copies = find_copies(surveyed, samples)
    if copies:
        notes.append(
            f"{sum(map(len, copies))} images are {len(copies)} picture(s) several times over, pixel for pixel; "
            f"copies stay in one split."
        )
    return Units(units=join(samples, groups, copies), notes=tuple(notes))


def _find_blocks(samples: Sequence[Sample], asked: bool, num_parts: int) -> tuple[dict[Sample, str], list[str]]:
    """Blocks of neighboring tiles or frames where the names tell of them."""
    names = [sample.name.removeprefix(f"{sample.split}/") for sample in samples]
    positions = find_positions(names, certain=asked)
    if not positions:
        if asked:
            raise _no_positions(names)
        return {}, []
    blocks = make_blocks(positions, max(BLOCKS_WANTED, BLOCKS_PER_FOLD * num_parts))
    count, what = len(set(blocks)), describe_scenes(positions)
    if not asked and count < max(MIN_BLOCKS, 2 * num_parts):
        note = (
            f"the names are those of {what}, too few for blocks, so single images are split and neighbors may be "
            f"in two splits; --set data.split_by=block keeps neighbors together, --group-by decides by the name."
        )
        return {}, [note]
    note = f"the names are those of {what}: {count} blocks of neighbors are split, not single images"
    note += "." if asked else "; --set data.split_by=image splits those, --group-by decides by the name."
    return dict(zip(samples, blocks, strict=True)), [note]


def _no_positions(names: Sequence[str]) -> InvalidArgumentError:
    without = [name for name in names if find_position(name, certain=True) is None]
    shown = f"{without[0]!r} ends in no number" if without else "some names count tiles and others frames"
    return InvalidArgumentError(
        f"data.split_by is 'block', but {shown}; name tiles as scene_x512_y1024 or scene_3_17 and frames as "
        f"video_0031, or group by the name with --group-by."
    )


def find_copies(surveyed: Survey, samples: Iterable[Sample]) -> list[list[Sample]]:
    """Sets of images with the same pixels, at least two each.

    Images of one value are left out: empty tiles are all alike, teach nothing, and would tie every
    group that holds one to every other.
    """
    wanted, alike = set(samples), defaultdict(list)
    for reading in surveyed.readings:
        fingerprint = reading.image_traits.fingerprint
        if fingerprint and not reading.constant and reading.sample in wanted:
            alike[fingerprint].append(reading.sample)
    return [sorted(found) for found in alike.values() if len(found) > 1]


def join(
    samples: Sequence[Sample], groups: Mapping[Sample, str], copies: Iterable[Sequence[Sample]]
) -> tuple[Unit, ...]:
    """The smallest units that tear apart no group and no set of copies; named by their groups, else by an image."""
    first = {sample: sample for sample in samples}

    def root(sample: Sample) -> Sample:
        while first[sample] != sample:
            first[sample] = sample = first[first[sample]]
        return sample

    members = defaultdict(list)
    for sample, group in groups.items():
        members[group].append(sample)
    for together in (*members.values(), *copies):
        for one, other in pairwise(together):
            first[root(one)] = root(other)
    units = defaultdict(list)
    for sample in samples:
        units[root(sample)].append(sample)
    return tuple(
        Unit(name=" + ".join(sorted({groups.get(sample, found[0].name) for sample in found})), samples=tuple(found))
        for found in sorted(map(sorted, units.values()))
    )
