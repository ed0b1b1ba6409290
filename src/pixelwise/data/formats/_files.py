"""Listings of folders and index files, and the one rule by which images and masks are paired."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pixelwise.data.formats.dataset_index import DatasetIndex
from pixelwise.data.io.images import IMAGE_EXTENSIONS
from pixelwise.data.sample import SPLITS, Sample, Split
from pixelwise.errors import DataError, PathNotFoundError

Files = Mapping[str, Sequence[Path]]
"""Name → the files of that name: one, unless they clash."""

SPLIT_NAMES: Mapping[Split, tuple[str, ...]] = {
    "train": ("train", "training"),
    "val": ("val", "valid", "validation", "eval"),
    "test": ("test", "testing"),
}
"""What folders of a split are called, in any case; the first name stands before the others."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """The images and masks of one split. Those of one name are a pair."""

    images: Files
    labels: Files
    split: Split | None


def match(parts: Iterable[Part]) -> DatasetIndex:
    """All pairs, and the files that are in none. Where a name has several files, none is taken."""
    samples: list[Sample] = []
    without_mask: list[Path] = []
    without_image: list[Path] = []
    same_stem: list[Path] = []
    for part in parts:
        clashing = {n for files in (part.images, part.labels) for n, paths in files.items() if len(paths) > 1}
        same_stem += [p for files in (part.images, part.labels) for n in clashing for p in _several(files.get(n, ()))]
        images, labels = part.images.keys() - clashing, part.labels.keys() - clashing
        samples += [_sample(part, name) for name in images & labels]
        without_mask += [part.images[name][0] for name in images - labels]
        without_image += [part.labels[name][0] for name in labels - images]
    return DatasetIndex(
        samples=tuple(sorted(samples)),
        images_without_mask=tuple(sorted(without_mask)),
        masks_without_image=tuple(sorted(without_image)),
        same_stem=tuple(sorted(same_stem)),
    )


def labeled(parts: Iterable[Part]) -> list[Part]:
    """The parts less a test split without a single mask: many sets keep those of test to themselves."""
    return [part for part in parts if part.labels or part.split != "test"]


def by_stem(folder: Path) -> dict[str, list[Path]]:
    """Path below the folder without its ending → the pictures of that stem."""
    files: dict[str, list[Path]] = {}
    for path in filter(is_picture, files_below(folder)):
        files.setdefault(path.relative_to(folder).with_suffix("").as_posix(), []).append(path)
    return files


def files_below(folder: Path) -> Iterator[Path]:
    """Every file below the folder, sorted; hidden ones are the system's, not the user's."""
    for path in sorted(folder.rglob("*")):
        hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        if path.is_file() and not hidden:
            yield path


def outside(folders: Iterable[Path], used: Collection[Path]) -> tuple[Path, ...]:
    """The pictures in some folders that lie in none of those that are used."""
    below = [path for folder in folders for path in files_below(folder)]
    return tuple(path for path in below if is_picture(path) and set(used).isdisjoint(path.parents))


def require_folder(root: Path) -> None:
    """Raise PathNotFoundError if a dataset's folder does not exist, and DataError if it is a file."""
    if not root.exists():
        raise PathNotFoundError(f"The dataset folder {str(root)!r} does not exist; check the path.")
    if not root.is_dir():
        raise DataError(f"The dataset {str(root)!r} is a file; give the folder with images/ and masks/.")


def folders_in(folder: Path) -> list[Path]:
    """The folders that lie in a folder, sorted, less the hidden ones; none where there is no folder."""
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))


def is_picture(path: Path) -> bool:
    return path.suffix.lower() in IMAGE_EXTENSIONS


def of_splits(paths: Sequence[Path]) -> dict[Split, Path]:
    """Folders or list files by the split that their name tells; where several tell one, none is taken.

    `val` is taken before `valid` and its like.
    """
    named = {split: [p for p in paths if _told(p).lower() in SPLIT_NAMES[split]] for split in SPLITS}
    found: dict[Split, Path] = {}
    for split, candidates in named.items():
        plain = [path for path in candidates if _told(path) == split]
        if len(plain or candidates) == 1:
            found[split] = (plain or candidates)[0]
    return found


def read_lines(path: Path) -> list[tuple[int, str]]:
    """Line numbers and lines of a text file, stripped, without the empty ones."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read ({error}); save it as UTF-8 text.") from error
    return [(number, line.strip()) for number, line in enumerate(text.splitlines(), 1) if line.strip()]


def read_names(path: Path) -> list[str]:
    """Class names, one a line. DataError where one stands there twice."""
    names: list[str] = []
    for number, name in read_lines(path):
        if name in names:
            raise DataError(f"{path}, line {number}: {name!r} stands there twice; give each class its own name.")
        names.append(name)
    if not names:
        raise DataError(f"{path} names no class; write one name a line, or remove the file.")
    return names


def _told(path: Path) -> str:
    return path.name.removesuffix(".txt")


def _sample(part: Part, name: str) -> Sample:
    full = f"{part.split}/{name}" if part.split else name
    return Sample(name=full, image_path=part.images[name][0], label_path=part.labels[name][0], split=part.split)


def _several(paths: Sequence[Path]) -> Sequence[Path]:
    return paths if len(paths) > 1 else ()
