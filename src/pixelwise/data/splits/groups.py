"""Groups of samples that must be in one split: user groups, blocks of neighbors, and copies of one image."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from pixelwise.config import DataConfig
from pixelwise.data.dataset import Dataset
from pixelwise.data.sample import Sample
from pixelwise.data.splits.spatial_blocks import describe_scenes, find_position, find_positions, make_blocks
from pixelwise.data.splits.user_groups import find_user_groups
from pixelwise.errors import InvalidArgumentError

MIN_BLOCKS = 8
"""Fewer blocks cannot give the requested shares, so `split_by: auto` splits single images instead."""

BLOCKS_WANTED = 20
"""Number of blocks for a split in two; folds want at least `BLOCKS_PER_FOLD` each."""

BLOCKS_PER_FOLD = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class SampleGroup:
    """Samples that are all assigned to the same split."""

    name: str
    samples: tuple[Sample, ...]
    """Sorted, at least one."""


def single_sample_groups(samples: Iterable[Sample]) -> tuple[SampleGroup, ...]:
    """Return a group for each sample."""
    return tuple(SampleGroup(name=sample.name, samples=(sample,)) for sample in sorted(samples))


def find_sample_groups(
    dataset: Dataset, samples: Sequence[Sample], config: DataConfig, num_parts: int = 2
) -> tuple[tuple[SampleGroup, ...], list[str]]:
    """Find which of `samples` must stay together.

    Groups come from `data.group_by` if it is set, else from `data.split_by`. Copies of one image always stay
    together.

    Args:
        dataset: A scanned dataset.
        samples: The samples to split.
        config: The section `data` of a configuration.
        num_parts: The number of parts to split into: 2, or the number of folds.

    Returns:
        The groups, ordered by their first samples, and notes for the user.
    """
    samples = sorted(samples)
    group_names: dict[Sample, str] = {}
    notes: list[str] = []
    if config.group_by is not None:
        group_names = find_user_groups(samples, config.group_by, dataset.root)
    elif config.split_by != "image":
        group_names, notes = _find_blocks(samples, config.split_by == "block", num_parts)
    copies = find_copies(dataset, samples)
    if copies:
        notes.append(
            f"{sum(map(len, copies))} images are copies of {len(copies)} image(s), equal in all pixels. "
            f"Copies stay in one split."
        )
    return merge_groups(samples, group_names, copies), notes


def _find_blocks(samples: Sequence[Sample], is_required: bool, num_parts: int) -> tuple[dict[Sample, str], list[str]]:
    """Find blocks of neighboring tiles or frames by the names of the samples; return them and notes."""
    names = [sample.name.removeprefix(f"{sample.split}/") for sample in samples]
    positions = find_positions(names, accept_plain_numbers=is_required)
    if not positions:
        if is_required:
            raise _missing_positions_error(names)
        return {}, []
    blocks = make_blocks(positions, max(BLOCKS_WANTED, BLOCKS_PER_FOLD * num_parts))
    count, scenes = len(set(blocks)), describe_scenes(positions)
    if not is_required and count < max(MIN_BLOCKS, 2 * num_parts):
        note = (
            f"File names indicate {scenes}, too few for blocks: single images are split, so neighbors may be in "
            f"two splits. Keep neighbors together with --set data.split_by=block, or group by name with --group-by."
        )
        return {}, [note]
    note = f"File names indicate {scenes}: {count} blocks of neighbors are split instead of single images."
    if not is_required:
        note += " Split single images with --set data.split_by=image, or group by name with --group-by."
    return dict(zip(samples, blocks, strict=True)), [note]


def _missing_positions_error(names: Sequence[str]) -> InvalidArgumentError:
    without = [name for name in names if find_position(name, accept_plain_numbers=True) is None]
    reason = f"{without[0]!r} does not end in a number" if without else "some names number tiles and others frames"
    return InvalidArgumentError(
        f"data.split_by is 'block', but {reason}. Name tiles as scene_x512_y1024 or scene_3_17 and frames as "
        f"video_0031, or group by name with --group-by."
    )


def find_copies(dataset: Dataset, samples: Iterable[Sample]) -> list[list[Sample]]:
    """Find the scanned samples whose images are equal in all pixels, in lists of at least two.

    Constant images are left out: empty tiles are all equal, and would join all groups that contain one.
    """
    wanted, copies = set(samples), defaultdict(list)
    for stats in dataset.stats:
        if stats.image_fingerprint and not stats.is_constant and stats.sample in wanted:
            copies[stats.image_fingerprint].append(stats.sample)
    return [sorted(equal) for equal in copies.values() if len(equal) > 1]


def merge_groups(
    samples: Sequence[Sample], group_names: Mapping[Sample, str], copies: Iterable[Sequence[Sample]]
) -> tuple[SampleGroup, ...]:
    """Return the smallest groups that split neither a named group nor a list of copies (union-find).

    A group is named by the groups that it contains, else by its first sample.
    """
    parent = {sample: sample for sample in samples}

    def find_root(sample: Sample) -> Sample:
        while parent[sample] != sample:
            parent[sample] = sample = parent[parent[sample]]
        return sample

    members = defaultdict(list)
    for sample, name in group_names.items():
        members[name].append(sample)
    for linked in (*members.values(), *copies):
        for one, other in pairwise(linked):
            parent[find_root(one)] = find_root(other)
    merged = defaultdict(list)
    for sample in samples:
        merged[find_root(sample)].append(sample)
    return tuple(
        SampleGroup(name=" + ".join(sorted({group_names.get(s, group[0].name) for s in group})), samples=tuple(group))
        for group in sorted(map(sorted, merged.values()))
    )
