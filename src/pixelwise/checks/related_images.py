"""Checks for related images: copies of one image, and images of one patient, video or raster in different splits.

Copies may be exact or differ in compression, size or noise.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain, pairwise

import numpy as np

from pixelwise.checks.context import Check, CheckContext
from pixelwise.checks.findings import Finding, report_files
from pixelwise.data.io.images import Array
from pixelwise.data.sample import Sample, Split
from pixelwise.data.sample_stats import SampleStats
from pixelwise.data.splits.groups import Position, find_position, find_user_groups

MIN_CORRELATION = 0.99
"""Correlation of two thumbnails from which images count as near duplicates. Copies of drawn scenes, of CamVid and of
ISBI that are compressed (JPEG of quality 30), reduced to a third, darkened by a fifth or with noise of std 8 have more;
different drawn scenes and slices of ISBI have at most 0.86."""
MIN_VIDEO_CORRELATION = 0.9995
"""Required instead in sets where many images have a near duplicate, as frames of videos do. Of CamVid's 701 frames,
8 of a standing car exceed it."""
_MAX_DUPLICATE_SHARE = 0.05
"""If more of the images have a near duplicate, they are taken for frames of videos."""
_CHUNK_ROWS = 1024
"""Rows of the correlation matrix that are computed at once."""

Copies = list[SampleStats]

_LAST_NUMBER = re.compile(r"^(.*?)(\d+)(\D*)$")
_LEAKAGE_FIX = "Keep them in one split: scores on images that were trained on are too high."


def _check_exact_duplicates(context: CheckContext) -> Iterator[Finding]:
    groups = [group for group in _group_by_fingerprint(context) if len(group) > 1]
    contradicting = [g for g in groups if _has_different_masks(g)]
    masks = context.list_masks(s for group in contradicting for s in group)
    problem, fix = "several times with different masks", "Keep the copy with the correct mask and remove the others."
    yield from _report_groups(context, "contradicting_masks", contradicting, "image", problem, fix, masks)
    within = [g for g in groups if len(_find_splits(g)) == 1 and not _has_different_masks(g)]
    fix = "Keep one copy of each: copies have more weight in training, and may get into different splits."
    yield from _report_groups(context, "duplicates", within, "image", "several times in one split", fix)
    across, problem = [g for g in groups if len(_find_splits(g)) > 1], "in more than one split"
    yield from _report_groups(context, "duplicates_across_splits", across, "image", problem, _LEAKAGE_FIX)


def _has_different_masks(group: Copies) -> bool:
    return len({s.mask_fingerprint for s in group if s.value_counts}) > 1


def _check_near_duplicates(context: CheckContext) -> Iterator[Finding]:
    unique = [group[0] for group in _group_by_fingerprint(context)]
    pairs = [[a, b] for a, b in find_similar_pairs(unique, MIN_CORRELATION)]
    if len({s.sample for pair in pairs for s in pair}) > max(2, _MAX_DUPLICATE_SHARE * len(unique)):
        pairs = [[a, b] for a, b in find_similar_pairs(unique, MIN_VIDEO_CORRELATION)]
    within = _merge_pairs(pair for pair in pairs if len(_find_splits(pair)) == 1)
    problem = "of nearly identical images in one split"
    fix = "Keep one image of each group: copies, and frames of a standing camera, add no information."
    yield from _report_groups(context, "near_duplicates", within, "group", problem, fix)
    across, problem = [p for p in pairs if len(_find_splits(p)) > 1], "of nearly identical images in different splits"
    yield from _report_groups(context, "near_duplicates_across_splits", across, "pair", problem, _LEAKAGE_FIX)


def _report_groups(
    context: CheckContext,
    code: str,
    groups: Sequence[Copies],
    noun: str,
    problem: str,
    fix: str,
    masks: Sequence[str] = (),
) -> Iterator[Finding]:
    """Report groups of images as `a.png = b.png`."""
    names = [context.list_images(group) for group in groups]
    items = [" = ".join([*n[:3], *[f"{len(n) - 3} more"] * (len(n) > 3)]) for n in names]
    files = sorted({*chain(*names), *masks})
    yield from report_files(code, files, noun, problem, fix, items=items)


def _group_by_fingerprint(context: CheckContext) -> list[Copies]:
    """Group images with equal pixels. Constant images are left out: they are equal and have their own finding."""
    groups: dict[bytes, Copies] = defaultdict(list)
    for s in context.decoded_images:
        if not s.is_constant:
            groups[s.image_fingerprint].append(s)
    return list(groups.values())


def find_similar_pairs(
    stats: Sequence[SampleStats], min_correlation: float
) -> Iterator[tuple[SampleStats, SampleStats]]:
    """Yield the pairs of images whose thumbnails correlate by at least `min_correlation`.

    Such thumbnails, as unit vectors, are close to each other, and so are their projections on any direction. After
    sorting by a projection along which they vary strongly, each is compared with few others.
    """
    if not stats:
        return
    max_distance = (2 * (1 - min_correlation)) ** 0.5 + 1e-3  # of two unit vectors, plus rounding
    thumbnails = np.stack([s.thumbnail for s in stats]).astype(np.float32)
    projections = thumbnails @ _find_main_direction(thumbnails)
    order = np.argsort(projections, kind="stable")
    thumbnails, projections = thumbnails[order], projections[order]
    for start in range(0, len(order), _CHUNK_ROWS):
        rows = thumbnails[start : start + _CHUNK_ROWS]
        end = np.searchsorted(projections, projections[start + len(rows) - 1] + max_distance, side="right")
        correlations: Array = rows @ thumbnails[start:end].T
        for first, second in np.argwhere(np.triu(correlations, 1) >= min_correlation).tolist():
            low, high = sorted((order[start + first], order[start + second]))
            yield stats[low], stats[high]


def _find_main_direction(vectors: Array) -> Array:
    """Approximate the first principal direction of (N, D) vectors by four power iterations: (D,) with norm 1."""
    direction: Array = vectors[0]
    for _ in range(4):
        direction = vectors.T @ (vectors @ direction)
        direction = direction / max(float(np.linalg.norm(direction)), 1e-9)
    return direction


def _merge_pairs(pairs: Iterable[Copies]) -> list[Copies]:
    """Merge pairs that share a sample."""
    group_of: dict[Sample, Copies] = {}
    for first, second in pairs:
        group, other = (group_of.setdefault(s.sample, [s]) for s in (first, second))
        if group is not other:
            group += other
            group_of.update((s.sample, group) for s in other)
    return list({id(group): group for group in group_of.values()}.values())


def _find_splits(group: Copies) -> set[str | None]:
    """Return the dataset's own splits of the samples; splits that are made later keep copies together."""
    return {s.sample.split for s in group}


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


CHECKS: tuple[Check, ...] = (_check_exact_duplicates, _check_near_duplicates, _check_user_groups, _check_sequences)
