"""Formats where one file lists many images with what is drawn on them."""

import posixpath
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from pixelwise.data.formats._documents import well_formed
from pixelwise.data.formats._polygons import Drawing, DrawingReader, DrawnClasses, drawn_pairing, sample_name
from pixelwise.data.formats.dataset_index import DatasetIndex
from pixelwise.data.sample import Sample, Split
from pixelwise.errors import DataError

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed(Generic[T]):
    """An image as a file lists it."""

    document: Path
    """The file."""
    name: str
    """Of the image, as the file has it."""
    split: Split | None
    content: T
    """What is drawn, as the file has it."""

    @property
    def place(self) -> str:
        return f"{self.document}: image {self.name!r}"


def listed_pairing(
    root: Path,
    listed: Sequence[Listed[T]],
    pictures: Iterable[Path],
    folders: Mapping[Path, Sequence[str]],
    draw: Callable[[T], Drawing],
    classes: DrawnClasses,
) -> DatasetIndex:
    """The listed images among the pictures, which `draw` gives their shapes.

    `folders`: for each document the folders below the root where its images may lie, the likeliest first.
    Pictures beside listed ones that no document lists are without mask; those of other folders are in no split.
    """
    known = set(pictures)
    found, missing = _match(root, listed, known, folders)
    by_name = {sample_name(root, path): entry for path, entry in found.items()}
    used = {path.parent for path in found}

    def draw_sample(sample: Sample) -> Drawing:
        entry = by_name[sample.name]
        with well_formed(entry.place):
            return draw(entry.content)

    return drawn_pairing(
        [_sample(root, path, entry) for path, entry in found.items()],
        DrawingReader(draw_sample, classes),
        classes,
        images_without_mask=[path for path in known - set(found) if path.parent in used],
        masks_without_image=missing,
        outside_splits=[path for path in known - set(found) if path.parent not in used],
    )


def _match(
    root: Path, listed: Sequence[Listed[T]], pictures: Collection[Path], folders: Mapping[Path, Sequence[str]]
) -> tuple[dict[Path, Listed[T]], list[Path]]:
    """Image file → its entry, and where the files of the other entries should be."""
    found: dict[Path, Listed[T]] = {}
    missing: list[Path] = []
    for entry in listed:
        path = _find(root, entry.name, folders[entry.document], pictures)
        if path is None:
            missing.append(root / folders[entry.document][0] / _names(entry.name)[-1])
        elif path in found:
            raise DataError(f"{path} is listed twice, in {found[path].document} and in {entry.document}; keep one.")
        else:
            found[path] = entry
    if not found:
        where = f"{listed[0].place} and all others are" if listed else f"{', '.join(map(str, folders))}: no image is"
        raise DataError(f"{where} not below {root}; put the images there.")
    return found, missing


def _find(root: Path, name: str, folders: Sequence[str], pictures: Collection[Path]) -> Path | None:
    tries = (root / posixpath.normpath(f"{folder}/{form}") for form in _names(name) for folder in folders)
    return next((path for path in tries if path in pictures), None)


def _names(name: str) -> tuple[str, str]:
    """An image's name as given, and its last part: tools write paths of their own machines."""
    whole = name.replace("\\", "/")
    return whole, posixpath.basename(whole)


def _sample(root: Path, path: Path, entry: Listed[T]) -> Sample:
    return Sample(name=sample_name(root, path), image_path=path, label_path=entry.document, split=entry.split)
