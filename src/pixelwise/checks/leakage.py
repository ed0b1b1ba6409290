"""Checks for related images in different splits: of one patient, of one video, or tiles of one raster."""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import pairwise

from pixelwise.checks.context import Check, CheckContext
from pixelwise.checks.findings import Finding, report_files
from pixelwise.data.sample import Sample, Split
from pixelwise.data.splits.groups import Position, find_position, find_user_groups

_LAST_NUMBER = re.compile(r"^(.*?)(\d+)(\D*)$")


def _check_user_groups(context: CheckContext) -> Iterator[Finding]:
    if context.group_by is None:
        return
    members: dict[str, list[Sample]] = defaultdict(list)
    dataset = context.dataset
    for sample, group in find_user_groups(dataset.samples, context.group_by, dataset.root).items():
        members[group].append(sample)
    splits = {group: sorted({str(s.split) for s in samples}) for group, samples in sorted(members.items())}
    divided = [group for group in splits if len(splits[group]) > 1]
    files = context.list_files(s.image_path for group in divided for s in members[group])
    items = [f"{group!r} in {' and '.join(splits[group])}" for group in divided]
    fix = "Move all images of a group into one split."
    yield from report_files("group_in_two_splits", files, "group", "in more than one split", fix, items=items)


def _check_sequences(context: CheckContext) -> Iterator[Finding]:
    """Find names that continue from one split to another; skipped where the user defines groups."""
    if context.group_by is not None:
        return
    samples = context.dataset.samples
    positions = {sample: find_position(_remove_split(sample)) for sample in samples}
    tiles = {sample: position for sample, position in positions.items() if position and position.kind == "tiles"}
    pairs = {*_find_neighboring_tiles(tiles), *_find_neighboring_frames([s for s in samples if s not in tiles])}
    files = context.list_files(s.image_path for pair in pairs for s in pair)
    items = [f"{a.name} next to {b.name}" for a, b in sorted(pairs)]
    problem = "of images with neighboring names in different splits"
    fix = (
        "If they are frames of one video or tiles of one raster, keep these in one split: scores on neighbors of "
        "training images are too high. If they are unrelated, define groups with --group-by."
    )
    yield from report_files("sequence_in_two_splits", files, "pair", problem, fix, items=items)


def _remove_split(sample: Sample) -> str:
    return sample.name.removeprefix(f"{sample.split}/")


def _find_neighboring_tiles(tiles: Mapping[Sample, Position]) -> Iterator[tuple[Sample, Sample]]:
    """Yield tiles of different splits with a common side: one step apart in their row or in their column."""
    rasters: dict[str, list[tuple[tuple[int, int], Sample]]] = defaultdict(list)
    for sample, tile in tiles.items():
        rasters[tile.scene].append(((tile.row, tile.column), sample))
    for members in rasters.values():
        by_cell = dict(members)
        if len(by_cell) < len(members):
            continue  # a position that occurs twice means that there are several rasters
        row_step, column_step = (_find_smallest_step(numbers) for numbers in zip(*by_cell, strict=True))
        for (row, column), sample in by_cell.items():
            for neighbor in ((row + row_step, column), (row, column + column_step)):
                if neighbor in by_cell and by_cell[neighbor].split != sample.split:
                    yield sample, by_cell[neighbor]


def _find_smallest_step(numbers: Iterable[int]) -> int:
    """Return 1 where names count tiles, and the tile size where they give pixels."""
    return min((b - a for a, b in pairwise(sorted(set(numbers)))), default=1)


def _find_neighboring_frames(samples: Iterable[Sample]) -> Iterator[tuple[Sample, Sample]]:
    """Yield consecutive frames of different splits, by the last number of their names.

    A number that occurs twice means that each split counts separately; such clips are skipped.
    """
    clips: dict[tuple[str, str], list[tuple[int, Sample]]] = defaultdict(list)
    for sample in samples:
        if match := _LAST_NUMBER.match(_remove_split(sample)):
            clips[match[1], match[3]].append((int(match[2]), sample))
    for frames in clips.values():
        ordered = sorted(frames)
        if len({number for number, _ in ordered}) < len(ordered):
            continue
        for (number, sample), (next_number, other) in pairwise(ordered):
            if sample.split != other.split:
                step = max(_find_usual_step(ordered, sample.split), _find_usual_step(ordered, other.split))
                if next_number - number <= 1.5 * step:
                    yield sample, other


def _find_usual_step(ordered: Sequence[tuple[int, Sample]], split: Split | None) -> int:
    """Return the most frequent step from one frame of a split to the next; 1 where no step is frequent.

    Frame numbers grow by nearly the same step; those of unrelated photos do not.
    """
    numbers = [number for number, sample in ordered if sample.split == split]
    steps = Counter(following - number for number, following in pairwise(numbers))
    step, times = max(steps.items(), key=lambda item: item[1], default=(1, 1))
    return step if times > 1 and 2 * times > steps.total() else 1


CHECKS: tuple[Check, ...] = (_check_user_groups, _check_sequences)
