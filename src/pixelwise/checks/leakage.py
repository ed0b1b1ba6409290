"""What belongs together and lies in two splits: images of a patient, frames of a video, tiles of a raster."""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import pairwise

from pixelwise.checks.findings import Case, Finding, Look, count, finding, some
from pixelwise.data.sample import Sample, Split
from pixelwise.data.splits.spatial_blocks import Position, find_position
from pixelwise.data.splits.user_groups import find_groups

_LAST_NUMBER = re.compile(r"^(.*?)(\d+)(\D*)$")


def _named_groups(case: Case) -> Iterator[Finding]:
    if case.group_by is None:
        return
    members: dict[str, list[Sample]] = defaultdict(list)
    dataset = case.surveyed.dataset
    for sample, group in find_groups(dataset.samples, case.group_by, dataset.root).items():
        members[group].append(sample)
    apart = {group: samples for group, samples in members.items() if len({s.split for s in samples}) > 1}
    if files := case.names(s.image_path for samples in apart.values() for s in samples):
        shown = [f"{group!r} in {' and '.join(_split_names(samples))}" for group, samples in sorted(apart.items())]
        message = f"{count(len(apart), 'group')} in more than one split: {some(shown)}."
        yield finding("group_in_two_splits", files, message, "Move the images of a group into one split.")


def _split_names(samples: Sequence[Sample]) -> list[str]:
    return sorted({str(s.split) for s in samples})


def _sequences(case: Case) -> Iterator[Finding]:
    """Names that count on from one split to another. With a pattern, the user has said what belongs together."""
    if case.group_by is not None:
        return
    samples = case.surveyed.dataset.samples
    found = {sample: find_position(_without_split(sample)) for sample in samples}
    tiles = {sample: tile for sample, tile in found.items() if tile and tile.kind == "tiles"}
    pairs = {*_next_tiles(tiles), *_next_frames([s for s in samples if s not in tiles])}
    if files := case.names(s.image_path for pair in pairs for s in pair):
        shown = [f"{a.name} next to {b.name}" for a, b in sorted(pairs)]
        what = f"{count(len(pairs), 'pair')} of images next to each other by their names"
        message = f"{what}, in two splits: {some(shown)}."
        fix = (
            "If they are frames of one video or tiles of one raster, keep these together: scores on neighbors of "
            "what was trained on are too good. --group-by says what belongs together."
        )
        yield finding("sequence_in_two_splits", files, message, fix)


def _without_split(sample: Sample) -> str:
    return sample.name.removeprefix(f"{sample.split}/")


def _next_tiles(tiles: Mapping[Sample, Position]) -> Iterator[tuple[Sample, Sample]]:
    """Tiles of different splits with a side in common: one step apart in their row or in their column."""
    rasters: dict[str, list[tuple[tuple[int, int], Sample]]] = defaultdict(list)
    for sample, tile in tiles.items():
        rasters[tile.scene].append(((tile.row, tile.column), sample))
    for members in rasters.values():
        placed = dict(members)
        if len(placed) < len(members):
            continue  # a place that occurs twice tells of several rasters
        rows, columns = (_smallest_step(numbers) for numbers in zip(*placed, strict=True))
        for (row, column), sample in placed.items():
            for place in ((row + rows, column), (row, column + columns)):
                if place in placed and placed[place].split != sample.split:
                    yield sample, placed[place]


def _smallest_step(numbers: Iterable[int]) -> int:
    """1 in a count of tiles, their size where names tell pixels."""
    return min((b - a for a, b in pairwise(sorted(set(numbers)))), default=1)


def _next_frames(samples: Iterable[Sample]) -> Iterator[tuple[Sample, Sample]]:
    """Frames of different splits that follow each other: the last number of their names counts them."""
    clips: dict[tuple[str, str], list[tuple[int, Sample]]] = defaultdict(list)
    for sample in samples:
        if match := _LAST_NUMBER.match(_without_split(sample)):
            clips[match[1], match[3]].append((int(match[2]), sample))
    for frames in clips.values():
        yield from _neighbors(frames)


def _neighbors(members: list[tuple[int, Sample]]) -> Iterator[tuple[Sample, Sample]]:
    """Members of different splits whose numbers follow each other.

    A number that occurs twice tells that each split counts for itself: then numbers mean nothing.
    """
    ordered = sorted(members)
    if len({number for number, _ in ordered}) < len(ordered):
        return
    for (number, sample), (following, other) in pairwise(ordered):
        if sample.split != other.split:
            steps = max(_usual_step(ordered, sample.split), _usual_step(ordered, other.split))
            if following - number <= 1.5 * steps:
                yield sample, other


def _usual_step(ordered: Sequence[tuple[int, Sample]], split: Split | None) -> int:
    """From one frame of a split to its next; 1 where no step is usual.

    Numbers of frames grow by the same step, give or take a few; those of unrelated photos do not.
    """
    numbers = [number for number, sample in ordered if sample.split == split]
    steps = Counter(following - number for number, following in pairwise(numbers))
    step, times = max(steps.items(), key=lambda item: item[1], default=(1, 1))
    return step if times > 1 and 2 * times > steps.total() else 1


LOOKS: tuple[Look, ...] = (_named_groups, _sequences)
