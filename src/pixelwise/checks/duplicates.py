"""Images that occur twice: exactly, or but for compression, size or noise."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from pixelwise.checks.findings import Case, Finding, Look, count, finding, some
from pixelwise.data.io.images import Array
from pixelwise.data.sample import Sample
from pixelwise.data.scan import Reading

NEAR = 0.9995
"""Correlation of two thumbnails from which images count as copies. On 40 images of CamVid, copies saved as JPEG of
quality 50, at half the size, darkened by a fifth or with noise of std 8 have 0.9999 and more. Of its 701
video frames, most have a closest other one between 0.86 and 0.98; only 8, of cars that stand still, exceed this."""
_REACH = (2 * (1 - NEAR)) ** 0.5 + 1e-3
"""Distance of two vectors of length 1 that correlate so, and what rounding adds."""
_BLOCK = 1024
"""Rows of the correlations that are held at once."""

Group = list[Reading]


def _exact(case: Case) -> Iterator[Finding]:
    groups = [group for group in _by_fingerprint(case) if len(group) > 1]
    if contradicting := [g for g in groups if _is_contradiction(g)]:
        files = sorted([*_images(case, contradicting), *case.mask_names(r for g in contradicting for r in g)])
        message = (
            f"{count(len(contradicting), 'image')} more than once, with different masks: {_shown(case, contradicting)}."
        )
        yield finding("contradicting_masks", files, message, "Keep the pair whose mask is right.")
    if within := [g for g in groups if len(_splits(g)) == 1 and not _is_contradiction(g)]:
        message = f"{count(len(within), 'image')} more than once: {_shown(case, within)}."
        yield finding(
            "duplicates",
            _images(case, within),
            message,
            "Keep one of each: it counts twice, and may come into two splits.",
        )
    if across := [g for g in groups if len(_splits(g)) > 1]:
        message = f"{count(len(across), 'image')} in more than one split: {_shown(case, across)}."
        fix = "Keep each in one split: scores on what was trained on are too good."
        yield finding("duplicates_across_splits", _images(case, across), message, fix)


def _is_contradiction(group: Group) -> bool:
    return len({r.mask_traits.fingerprint for r in group if r.values}) > 1


def _near(case: Case) -> Iterator[Finding]:
    unique = [group[0] for group in _by_fingerprint(case)]
    pairs = list(_alike(unique))
    across = [[a, b] for a, b in pairs if len(_splits([a, b])) > 1]
    within = _joined([a, b] for a, b in pairs if len(_splits([a, b])) == 1)
    if within:
        message = f"{count(len(within), 'group')} of nearly the same image in a split: {_shown(case, within)}."
        fix = "Keep one of each: copies, and frames of a camera that stands still, teach nothing new."
        yield finding("near_duplicates", _images(case, within), message, fix)
    if across:
        message = f"{count(len(across), 'pair')} of nearly the same image in two splits: {_shown(case, across)}."
        fix = "Keep both in one split: scores on what was trained on are too good."
        yield finding("near_duplicates_across_splits", _images(case, across), message, fix)


def _by_fingerprint(case: Case) -> list[Group]:
    """Readings of equal pixels together. Images of a single value are all alike, and told elsewhere."""
    groups: dict[bytes, Group] = defaultdict(list)
    for r in case.images:
        if not r.constant:
            groups[r.image_traits.fingerprint].append(r)
    return list(groups.values())


def _alike(readings: Sequence[Reading]) -> Iterator[tuple[Reading, Reading]]:
    """Pairs whose thumbnails correlate.

    Such thumbnails, vectors of length 1, are close to each other, and so are their projections on any
    direction. Ordered by one along which they differ much, each has to be compared with few.
    """
    if not readings:
        return
    thumbnails = np.stack([r.image_traits.thumbnail for r in readings]).astype(np.float32)
    places = thumbnails @ _main_direction(thumbnails)
    order = np.argsort(places, kind="stable")
    thumbnails, places = thumbnails[order], places[order]
    for start in range(0, len(order), _BLOCK):
        rows = thumbnails[start : start + _BLOCK]
        end = np.searchsorted(places, places[start + len(rows) - 1] + _REACH, side="right")
        correlations: Array = rows @ thumbnails[start:end].T
        for first, second in np.argwhere(np.triu(correlations, 1) >= NEAR).tolist():
            low, high = sorted((order[start + first], order[start + second]))
            yield readings[low], readings[high]


def _main_direction(vectors: Array) -> Array:
    """(N, D) → (D,) of length 1: nearly the first principal one, by a few power iterations."""
    direction: Array = vectors[0]
    for _ in range(4):
        direction = vectors.T @ (vectors @ direction)
        direction = direction / max(float(np.linalg.norm(direction)), 1e-9)
    return direction


def _joined(pairs: Iterable[Group]) -> list[Group]:
    """Pairs that share a reading in one group."""
    group_of: dict[Sample, Group] = {}
    for first, second in pairs:
        group, other = (group_of.setdefault(r.sample, [r]) for r in (first, second))
        if group is not other:
            group += other
            group_of.update((r.sample, group) for r in other)
    return list({id(group): group for group in group_of.values()}.values())


def _splits(group: Group) -> set[str | None]:
    """The dataset's own; where it has none, the splits are yet to be made."""
    return {r.sample.split for r in group}


def _images(case: Case, groups: Iterable[Group]) -> list[str]:
    return case.image_names(r for group in groups for r in group)


def _shown(case: Case, groups: Sequence[Group]) -> str:
    return some([_equation(case.image_names(group)) for group in groups])


def _equation(names: Sequence[str]) -> str:
    more = [f"{len(names) - 3} more"] if len(names) > 3 else []
    return " = ".join([*names[:3], *more])


LOOKS: tuple[Look, ...] = (_exact, _near)
