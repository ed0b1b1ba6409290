"""Checks for images that occur several times: exactly, or with differences in compression, size or noise."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from pixelwise.checks.context import Check, CheckContext
from pixelwise.checks.findings import Finding, format_count, format_names, make_finding
from pixelwise.data.io.images import Array
from pixelwise.data.sample import Sample
from pixelwise.data.sample_stats import SampleStats

MIN_CORRELATION = 0.9995
"""Correlation of two thumbnails from which images count as near duplicates. On 40 images of CamVid, copies saved as
JPEG of quality 50, at half the size, darkened by a fifth or with noise of std 8 have at least 0.9999. Of its 701
video frames, most have a closest other one between 0.86 and 0.98; only 8, of a standing car, exceed this."""
_MAX_DISTANCE = (2 * (1 - MIN_CORRELATION)) ** 0.5 + 1e-3
"""Distance of two unit vectors with that correlation, plus rounding."""
_CHUNK_ROWS = 1024
"""Rows of the correlation matrix that are computed at once."""

Copies = list[SampleStats]

_LEAKAGE_FIX = "Keep them in one split: scores on images that were trained on are too high."


def _check_exact_duplicates(context: CheckContext) -> Iterator[Finding]:
    groups = [group for group in _group_by_fingerprint(context) if len(group) > 1]
    if contradicting := [g for g in groups if _has_different_masks(g)]:
        images, masks = _list_images(context, contradicting), context.list_masks(s for g in contradicting for s in g)
        message = (
            f"{format_count(len(contradicting), 'image')} several times with different masks: "
            f"{_format_copies(context, contradicting)}."
        )
        fix = "Keep the copy with the correct mask and remove the others."
        yield make_finding("contradicting_masks", sorted([*images, *masks]), message, fix)
    if within := [g for g in groups if len(_find_splits(g)) == 1 and not _has_different_masks(g)]:
        message = f"{format_count(len(within), 'image')} several times in one split: {_format_copies(context, within)}."
        fix = "Keep one copy of each: copies have more weight in training, and may get into different splits."
        yield make_finding("duplicates", _list_images(context, within), message, fix)
    if across := [g for g in groups if len(_find_splits(g)) > 1]:
        message = f"{format_count(len(across), 'image')} in more than one split: {_format_copies(context, across)}."
        yield make_finding("duplicates_across_splits", _list_images(context, across), message, _LEAKAGE_FIX)


def _has_different_masks(group: Copies) -> bool:
    return len({s.mask_fingerprint for s in group if s.value_counts}) > 1


def _check_near_duplicates(context: CheckContext) -> Iterator[Finding]:
    unique = [group[0] for group in _group_by_fingerprint(context)]
    pairs = [[a, b] for a, b in find_similar_pairs(unique)]
    if within := _merge_pairs(pair for pair in pairs if len(_find_splits(pair)) == 1):
        message = (
            f"{format_count(len(within), 'group')} of nearly identical images in one split: "
            f"{_format_copies(context, within)}."
        )
        fix = "Keep one image of each group: copies, and frames of a standing camera, add no information."
        yield make_finding("near_duplicates", _list_images(context, within), message, fix)
    if across := [pair for pair in pairs if len(_find_splits(pair)) > 1]:
        message = (
            f"{format_count(len(across), 'pair')} of nearly identical images in different splits: "
            f"{_format_copies(context, across)}."
        )
        yield make_finding("near_duplicates_across_splits", _list_images(context, across), message, _LEAKAGE_FIX)


def _group_by_fingerprint(context: CheckContext) -> list[Copies]:
    """Group images with equal pixels. Constant images are left out: they are equal and have their own finding."""
    groups: dict[bytes, Copies] = defaultdict(list)
    for s in context.decoded_images:
        if not s.is_constant:
            groups[s.image_fingerprint].append(s)
    return list(groups.values())


def find_similar_pairs(stats: Sequence[SampleStats]) -> Iterator[tuple[SampleStats, SampleStats]]:
    """Yield the pairs of images whose thumbnails correlate by at least `MIN_CORRELATION`.

    Such thumbnails, as unit vectors, are close to each other, and so are their projections on any direction. After
    sorting by a projection along which they vary strongly, each is compared with few others.
    """
    if not stats:
        return
    thumbnails = np.stack([s.thumbnail for s in stats]).astype(np.float32)
    projections = thumbnails @ _find_main_direction(thumbnails)
    order = np.argsort(projections, kind="stable")
    thumbnails, projections = thumbnails[order], projections[order]
    for start in range(0, len(order), _CHUNK_ROWS):
        rows = thumbnails[start : start + _CHUNK_ROWS]
        end = np.searchsorted(projections, projections[start + len(rows) - 1] + _MAX_DISTANCE, side="right")
        correlations: Array = rows @ thumbnails[start:end].T
        for first, second in np.argwhere(np.triu(correlations, 1) >= MIN_CORRELATION).tolist():
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


def _list_images(context: CheckContext, groups: Iterable[Copies]) -> list[str]:
    return context.list_images(s for group in groups for s in group)


def _format_copies(context: CheckContext, groups: Sequence[Copies]) -> str:
    texts = []
    for group in groups:
        names = context.list_images(group)
        texts.append(" = ".join([*names[:3], *[f"{len(names) - 3} more"] * (len(names) > 3)]))
    return format_names(texts)


CHECKS: tuple[Check, ...] = (_check_exact_duplicates, _check_near_duplicates)
