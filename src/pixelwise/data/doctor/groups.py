"""What belongs together and lies in two splits: images of a patient, frames of a video, tiles of a raster."""

import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from itertools import pairwise

from pixelwise.data.doctor.findings import Case, Finding, Look, count, finding, some
from pixelwise.data.sample import Sample
from pixelwise.errors import RequestError

_LAST_NUMBER = re.compile(r"^(.*?)(\d+)(\D*)$")
_TILE = re.compile(r"^(.*?)((?:row|r|y)[_-]?)(\d+)([_-]?(?:col|c|x)[_-]?)(\d+)(\D*)$", re.IGNORECASE)
_TILE_X_FIRST = re.compile(r"^(.*?)((?:col|c|x)[_-]?)(\d+)([_-]?(?:row|r|y)[_-]?)(\d+)(\D*)$", re.IGNORECASE)


def require_usable(pattern: str | None) -> None:
    """RequestError for what is no regular expression."""
    try:
        re.compile(pattern or "")
    except re.error as error:
        raise RequestError(f"the group {pattern!r} is no regular expression ({error}); mend it.") from error


def group_of(name: str, pattern: str) -> str | None:
    """The first group of the first match, or else the whole match; None without a match.

    >>> group_of("train/patient07_slice3", r"patient(\\d+)")
    '07'
    """
    match = re.search(pattern, name)
    if match is None:
        return None
    return match[1] if match.re.groups else match[0]


def _named_groups(case: Case) -> Iterator[Finding]:
    if case.group is None:
        return
    members: dict[str, list[Sample]] = defaultdict(list)
    for sample in case.surveyed.dataset.samples:
        if (group := group_of(sample.name, case.group)) is not None:
            members[group].append(sample)
    if not members:
        raise RequestError(f"the group {case.group!r} matches no image, such as {_example(case)!r}; mend it.")
    apart = {group: samples for group, samples in members.items() if len({s.split for s in samples}) > 1}
    if files := case.names(s.image_path for samples in apart.values() for s in samples):
        shown = [f"{group!r} in {' and '.join(_split_names(samples))}" for group, samples in sorted(apart.items())]
        message = f"{count(len(apart), 'group')} in more than one split: {some(shown)}."
        yield finding("group_in_two_splits", files, message, "Move the images of a group into one split.")


def _example(case: Case) -> str:
    samples = case.surveyed.dataset.samples
    return samples[0].name if samples else ""


def _split_names(samples: Sequence[Sample]) -> list[str]:
    return sorted({str(s.split) for s in samples})


def _sequences(case: Case) -> Iterator[Finding]:
    """Names that count on from one split to another. With a pattern, the user has said what belongs together."""
    if case.group is not None:
        return
    numbered: dict[tuple[str, ...], list[tuple[int, Sample]]] = defaultdict(list)
    for sample in case.surveyed.dataset.samples:
        for prefix, number in _places(_without_split(sample)):
            numbered[prefix].append((number, sample))
    pairs = {pair for members in numbered.values() for pair in _neighbors(members)}
    if files := case.names(s.image_path for pair in pairs for s in pair):
        shown = [f"{a.name} next to {b.name}" for a, b in sorted(pairs)]
        message = (
            f"{count(len(pairs), 'pair')} of images next to each other by their names, in two splits: {some(shown)}."
        )
        fix = (
            "If they are frames of one video or tiles of one raster, keep these together: scores on neighbors of "
            "what was trained on are too good. --group says what belongs together."
        )
        yield finding("sequence_in_two_splits", files, message, fix)


def _without_split(sample: Sample) -> str:
    return sample.name.removeprefix(f"{sample.split}/")


def _places(name: str) -> Iterator[tuple[tuple[str, ...], int]]:
    """Where a name stands in a sequence: what is fixed in it, and the number that counts.

    >>> list(_places("clip2_frame0040")), list(_places("map_y3_x7"))
    ([(('clip2_frame', ''), 40)], [(('map_', 'y', '3', '_x', ''), 7), (('map_', 'y', '_x', '7', ''), 3)])
    """
    if tile := _TILE.match(name) or _TILE_X_FIRST.match(name):
        head, first, row, second, column, tail = tile.groups()
        yield (head, first, row, second, tail), int(column)
        yield (head, first, second, column, tail), int(row)
    elif match := _LAST_NUMBER.match(name):
        yield (match[1], match[3]), int(match[2])


def _neighbors(members: list[tuple[int, Sample]]) -> Iterator[tuple[Sample, Sample]]:
    """Members of different splits whose numbers follow each other.

    A number that occurs twice tells that each split counts for itself: then numbers mean nothing.
    """
    ordered = sorted(members)
    if len({number for number, _ in ordered}) < len(ordered):
        return
    longest = _longest_step(ordered) if len(ordered) > 1 else 0
    for (number, sample), (following, other) in pairwise(ordered):
        if sample.split != other.split and following - number <= longest:
            yield sample, other


def _longest_step(ordered: Sequence[tuple[int, Sample]]) -> float:
    """From one frame to the next: half as much again as the usual step, if there is one; else 1.

    Numbers of frames grow by the same step, give or take a few; those of unrelated photos do not.
    """
    steps = Counter(following - number for (number, _), (following, _) in pairwise(ordered))
    step, times = steps.most_common(1)[0]
    return 1.5 * step if 2 * times >= steps.total() else 1


LOOKS: tuple[Look, ...] = (_named_groups, _sequences)
