"""The result of finding a dataset's files: its samples, the files without a partner, and how to read a sample.

The functions list files and folders, find the names of splits, read lists, and pair images and masks by name.
"""

import itertools
import os
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any, Protocol

from pixelwise.data.description import DatasetDescription, parse_color
from pixelwise.data.io.images import (
    IMAGE_EXTENSIONS,
    Array,
    DecodedImage,
    add_mask_file,
    decode_image_bytes,
    read_mask_bytes,
)
from pixelwise.data.io.tiff import find_mask_flips
from pixelwise.data.io.unread_files import find_companion_arrays
from pixelwise.data.sample import SPLITS, Sample, Split
from pixelwise.errors import DataError, PathAccessError, PathNotFoundError
from pixelwise.files import read_bytes, read_text, walk_folders


class SampleReader:
    """Reads the image and the mask of a sample, by default from one file each; thread-safe.

    All methods raise PathNotFoundError, PathAccessError or DataError with the file and how to fix it.
    """

    def decode_image(self, sample: Sample) -> DecodedImage:
        """Read the image as stored, with its alpha channel."""
        decoded = decode_image_bytes(self.read_image_bytes(sample), sample.image_location)
        return decoded if sample.image_entry else add_mask_file(decoded, sample.image_path)

    def read_mask(self, sample: Sample) -> Array:
        """Read the mask as (H, W) values or (H, W, 3) colors, masked where the file declares missing data."""
        return read_mask_bytes(self.read_mask_bytes(sample), sample.mask_location)

    def find_flips(self, sample: Sample) -> tuple[int, ...]:
        """Find the axes along which the mask is flipped against its image, as their georeferences say."""
        return find_mask_flips(sample.image_path, sample.mask_path)

    def read_image_bytes(self, sample: Sample) -> bytes:
        """Read the encoded image file."""
        return read_bytes(sample.image_path)

    def read_mask_bytes(self, sample: Sample) -> bytes:
        """Read the encoded mask file."""
        return read_bytes(sample.mask_path)


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexFault:
    """A finding of `checks.findings.CODES` about the files of a dataset that only its format or lists know."""

    code: str
    files: tuple[Path, ...]
    """Files, or places in files: `train.txt: 0001`."""
    noun: str
    problem: str
    """Completes `2 images ...`."""
    fix: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetIndex:
    """The samples of a dataset, and the files that are in none."""

    samples: tuple[Sample, ...]
    images_without_mask: tuple[Path, ...] = ()
    unlabeled_images: tuple[Path, ...] = ()
    """Images of a test split without any mask."""
    masks_without_image: tuple[Path, ...] = ()
    same_stem: tuple[Path, ...] = ()
    """Files that share their stem with another file of their folder, so that their partner is ambiguous."""
    outside_splits: tuple[Path, ...] = ()
    """Images and masks in no split: stray files, and folders that are not named after a split."""
    foreign_files: tuple[Path, ...] = ()
    """Files that do not have the extension of an image."""
    has_lists: bool = field(default=False, compare=False)
    """True if the format's own lists define the splits, so that no others do."""
    val_folds: Sequence[frozenset[tuple[Path, str]]] = field(default_factory=list)
    """Image file and entry of the validation samples of each fold that a split list defines."""
    faults: tuple[IndexFault, ...] = ()
    """Further findings, which `check` reports."""
    reader: SampleReader = field(default_factory=SampleReader, compare=False)
    pairing_notes: tuple[str, ...] = ()
    """Descriptions of how images and masks were paired, where that is not obvious."""
    pairing_hint: str = ""
    """A pattern in the names of images and masks, if it pairs too few of them to be used."""
    channel_files: bool = False
    """True if each image has one file per channel."""
    description: DatasetDescription = field(default_factory=DatasetDescription)
    """Classes and channels as the format declares them, which a dataset.yaml in the folder changes."""


class DatasetFormat(Protocol):
    """A dataset format: what each module of `formats` without an underscore implements."""

    def can_read(self, root: Path, /) -> bool:
        """Return whether a folder has this format, from file names and small index files only."""

    def find_pairs(self, root: Path, /) -> DatasetIndex:
        """Find all samples, sorted by name; raise DataError if the folder does not have this format."""


_SIDECAR_ENDINGS = (
    *(".tfw", ".tifw", ".jgw", ".jpgw", ".pgw", ".pngw", ".wld", ".prj", ".ovr", ".rpb", ".rpc", ".xml", ".json"),
    *(".geojson", ".yaml", ".yml", ".toml", ".csv", ".tsv", ".xls", ".xlsx", ".txt", ".md", ".html", ".pdf", ".log"),
    *(".ini", ".db", ".lnk", ".cache", ".py", ".ipynb", ".m", ".sh", ".md5", "readme", "license", ":zone.identifier"),
)
"""Ends of file names, in lower case, of what systems, tools and people store next to images."""

FilesByName = Mapping[str, Sequence[Path]]
"""Name → its files; more than one if the name is ambiguous."""

SPLIT_NAMES: Mapping[Split, tuple[str, ...]] = {
    "train": ("train", "training"),
    "val": ("val", "valid", "validation", "eval"),
    "test": ("test", "testing"),
}
"""Names of a split's folders, in any case; the first is preferred."""

_SPLIT_OF_NAME = {name: split for split, names in SPLIT_NAMES.items() for name in names}


@dataclass(frozen=True, slots=True, kw_only=True)
class SplitFiles:
    """The images and masks of one split; those with the same name are pairs."""

    images: FilesByName
    labels: FilesByName
    split: Split | None
    more_labels: Mapping[Path, tuple[Path, ...]] = field(default_factory=dict)
    """First file of a mask → its other files."""


def pair_files(parts: Iterable[SplitFiles]) -> DatasetIndex:
    """Pair images and masks by name; files of ambiguous names are in no pair.

    A test split without masks is unlabeled: many datasets do not publish them.
    """
    samples: list[Sample] = []
    without_mask: list[Path] = []
    unlabeled: list[Path] = []
    without_image: list[Path] = []
    same_stem: list[Path] = []
    for part in parts:
        if part.split == "test" and not part.labels:
            unlabeled += [path for paths in part.images.values() for path in paths]
            continue
        for name in part.images.keys() | part.labels.keys():
            images, labels = part.images.get(name, ()), part.labels.get(name, ())
            if len(images) > 1 or len(labels) > 1:
                same_stem += [path for paths in (images, labels) if len(paths) > 1 for path in paths]
            elif images and labels:
                samples.append(
                    Sample(
                        name=prefix_split(part.split, name),
                        image_path=images[0],
                        mask_path=labels[0],
                        split=part.split,
                        more_mask_paths=part.more_labels.get(labels[0], ()),
                    )
                )
            else:
                without_mask += images
                without_image += labels
    return DatasetIndex(
        samples=tuple(sorted(samples)),
        images_without_mask=tuple(sorted(without_mask)),
        unlabeled_images=tuple(sorted(unlabeled)),
        masks_without_image=tuple(sorted(without_image)),
        same_stem=tuple(sorted(same_stem)),
    )


def remove_aliases(index: DatasetIndex) -> DatasetIndex:
    """Return the index with every file once: links to folders may give it several paths."""
    samples = remove_sample_aliases(index.samples)
    kinds = ("images_without_mask", "unlabeled_images", "masks_without_image", "same_stem", "outside_splits")
    others: dict[str, Sequence[Path]] = {kind: getattr(index, kind) for kind in kinds}
    is_needed = any(others.values())
    used = {os.path.realpath(path) for s in samples for path in s.paths} if is_needed else set()
    identify = _make_identity()

    def select(paths: Sequence[Path]) -> tuple[Path, ...]:
        unused = {identify(path): path for path in reversed(paths) if os.path.realpath(path) not in used}
        return tuple(reversed(unused.values()))

    selected: dict[str, Any] = {kind: select(paths) for kind, paths in others.items()}
    return replace(index, samples=tuple(samples), **selected)


def remove_sample_aliases(samples: Iterable[Sample]) -> list[Sample]:
    """Return each pair of files once in each of its splits, and without a split only if it is in none; sorted.

    The shortest path stays.
    """
    identify = _make_identity()
    pairs: dict[tuple[object, ...], dict[Split | None, Sample]] = {}
    for s in sorted(samples, key=lambda s: (len(s.image_path.parts), s)):
        key = (identify(s.image_path), s.image_entry, identify(s.mask_path), s.label_entry)
        pairs.setdefault(key, {}).setdefault(s.split, s)
    return sorted(s for found in pairs.values() for s in found.values() if s.split or len(found) == 1)


def _make_identity() -> Callable[[Path], tuple[str, str]]:
    """Return a function that gives paths of one file in one folder the same value.

    Links to files are not resolved: several masks may be links to one empty mask.
    """
    resolve = cache(os.path.realpath)
    return lambda path: (resolve(path.parent), path.name)


def separate_unlabeled_test(root: Path, index: DatasetIndex) -> DatasetIndex:
    """Return the index with the images of a test split as unlabeled if none of them has a mask."""
    if any(sample.split == "test" for sample in index.samples):
        return index

    def is_test(path: Path) -> bool:
        folders = (re.split(r"[^a-z]+", part.lower())[0] for part in path.relative_to(root).parts[:-1])
        return find_split(folders) == "test"

    unlabeled = filter(is_test, (*index.images_without_mask, *index.outside_splits))
    return replace(
        index,
        images_without_mask=tuple(path for path in index.images_without_mask if not is_test(path)),
        outside_splits=tuple(path for path in index.outside_splits if not is_test(path)),
        unlabeled_images=tuple(sorted({*index.unlabeled_images, *unlabeled})),
    )


def prefix_split(split: Split | None, name: str) -> str:
    """Return the full name of a sample: `train/0001`."""
    return f"{split}/{name}" if split else name


def require_folder(root: Path) -> None:
    """Raise an error if a dataset's folder does not exist, is a file or is not readable."""
    if not root.exists():
        raise PathNotFoundError(f"Dataset {str(root)!r} does not exist. Expected the folder of a dataset.")
    if not root.is_dir():
        raise DataError(f"Dataset {str(root)!r} is a file. Expected the folder of a dataset.")
    if not os.access(root, os.R_OK | os.X_OK):
        raise PathAccessError(f"Dataset {str(root)!r} cannot be read (permission denied). Change its permissions.")


def list_folders(folder: Path) -> list[Path]:
    """List the folders in a folder, sorted, without hidden ones; an empty list if it does not exist."""
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))


def find_files(folder: Path, extensions: Collection[str] | None = None) -> Iterator[Path]:
    """Yield all files below a folder, sorted, without hidden ones; see `walk_folders`.

    Args:
        folder: The folder; may not exist.
        extensions: Extensions in lower case; None for all files.
    """
    paths = (here / name for here, _, names in walk_folders(folder) for name in names)
    wanted = (path for path in paths if extensions is None or path.suffix.lower() in extensions)
    return (path for path in sorted(wanted) if path.is_file())


def find_images(folder: Path) -> Iterator[Path]:
    """Yield all files below a folder that have the extension of an image, without arrays that accompany pictures."""
    for _, files in itertools.groupby(find_files(folder, IMAGE_EXTENSIONS), lambda path: path.parent):
        paths = list(files)
        companions = find_companion_arrays(path.name for path in paths)
        yield from (path for path in paths if path.name not in companions)


def find_foreign_files(folders: Iterable[Path]) -> tuple[Path, ...]:
    """Find the files below `folders` that are neither images nor of a kind that accompanies images."""
    return tuple(
        path
        for folder in folders
        for path in sorted(set(find_files(folder)) - set(find_images(folder)))
        if not path.name.lower().endswith(_SIDECAR_ENDINGS)
    )


def find_images_outside(folders: Iterable[Path], used: Collection[Path]) -> tuple[Path, ...]:
    """Find the images below `folders` that are in none of the folders that are used, by no path."""
    resolve = cache(os.path.realpath)
    targets = [Path(resolve(folder)) for folder in used]

    def is_outside(path: Path) -> bool:
        return set(used).isdisjoint(path.parents) and set(targets).isdisjoint(Path(resolve(path.parent), "x").parents)

    return tuple(path for folder in folders for path in find_images(folder) if is_outside(path))


def group_by_stem(folder: Path) -> dict[str, list[Path]]:
    """Group the images below a folder by their relative path without the extension."""
    files: dict[str, list[Path]] = {}
    for path in find_images(folder):
        files.setdefault(path.relative_to(folder).with_suffix("").as_posix(), []).append(path)
    return files


def find_split_paths(paths: Sequence[Path]) -> dict[Split, Path]:
    """Map splits to the folders or list files named after them.

    `val` is preferred to `valid`; of several other names for one split, none is used.
    """
    found: dict[Split, Path] = {}
    for split in SPLITS:
        candidates = [path for path in paths if find_split([path.name.removesuffix(".txt")]) == split]
        exact = [path for path in candidates if path.name.removesuffix(".txt") == split]
        if len(exact or candidates) == 1:
            found[split] = (exact or candidates)[0]
    return found


def find_split(words: Iterable[str]) -> Split | None:
    """Return the split of the first word that names one; None if there is none."""
    return next((_SPLIT_OF_NAME[word.lower()] for word in words if word.lower() in _SPLIT_OF_NAME), None)


def list_path_endings(text: str) -> Iterator[str]:
    """Yield a path of any machine and its endings, the longest first: `x/a/b` → `x/a/b`, `a/b`, `b`."""
    parts = [part for part in text.replace("\\", "/").split("/") if part not in ("", ".")]
    yield from ("/".join(parts[i:]) for i in range(len(parts)) if i == 0 or ".." not in parts[i:])


def read_lines(path: Path) -> list[tuple[int, str]]:
    """Read numbers and stripped text of the lines of a text file, without empty ones."""
    return [(number, line.strip()) for number, line in enumerate(read_text(path).splitlines(), 1) if line.strip()]


def read_class_names(path: Path) -> list[str]:
    """Read one class name per line."""
    names: list[str] = []
    for number, name in read_lines(path):
        if name in names:
            raise DataError(f"{path}, line {number}: The class {name!r} is listed twice. Give each class its own name.")
        names.append(name)
    if not names:
        raise DataError(f"{path} lists no classes. Write one name per line, or remove the file.")
    return names


def parse_class_colors(
    path: Path, lines: Iterable[tuple[int, str]], split_line: Callable[[str], tuple[str, Sequence[str]]], form: str
) -> DatasetDescription:
    """Parse lines of a class name and a color; `split_line` splits one, and errors show the expected `form`."""
    names, colors = [], []
    for number, line in lines:
        try:
            name, color = split_line(line)
            parsed = parse_color([int(value) for value in color])
        except (DataError, ValueError, IndexError) as error:
            raise DataError(f"{path}, line {number}: {line!r} does not have the form {form}. Correct it.") from error
        names.append(name.strip())
        colors.append(parsed)
    return DatasetDescription(names=tuple(names), colors=tuple(colors))
