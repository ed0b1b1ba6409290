"""Lists that assign the images of a dataset to splits, for every format.

    train.txt, val.txt, test.txt    at the top, next to the images, in splits/, lists/, ImageSets/Segmentation/, ...
    splits.json, train_test_split.yaml, splits_final.json (nnU-Net: folds, of which the first is used)

A line names an image by a path of any machine, its file name or its stem, and perhaps its mask in a second column.
"""

import os
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Any

import yaml

from pixelwise.data.formats.dataset_index import (
    DatasetIndex,
    IndexFault,
    SampleReader,
    find_split,
    list_folders,
    list_path_endings,
    prefix_split,
    read_lines,
)
from pixelwise.data.io.images import IMAGE_EXTENSIONS
from pixelwise.data.sample import SPLITS, Sample, Split, format_location, group_by_split
from pixelwise.files import read_json, read_yaml, walk_folders

IMAGE_PATH = re.compile(rf"[^\s,;].*?(?i:{'|'.join(map(re.escape, IMAGE_EXTENSIONS))})(?=[\s,;]|$)")
"""A path up to the extension of an image; it may contain blanks."""

_FOLDER = re.compile(r".*(split|list).*|imagesets|annotations|data", re.IGNORECASE)
"""Names of folders with lists."""
_TASKS = ("Segmentation", "Main")
"""Folders of ImageSets, the preferred one first; others have lists of other tasks."""
_FILLER = "(?:lists?|splits?|sets?|images?|imgs?|files?|ids?|names?|data|samples|autosplit|[-_. ])*"
_LIST_STEM = re.compile(
    rf"{_FILLER}(trainval|training|train|validation|valid|val|eval|testing|test){_FILLER}", re.IGNORECASE
)
_LIST_EXTENSIONS = (".txt", ".lst", ".csv")
_DOCUMENT_EXTENSIONS = (".json", ".yaml", ".yml")
_IMAGE_KEYS = ("image", "img", "image_path", "img_path", "file_name", "filename", "file", "name")
_MASK_KEYS = ("label", "mask", "label_path", "mask_path", "seg_map_path", "annotation")

_Key = tuple[str, ...]
"""Parts of a path without extension, in a form that is equal for spellings that a file system may treat as equal."""
_Target = Sample | Path
"""A pair, or an image or mask without a partner."""


@dataclass(frozen=True, slots=True)
class _Entry:
    """An image that a list names, and its mask if the list names it."""

    image: str
    mask: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Lists:
    """The lists of a folder, or those in a document."""

    paths: Mapping[Split, Path]
    entries: Mapping[Split, Sequence[_Entry]]
    is_usable: bool = True
    """False where the names do not say which list is to be used."""
    val_folds: Sequence[Sequence[_Entry]] = ()
    """Validation images of each fold in the document, of which the first is used; empty if it has none."""


@dataclass(slots=True)
class _Assignment:
    """The files that lists name."""

    lists: _Lists
    samples: dict[Split, dict[Sample, None]] = field(default_factory=dict)
    unpaired: dict[Path, Split] = field(default_factory=dict)
    val_folds: list[frozenset[tuple[Path, str]]] = field(default_factory=list)
    missing: list[Path] = field(default_factory=list)
    """Places of the entries that name no file, or several."""

    @property
    def is_empty(self) -> bool:
        return not (self.unpaired or any(self.samples.values()))


def apply_split_lists(root: Path, index: DatasetIndex) -> DatasetIndex:
    """Return the index with the splits that lists define; unchanged without lists.

    With a list for train, pairs in no list are left out. Without one, they belong to train.
    """
    finder = _Finder(root, index)
    found = [finder.assign(lists) for lists in _find_lists(root, index, finder)]
    if any(sample.image_entry for sample in index.samples):  # lists of the files that contain the samples
        found = [assignment for assignment in found if not assignment.is_empty]
    usable = sorted((a for a in found if a.lists.is_usable), key=lambda assignment: assignment.is_empty)
    used = usable[0] if usable else _Assignment(_Lists(paths={}, entries={}))
    if index.has_lists:
        own = {split: dict.fromkeys(samples) for split, samples in group_by_split(index.samples).items()}
        used = _Assignment(_Lists(paths={}, entries={}), own)
    unused = [a.lists for a in found if a is not used and _is_needed(a, used)]
    return _apply(index, used, unused)


def _is_needed(other: _Assignment, used: _Assignment) -> bool:
    """Return whether lists that are not used say something else; a part of a split has a name of its own."""
    splits = other.samples if other.lists.is_usable else other.samples.keys() - used.samples.keys()
    return not other.is_empty and any(other.samples[split] != used.samples.get(split) for split in splits)


def _apply(index: DatasetIndex, used: _Assignment, unused: Sequence[_Lists]) -> DatasetIndex:
    lists = used.lists
    listed = {(s.image_path, s.image_entry) for samples in used.samples.values() for s in samples}
    others = [s for s in index.samples if (s.image_path, s.image_entry) not in listed]
    assigned = [(s, split) for split, samples in used.samples.items() for s in samples]
    assigned += [(s, s.split or "train") for s in others if (s.split or "train") not in lists.paths]
    samples = _rename(assigned) if lists.paths else list(index.samples)
    masks = {s.mask_path for s in samples}

    def is_wanted(path: Path) -> bool:
        if path in masks or (path, "") in listed:  # a list has found its partner
            return False
        split = used.unpaired.get(path)
        if split is None:
            return "train" not in lists.paths
        return split != "test" or bool(used.samples["test"])

    images = {*index.images_without_mask, *index.unlabeled_images}
    unlabeled = {path for path, split in used.unpaired.items() if path in images and split == "test"}
    unlabeled = set() if used.samples.get("test") else unlabeled  # a test split of which some masks are missing
    labeled = {path for path, split in used.unpaired.items() if path in images and split != "test"}
    names = ", ".join(dict.fromkeys(path.name for path in lists.paths.values()))
    num_folds = len(lists.val_folds)
    folds = f", of whose {num_folds} folds the first is used (all by train --folds {num_folds})" if num_folds else ""
    faults = [
        *report_missing_names(used.missing),
        IndexFault(
            code="unused_list",
            files=tuple(path for other in unused for path in dict.fromkeys(other.paths.values())),
            noun="split list",
            problem="that would be ignored",
            fix="Remove them: the format has lists of its own."
            if index.has_lists
            else "Name the lists to use train.txt, val.txt and test.txt, put them into one folder, remove the others.",
        ),
        *report_unlisted((s.image_path for s in others if (s.split or "train") in lists.paths), names),
        IndexFault(
            code="split_lists",
            files=tuple(dict.fromkeys(lists.paths.values())) if samples != list(index.samples) else (),
            noun="list",
            problem=f"of the splits{folds}",
            fix="To use other splits, change or remove the lists.",
        ),
    ]
    return replace(
        index,
        samples=tuple(samples),
        images_without_mask=tuple(sorted({*filter(is_wanted, index.images_without_mask), *labeled})),
        unlabeled_images=tuple(sorted({*index.unlabeled_images, *unlabeled} - labeled - masks)),
        masks_without_image=tuple(filter(is_wanted, index.masks_without_image)),
        foreign_files=tuple(path for path in index.foreign_files if path not in lists.paths.values()),
        val_folds=used.val_folds,
        faults=(*index.faults, *(fault for fault in faults if fault.files)),
    )


def report_missing_names(places: Iterable[Path]) -> tuple[IndexFault, ...]:
    """Return the finding about names in lists, such as `train.txt: 0001`, that no image has, or several have."""
    fault = IndexFault(
        code="missing_listed",
        files=tuple(dict.fromkeys(places)),
        noun="name",
        problem="in split lists that are of no image, or of several",
        fix="Restore the files, write more of their paths, or remove these lines.",
    )
    return (fault,) if fault.files else ()


def report_unlisted(images: Iterable[Path], names: str) -> tuple[IndexFault, ...]:
    """Return the finding about images in none of the lists with these names."""
    fault = IndexFault(
        code="not_listed",
        files=tuple(images),
        noun="image",
        problem=f"in none of the lists {names} and therefore not used",
        fix="Add them to a list to use them. If they were left out on purpose, nothing needs to be done.",
    )
    return (fault,) if fault.files else ()


def _rename(assigned: Iterable[tuple[Sample, Split]]) -> list[Sample]:
    """Give samples their split, in their names, too: `0001` and `train/0001` become `val/0001`."""
    renamed: dict[str, Sample] = {}
    for sample, split in sorted(assigned, key=lambda pair: (pair[0].split != pair[1], pair)):
        name = prefix_split(split, sample.name.removeprefix(f"{sample.split}/"))
        name = name if name not in renamed else prefix_split(split, sample.name)
        renamed[name] = replace(sample, name=name, split=split)
    return sorted(renamed.values())


class _Finder:
    """Finds what lists name among the files of an index."""

    def __init__(self, root: Path, index: DatasetIndex) -> None:
        self._root = root
        self._index = index

    @cached_property
    def _by_path(self) -> dict[_Key, dict[_Target, None]]:
        """Path → what it names."""
        found: dict[_Key, dict[_Target, None]] = {}
        num_samples = Counter(sample.mask_path for sample in self._index.samples)
        for sample in self._index.samples:
            found.setdefault(_make_key(sample.name), {})[sample] = None
            if not sample.image_entry:
                found.setdefault(self._make_path_key(sample.image_path), {})[sample] = None
            if num_samples[sample.mask_path] == 1:
                found.setdefault(self._make_path_key(sample.mask_path), {})[sample] = None
        index = self._index
        unpaired = (index.images_without_mask, index.unlabeled_images, index.masks_without_image, index.same_stem)
        for path in chain.from_iterable(unpaired):
            found.setdefault(self._make_path_key(path), {})[path] = None
        return found

    @cached_property
    def _by_end(self) -> dict[_Key, dict[_Target, None]]:
        """End of a path → what it may name."""
        found: dict[_Key, dict[_Target, None]] = {}
        for key, targets in self._by_path.items():
            for end in _list_ends(key):
                found.setdefault(end, {}).update(targets)
        return found

    @cached_property
    def _masks(self) -> dict[_Key, dict[Path, None]]:
        """End of the path of a mask file → what it may name; empty if masks are not files."""
        found: dict[_Key, dict[Path, None]] = {}
        if type(self._index.reader) is SampleReader:
            for path in (*(sample.mask_path for sample in self._index.samples), *self._index.masks_without_image):
                for end in _list_ends(self._make_path_key(path)):
                    found.setdefault(end, {})[path] = None
        return found

    def _make_path_key(self, path: Path) -> _Key:
        return _make_key(str(path).removeprefix(f"{self._root}{os.sep}"))

    def find(self, text: str, split: Split | None = None) -> _Target | None:
        """Find what a path names: as the end of a path, or as the path of another machine that ends in one of these."""
        key = _make_key(text)
        found = self._by_end.get(key) or next(filter(None, map(self._by_path.get, _list_ends(key))), {})
        candidates = list(found)
        for is_better in (
            lambda target: isinstance(target, Sample),
            lambda target: isinstance(target, Sample) and target.split == split,
            lambda target: isinstance(target, Sample) and target.image_path.name == re.split(r"[/\\]", text)[-1],
        ):
            candidates = candidates if len(candidates) < 2 else list(filter(is_better, candidates)) or candidates
        return candidates[0] if len(candidates) == 1 else None

    def split_line(self, line: str) -> Iterator[_Entry]:
        """Yield the images of a line, with their masks; a line may have columns of other things, or several pairs."""
        paths = IMAGE_PATH.findall(line)
        if len(paths) > 1:
            yield from (_Entry(*pair) for pair in zip(paths[::2], [*paths[1::2], ""], strict=False))
        elif self.find(line):
            yield _Entry(line)
        else:
            words = [word.strip(" \"'") for word in re.split(r"[\t,;]", line)]
            words = words if len(words) > 1 else line.split()
            yield _Entry(*(paths or words)[:1])

    def assign(self, lists: _Lists) -> _Assignment:
        """Find everything that lists name."""
        assignment = _Assignment(lists)
        for split, entries in lists.entries.items():
            samples = assignment.samples.setdefault(split, {})
            for entry in entries:
                target = self._pair(entry, self.find(entry.image, split))
                if isinstance(target, Sample):
                    samples[target] = None
                elif target:
                    assignment.unpaired[target] = split
                else:
                    name = " ".join(filter(None, (entry.image, entry.mask)))
                    assignment.missing.append(Path(format_location(str(lists.paths[split]), name)))
        for entries in lists.val_folds:
            targets = (self._pair(entry, self.find(entry.image)) for entry in entries)
            fold = frozenset((t.image_path, t.image_entry) for t in targets if isinstance(t, Sample))
            assignment.val_folds.append(fold)
        return assignment

    def _pair(self, entry: _Entry, target: _Target | None) -> _Target | None:
        """Pair an image with the mask that its line names; None if there is no such mask."""
        if not (target and self._masks and Path(entry.mask).suffix.lower() in IMAGE_EXTENSIONS):
            return target
        paths = (self._root / ending for ending in list_path_endings(entry.mask) if "/" in ending)
        exact = next((path for path in paths if path.is_file() and ".." not in path.parts), None)
        by_end = next(filter(None, map(self._masks.get, _list_ends(_make_key(entry.mask)))), {})
        found = {exact: None} if exact else by_end  # in a folder of its own, or moved
        if isinstance(target, Sample) and (target.mask_path in found or len(found) == 1):
            is_same = target.mask_path in found
            return target if is_same else replace(target, mask_path=next(iter(found)), more_mask_paths=())
        if isinstance(target, Path) and len(found) == 1 and target not in found:
            name = "/".join(target.relative_to(self._root).with_suffix("").parts)
            return Sample(name=name, image_path=target, mask_path=next(iter(found)), split=None)
        return target if target in found else None


def _make_key(text: str) -> _Key:
    parts = [part for part in re.split(r"[/\\]", text.strip(" \"'")) if part not in ("", ".", "..")]
    if parts:
        stem, extension = os.path.splitext(parts[-1])
        parts[-1] = stem if extension.lower() in IMAGE_EXTENSIONS else parts[-1]
    return tuple(unicodedata.normalize("NFC", part).casefold() for part in parts)


def _list_ends(key: _Key) -> Iterator[_Key]:
    """Yield the ends of a path, the longest first."""
    return (key[start:] for start in range(len(key)))


def _find_lists(root: Path, index: DatasetIndex, finder: _Finder) -> Iterator[_Lists]:
    """Read the lists of each folder that may have some; text files of labels are none."""
    labels = {*(sample.mask_path for sample in index.samples), *index.masks_without_image}
    inner = {sample.image_path.parent for sample in index.samples}
    above = {folder for path in inner for folder in (path, *path.parents) if folder.is_relative_to(root)}
    named = [folder for folder in list_folders(root) if _FOLDER.fullmatch(folder.name) and folder not in above]
    tasks = [folder / task for folder in named for task in _TASKS if (folder / task).is_dir()][:1]
    for folder in dict.fromkeys((root, *sorted(above), *named, *tasks)):
        files = [path for path in _list_files(folder) if path not in labels]
        yield from _read_folder([path for path in files if path.suffix.lower() in _LIST_EXTENSIONS], finder)
        for path in files:
            if path.suffix.lower() in _DOCUMENT_EXTENSIONS and "split" in path.stem.lower():
                yield from _read_document(path, finder)
        if folder in named and re.search("split|list", folder.name.lower()):  # such as splits/fold_0/train.txt
            for below in (below for below, _, _ in walk_folders(folder) if below != folder):
                for lists in _read_folder(
                    [p for p in _list_files(below) if p.suffix.lower() in (".txt", ".lst")], finder
                ):
                    yield replace(lists, is_usable=False)


def _list_files(folder: Path) -> list[Path]:
    suffixes = (*_LIST_EXTENSIONS, *_DOCUMENT_EXTENSIONS)
    paths = (path for path in folder.iterdir() if path.suffix.lower() in suffixes and not path.name.startswith("."))
    return sorted(path for path in paths if path.is_file())


def _read_folder(files: Sequence[Path], finder: _Finder) -> Iterator[_Lists]:
    """Read the lists in a folder: one for each split together, further ones by themselves."""
    chosen: dict[str, Path] = {}
    entries: dict[str, list[_Entry]] = {}
    others: list[_Lists] = []
    for path in sorted(files, key=lambda path: (path.suffix.lower() == ".csv", len(path.stem), path)):
        match = _LIST_STEM.fullmatch(path.stem)
        split = find_split(re.split("[^a-z]+", match[1].lower() if match else path.stem.lower()))
        is_trainval = bool(match) and split is None
        if split is None and not is_trainval:
            continue
        read = [entry for _, line in read_lines(path) if not line.startswith("#") for entry in finder.split_line(line)]
        if path.suffix.lower() == ".csv":  # tables have a heading, and most of them do not list images
            read = [entry for number, entry in enumerate(read) if number or finder.find(entry.image)]
            if not any(finder.find(entry.image) for entry in read):
                continue
        name = split or "trainval"
        if match and name not in chosen:
            chosen[name], entries[name] = path, read
        elif split:
            others.append(_Lists(paths={split: path}, entries={split: read}, is_usable=bool(match)))
    if "trainval" in chosen and "train" not in chosen:
        val = {entry.image for entry in entries.get("val", ())}
        chosen["train"] = chosen["trainval"]
        entries["train"] = [entry for entry in entries["trainval"] if entry.image not in val]
    paths = {split: chosen[split] for split in SPLITS if split in chosen}
    if paths:
        yield _Lists(paths=paths, entries={split: entries[split] for split in paths})
    yield from others


def _read_document(path: Path, finder: _Finder) -> Iterator[_Lists]:
    """Read the lists in a document, which may be folds; one without known names of splits is not usable."""
    content = read_json(path) if path.suffix.lower() == ".json" else read_yaml(path, yaml.BaseLoader)  # 007 is a name
    folds = content if isinstance(content, list) and content and all(isinstance(f, dict) for f in content) else []
    entries = _parse_splits(folds[0] if folds else content)
    if entries:
        val_folds = [_parse_splits(fold).get("val", []) for fold in folds] if len(folds) > 1 else []
        yield _Lists(paths=dict.fromkeys(entries, path), entries=entries, val_folds=val_folds)
    elif names := [name for name in _list_strings(content) if finder.find(name)]:
        yield _Lists(paths={"train": path}, entries={"train": [_Entry(name) for name in names]}, is_usable=False)


def _parse_splits(content: Any) -> dict[Split, list[_Entry]]:
    """Parse a mapping of splits to names, or of names to splits."""
    entries: dict[Split, list[_Entry]] = {}
    for key, value in content.items() if isinstance(content, dict) else ():
        split = find_split(re.split("[^a-z]+", str(key).lower()))
        if split and isinstance(value, list):
            entries.setdefault(split, []).extend(filter(None, map(_parse_entry, value)))
        elif isinstance(value, str) and (split := find_split([value])):
            entries.setdefault(split, []).append(_Entry(str(key)))
    return entries


def _parse_entry(value: Any) -> _Entry | None:
    if isinstance(value, dict):
        image, mask = (
            next((str(value[key]) for key in keys if key in value), "") for keys in (_IMAGE_KEYS, _MASK_KEYS)
        )
        return _Entry(image, mask) if image else None
    return _Entry(str(value))


def _list_strings(content: Any) -> Iterator[str]:
    if isinstance(content, dict | list):
        for inner in (*content, *content.values()) if isinstance(content, dict) else content:
            yield from _list_strings(inner)
    elif isinstance(content, str):
        yield content
