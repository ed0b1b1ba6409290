"""Find the masks of each image by their names.

    image         masks
    7             7                           the same name
    image_7       7_mask or label_7           words for images and masks
    IMG_7         img_7 or img_7.jpg          case, a repeated extension, composed and decomposed Unicode
    7             007                         zero padding, of all numbers
    x_7_RGB       x_7_label                   any prefix and suffix
    7             7_mask and 7_mask_1         one mask in several files
    7             rust/7 and crack/7          a file for each class; also 7_rust and 7/rust

A name is a prefix, a core and a suffix; an image and its masks have the same core. It begins and ends with whole
numbers, so 1 is never paired with 11, and names are never paired by their order. Equal names and words pair any number
of images; every other pattern has to pair at least 95 % of them.
"""

import itertools
import math
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from pixelwise.data.io.images import IMAGE_EXTENSIONS

MIN_COVERAGE = 0.95
"""Least share of the images that a pattern has to pair."""

_WORDS = "(?i:masks?|labels?|annotations?|segmentation|seg|groundtruth|gt)"
_MASK_MARK = re.compile(rf"{_WORDS}[-_]|[-_](?:cp_)?{_WORDS}|_[LP]")
"""A prefix or suffix that only says that the file is a mask."""
_IMAGE_MARK = re.compile(r"(?i:(?:image|img)[-_]|[-_](?:image|img|sat))")
_IMAGE_PREFIX, _IMAGE_SUFFIX = re.compile(r"(?i:image|img)[-_](?=.)"), re.compile(r"(?<=.)[-_](?i:image|img|sat)$")
_MASK_WORD = re.compile(r"(?<![^\W\d_])(?i:mask|label|annot|segment|ground.?truth|(?:seg|gt)(?![^\W\d_]))")
"""A word for masks in a longer prefix or suffix, as in `_gtFine_labelIds`."""
_TOKEN = re.compile(r"\d+|[^\W\d_]+|[\W_]")
_EXTENSION = re.compile(rf"(?:{'|'.join(map(re.escape, IMAGE_EXTENSIONS))})+$")
_PADDING = re.compile(r"(?<![\d.])0+(?=\d)")
_COUNTER = re.compile(r"[\W_]*\d+[)\]]?$")
"""The number of a file of a mask that has several."""

ImageKey = tuple[int, str]
"""Index of a group, and the name of an image in it."""


class NameGroup(NamedTuple):
    """Images and masks that may belong together: those of one split. Names are paths without the extension."""

    images: Collection[str]
    masks: Collection[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pairing:
    """The masks of the images, and how they were found."""

    masks: Mapping[ImageKey, Sequence[str]]
    """The files of each image's mask, usually one."""
    rivals: Mapping[ImageKey, Sequence[str]] = field(default_factory=dict)
    """Masks of an image that exclude each other, so that none is used."""
    class_of: Mapping[str, str] = field(default_factory=dict)
    """Mask → name of its class, where each class has files of its own."""
    is_guessed: bool = False
    """True if images and masks differ in more than known words."""
    suggestion: tuple[int, str, str] | None = None
    """The best pattern, if it pairs too few images: their number, one of them, and its mask."""


class _Affix(NamedTuple):
    """The start and the end of a name, around its core."""

    prefix: str = ""
    suffix: str = ""

    def is_mark(self, mark: re.Pattern[str]) -> bool:
        """Return whether the affix is empty, or one mark in front or behind."""
        return not all(self) and (not any(self) or mark.fullmatch(self.prefix or self.suffix) is not None)


class _Candidate(NamedTuple):
    """A mask whose name contains the core of an image."""

    image: ImageKey
    mask: str
    affix: _Affix
    """Start and end of the mask's name."""
    removed: _Affix
    """Start and end of the image's name."""


def pair_names(groups: Sequence[NameGroup]) -> Pairing:
    """Find the masks of the images, by one pattern for all groups.

    Args:
        groups: The names of each group. Images of a group without masks are not counted.
    """
    images = [(index, name) for index, group in enumerate(groups) if group.masks for name in group.images]
    if all(name in groups[index].masks for index, name in images):
        return Pairing(masks={(index, name): [name] for index, name in images})
    needed = math.ceil(MIN_COVERAGE * len(images))
    attempts: list[Pairing] = []
    suggestion: tuple[int, str, str] | None = None
    for normalize in (str, _fold, _remove_padding):
        candidates = _find_candidates(groups, normalize)
        attempts.append(replace(_pair_by_words(candidates), is_guessed=normalize is not str))
        if len(attempts[-1].masks) >= needed:
            return attempts[-1]
        pattern = _pair_by_pattern(candidates, needed)
        if pattern and pattern.masks:
            return pattern
        if pattern and pattern.suggestion:
            suggestion = max(suggestion or pattern.suggestion, pattern.suggestion)
    best = max(attempts[:2], key=lambda attempt: len(attempt.masks))  # padding has to pair nearly all
    return replace(best, suggestion=suggestion if suggestion and suggestion[0] > len(best.masks) else None)


def find_masks_among(names: Collection[str]) -> set[str]:
    """Return the names of one folder that are masks of others: they contain another name and a word for masks.

    Without such a name, those with a word for masks are masks if nearly all others are their images.
    """
    masks = {name for name in names if _MASK_WORD.search(name)}
    if not masks and not any(name.endswith(("_L", "_P")) for name in names):
        return set()
    found = {c.affix for c in _find_candidates([NameGroup(names, names)], str, is_one_folder=True)}
    if marks := {a for a in found if any(a) and (a.is_mark(_MASK_MARK) or _MASK_WORD.search(" ".join(a)))}:
        return {name for name in names for mark in marks if _has_affix(name, mark)}
    images = set(names) - masks
    pairing = pair_names([NameGroup(images, masks)])
    return masks if masks and images and len(pairing.masks) >= MIN_COVERAGE * len(images) else set()


def _fold(name: str) -> str:
    """Remove the differences that a file system or an export tool makes."""
    return _EXTENSION.sub("", unicodedata.normalize("NFC", name).casefold()) or name


def _remove_padding(name: str) -> str:
    return _PADDING.sub("", _fold(name))


def _find_candidates(
    groups: Sequence[NameGroup], normalize: Callable[[str], str], *, is_one_folder: bool = False
) -> list[_Candidate]:
    """Find all masks that contain the core of an image of their group; in one folder, of another file."""
    images = [{name: normalize(name) for name in group.images} for group in groups]
    masks = [{name: normalize(name) for name in group.masks} for group in groups]
    image_ends, mask_ends = (_find_common_ends([name.values() for name in names]) for names in (images, masks))
    candidates = []
    for index, names in enumerate(images):
        cores = _index_cores(names, image_ends[index])
        lengths = {len(core) for core in cores}
        for mask, text in masks[index].items():
            found = {
                _Candidate((index, cores[core][0]), mask, affix, cores[core][1])
                for core, affix in _list_cores(text, lengths, mask_ends[index])
                if core in cores and not (is_one_folder and cores[core][0] == mask)
            }
            candidates += _select_candidates(found)
    return candidates


def _find_common_ends(groups: Sequence[Collection[str]]) -> list[Mapping[str, set[_Affix]]]:
    """Find the prefixes and suffixes that the names of a folder, or of all folders, have in common.

    Returns:
        For each group, folder → affixes.
    """
    split = [[_split_folder(name) for name in names] for names in groups]
    shared = _find_affixes([last for names in split for _, last in names])
    found: list[Mapping[str, set[_Affix]]] = []
    for names in split:
        folders: dict[str, list[str]] = defaultdict(list)
        for folder, last in names:
            folders[folder].append(last)
        found.append({folder: shared | _find_affixes(lasts) for folder, lasts in folders.items()})
    return found


def _find_affixes(names: Sequence[str]) -> set[_Affix]:
    """Find the longest prefix and suffix of all names, and those of nearly all."""
    if len(names) < 2:
        return set()
    reverse = [name[::-1] for name in names]
    return {
        _Affix(_find_start(names, needed), _find_start(reverse, needed)[::-1])
        for needed in {len(names), math.ceil(MIN_COVERAGE * len(names))}
    }


def _find_start(names: Sequence[str], needed: int) -> str:
    """Find the longest start that at least `needed` names have and that cuts no number."""
    start, following = "", names
    while True:
        counts = Counter(name[len(start)] for name in following if len(name) > len(start))
        char, count = counts.most_common(1)[0] if counts else ("", 0)
        if count < needed:
            return re.sub(r"\d+$", "", start) if any(c.isdecimal() for c in counts) else start
        start += char
        following = [name for name in following if name.startswith(start)]


def _index_cores(names: Mapping[str, str], ends: Mapping[str, set[_Affix]]) -> dict[str, tuple[str, _Affix]]:
    """Map the possible cores of images to the only image that has them, and what was removed from its name."""
    whole: dict[str, list[tuple[str, _Affix]]] = defaultdict(list)
    parts: dict[str, dict[str, _Affix]] = defaultdict(dict)
    for name, text in names.items():
        whole[text].append((name, _Affix()))
        folder, last = _split_folder(text)
        prefix, suffix = _IMAGE_PREFIX.match(last), _IMAGE_SUFFIX.search(last)
        words = [_Affix(prefix=prefix[0])] if prefix else [_Affix(suffix=suffix[0])] if suffix else []
        for affix in [*words, *ends[folder]]:
            core = last[len(affix.prefix) : len(last) - len(affix.suffix)]
            if core and any(affix) and last == affix.prefix + core + affix.suffix:
                parts[folder + core].setdefault(name, affix)
    cores = {core: next(iter(found.items())) for core, found in parts.items() if len(found) == 1}
    return {
        **{core: found for core, found in cores.items() if core not in whole},
        **{core: found[0] for core, found in whole.items() if len(found) == 1},
    }


def _list_cores(text: str, lengths: Collection[int], ends: Mapping[str, set[_Affix]]) -> Iterator[tuple[str, _Affix]]:
    """List the parts of a mask's name that may be its core, with and without its folder."""
    folder, last = _split_folder(text)
    cuts = {*(match.start() for match in _TOKEN.finditer(text)), len(text)}
    for affix in ends[folder]:
        if last.startswith(affix.prefix) and last.endswith(affix.suffix):
            cuts |= {len(folder + affix.prefix), len(text) - len(affix.suffix)}
    for start, length in itertools.product(cuts, lengths):
        if start + length in cuts:
            yield text[start : start + length], _Affix(text[:start], text[start + length :])
        end = start + length - len(folder)
        if 0 < len(folder) <= start < end and end in cuts:
            yield folder + text[start:end], _Affix(text[len(folder) : start], text[end:])


def _select_candidates(found: Collection[_Candidate]) -> list[_Candidate]:
    """Select the most certain candidates of one mask: it begins with an image's name, or contains it, or its core."""
    plausible = sorted(c for c in found if not _has_other_number(c.affix, c.removed))
    contained = [c for c in plausible if not any(c.removed)]
    beginning = [c for c in contained if not c.affix.prefix and not c.affix.suffix[:1].isalnum()]
    return beginning or contained or plausible


def _has_other_number(affix: _Affix, removed: _Affix) -> bool:
    """Return whether an image and a mask have different numbers outside their core, such as those of two patients."""
    one, other = (Counter(map(int, re.findall(r"\d+", " ".join(part)))) for part in (affix, removed))
    return bool(one and other) and not (one <= other or other <= one)


def _pair_by_words(candidates: Iterable[_Candidate]) -> Pairing:
    """Pair equal names, or names that differ in known words, and in the number of a file behind such a word."""
    same: dict[ImageKey, list[str]] = {}
    marked: dict[ImageKey, dict[_Affix, list[str]]] = defaultdict(lambda: defaultdict(list))
    for c in candidates:
        if not c.removed.is_mark(_IMAGE_MARK):
            continue
        base = c.affix._replace(suffix=_COUNTER.sub("", c.affix.suffix))
        if not any(c.affix + c.removed):
            same[c.image] = [c.mask]
        elif c.affix.is_mark(_MASK_MARK):
            marked[c.image][c.affix].append(c.mask)
        elif base.suffix and base.is_mark(_MASK_MARK):
            marked[c.image][base].append(c.mask)
    one_kind = {image: sorted(*kinds.values()) for image, kinds in marked.items() if len(kinds) == 1}
    rivals = {
        image: sorted(itertools.chain(*kinds.values()))
        for image, kinds in marked.items()
        if image not in same | one_kind
    }
    return Pairing(masks=one_kind | same, rivals=rivals)


def _pair_by_pattern(candidates: Sequence[_Candidate], needed: int) -> Pairing | None:
    """Pair by the prefixes and suffixes of the masks, several if each is that of a class or of a numbered file.

    Returns:
        The pairs, only a suggestion if they are too few, or None if nothing repeats.
    """
    votes: dict[_Affix, dict[ImageKey, str]] = defaultdict(dict)
    is_contained = {c.affix: not any(c.removed) for c in candidates}
    for c in candidates:
        votes[c.affix].setdefault(c.image, c.mask)
    order = sorted(votes, key=lambda a: (-len(votes[a]), not _MASK_WORD.search(" ".join(a)), len("".join(a)), a))
    if not order:
        return None
    if len(votes[order[0]]) < 2:
        return _pair_by_folder(candidates, needed)
    kinds: dict[_Affix, dict[ImageKey, str]] = {}
    image_of: dict[ImageKey, ImageKey] = {}
    for affix in order:
        kind = {image: mask for image, mask in votes[affix].items() if (image[0], mask) not in image_of}
        if len(kind) > 1 or (kind and is_contained[affix]):
            kinds[affix] = kind
            image_of |= {(image[0], mask): image for image, mask in kind.items()}
    worded = [affix for affix in kinds if _MASK_WORD.search(" ".join(affix))]
    if len(worded) == 1 and len(kinds[worded[0]]) >= needed:
        kinds = {worded[0]: kinds[worded[0]]}
    (_, image), mask = next(iter(votes[order[0]].items()))
    masks: dict[ImageKey, list[str]] = defaultdict(list)
    for kind in kinds.values():
        for key, name in kind.items():
            masks[key].append(name)
    rules = [affix for affix in order if len(votes[affix]) >= len(votes[order[0]])]
    is_ambiguous = any(image_of[key[0], name] != key for affix in rules for key, name in votes[affix].items())
    names = _name_kinds(kinds)
    several = names is not None and len(set(names.values())) > 1
    if several and all(len(files) == 1 for files in masks.values()):  # files of several sets, rather than of classes
        names = None
    if len(masks) < needed or is_ambiguous or names is None:
        return Pairing(masks={}, suggestion=(len(votes[order[0]]), image, mask))
    class_of = {mask: names[affix] for affix, kind in kinds.items() for mask in kind.values() if several}
    return Pairing(masks={key: sorted(names) for key, names in masks.items()}, class_of=class_of, is_guessed=True)


def _pair_by_folder(candidates: Iterable[_Candidate], needed: int) -> Pairing | None:
    """Pair images with all masks in the folder of their name, where no name of a mask repeats."""
    masks: dict[ImageKey, list[str]] = defaultdict(list)
    for c in candidates:
        if c.affix.suffix.startswith("/") and not any((*c.removed, c.affix.prefix)):
            masks[c.image].append(c.mask)
    return Pairing(masks=masks, is_guessed=True) if len(masks) >= needed else None


def _name_kinds(kinds: Mapping[_Affix, Mapping[ImageKey, str]]) -> dict[_Affix, str] | None:
    """Name the class of each kind of mask; one name for all where kinds only count the files of one mask.

    Returns:
        The names, or None if kinds have no names, or differ in a number in front of the core, as of two patients.
    """
    prefixes, suffixes = (set(parts) for parts in zip(*kinds, strict=True))
    if len({re.sub(r"\d+", "", prefix) for prefix in prefixes}) < len(prefixes):
        return None
    bases = {affix: affix._replace(suffix=_COUNTER.sub("", affix.suffix)) for affix in kinds}
    sizes = defaultdict(set)
    for affix, kind in kinds.items():
        sizes[bases[affix]].add(len(kind))
    names = {}
    for affix in kinds:
        name = bases[affix] if len(sizes[bases[affix]]) > 1 else affix  # classes, if all images have as many
        names[affix] = _name_class(name.prefix * (len(prefixes) > 1), name.suffix * (len(suffixes) > 1))
    return None if len(set(names.values())) > 1 and "" in names.values() else names


def _name_class(prefix: str, suffix: str) -> str:
    """Name a class by the folder of its masks, or else by what their names have around the core."""
    *folders, prefix = prefix.split("/")
    for part in [*reversed(folders), prefix, suffix]:
        if name := re.sub(rf"(?<![^\W_]){_WORDS}(?![^\W_])", "", part).strip(" _-./"):
            return name
    return ""


def _has_affix(name: str, affix: _Affix) -> bool:
    last = name if "/" in affix.prefix else _split_folder(name)[1]
    is_longer = len(last) > len(affix.prefix + affix.suffix)
    return is_longer and last.startswith(affix.prefix) and last.endswith(affix.suffix)


def _split_folder(name: str) -> tuple[str, str]:
    """Split `city/1` into `city/` and `1`."""
    folder, slash, last = name.rpartition("/")
    return folder + slash, last
