"""Formats whose labels are shapes: their classes, the masks painted from them, and the images that a file lists.

A pixel that no shape covers is background, class 0.
"""

from collections.abc import Callable, Collection, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from posixpath import normpath
from typing import Generic, TypeVar
from urllib.parse import unquote, urlsplit

import numpy as np

from pixelwise.data.class_names import IGNORE_NAMES
from pixelwise.data.classes import ignore_index_for
from pixelwise.data.colors import Color, choose_colors
from pixelwise.data.description import DatasetDescription
from pixelwise.data.formats._documents import format_value, locate_errors
from pixelwise.data.formats.dataset_index import (
    DatasetIndex,
    SampleReader,
    find_split,
    list_path_endings,
    remove_sample_aliases,
)
from pixelwise.data.io.images import Array, read_size
from pixelwise.data.rasterize import DrawnShape, rasterize
from pixelwise.data.sample import Sample, Split
from pixelwise.errors import DataError
from pixelwise.shapes import Size

T = TypeVar("T")

ImageShapes = tuple[Size | None, Sequence[DrawnShape]]
"""The size of an image by its annotation and its shapes, the uppermost last.

The size may differ from the real one; None where the annotation does not have it.
"""

_BACKGROUND_NAMES = ("background", "_background_")
_WITHOUT_AREA = (
    *("point", "points", "line", "linestrip", "polyline"),
    *("cuboid", "cuboid_2d", "skeleton", "graph"),
)
"""Types of shapes in all tools that have no area of pixels."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ShapeClasses:
    """The classes of a format and their mask values; 0 is background."""

    source: Path
    """The file that lists the classes."""
    values: Mapping[Hashable, int]
    """The format's key of a class → mask value."""
    description: DatasetDescription
    """For `DatasetIndex.description`."""

    @property
    def ignore_index(self) -> int:
        return ignore_index_for(len(self.description.names or ()))

    def get_value(self, key: Hashable) -> int:
        """Return the mask value of a class; raise DataError for an unknown one."""
        if key not in self.values:
            known = ", ".join(format_value(k) for k in list(self.values)[:12])
            raise DataError(
                f"The class {format_value(key)} is not among those in {self.source.name} ({known}). List it there, or "
                f"correct the label."
            )
        return self.values[key]


class ShapeReader(SampleReader):
    """Reads images from files, and paints masks from shapes when they are read."""

    def __init__(self, read_shapes: Callable[[Sample], ImageShapes], classes: ShapeClasses) -> None:
        self._read_shapes = read_shapes
        self._dtype = np.uint8 if classes.ignore_index == 255 else np.uint16

    def read_mask(self, sample: Sample) -> Array:
        size, shapes = self._read_shapes(sample)
        return rasterize(shapes, size or self.read_size(sample), self._dtype)

    def read_size(self, sample: Sample) -> Size:
        """Read height and width of the image."""
        return read_size(sample.image_path)


def make_classes(
    source: Path, listed: Sequence[tuple[Hashable, str, Color | None]], *, are_found: bool = False
) -> ShapeClasses:
    """Make the classes from a format's keys, names and colors.

    Background is added in front unless a class has this name. Pixels of a class named `ignore` are ignored.

    Args:
        source: The file or folder that lists them.
        listed: Key, name and color of each class.
        are_found: Whether they are only those that occur, because the format does not list classes.
    """
    names = [name for _, name, _ in listed]
    if duplicates := sorted({name for name in names if names.count(name) > 1}):
        raise DataError(f"{source} lists the class {duplicates[0]!r} twice. Give each class its own name.")
    own = [row for row in listed if row[1].lower() in _BACKGROUND_NAMES][:1] or [(None, "background", (0, 0, 0))]
    rows = own + [row for row in listed if row not in own and row[1].lower() not in IGNORE_NAMES]
    ignore_index = ignore_index_for(len(rows))
    description = DatasetDescription(
        names=tuple(name for _, name, _ in rows),
        colors=choose_colors([name for _, name, _ in rows], {name: color for _, name, color in rows if color})
        if any(color for _, _, color in rows[1:])
        else None,
        # Above 255 classes, 255 is a class, which only a mapping can express.
        label_mapping=None if ignore_index == 255 else {i: i for i in range(len(rows))},
        ignore=None if ignore_index == 255 else (ignore_index,),
        coding="index",
        labels="found" if are_found else "listed",
    )
    values = {row[0]: rows.index(row) if row in rows else ignore_index for row in listed}
    return ShapeClasses(source=source, values=values, description=description)


def make_index(
    samples: Iterable[Sample],
    reader: ShapeReader,
    classes: ShapeClasses,
    *,
    images_without_mask: Iterable[Path] = (),
    masks_without_image: Iterable[Path] = (),
    outside_splits: Iterable[Path] = (),
    foreign_files: Iterable[Path] = (),
) -> DatasetIndex:
    """Make the index of a dataset, without samples that share a name, nor unsplit ones if others have a split."""
    by_name: dict[str, list[Sample]] = {}
    for sample in remove_sample_aliases(samples):
        by_name.setdefault(sample.name, []).append(sample)
    same_stem: set[Path] = set()
    unique = []
    for group in by_name.values():
        images = {sample.image_path for sample in group}
        if len(group) == 1:
            unique += group
        elif len(images) > 1:
            same_stem |= images
        else:  # several labels of one image
            same_stem |= {sample.mask_path for sample in group}
    in_splits = [sample for sample in unique if sample.split]
    unsplit = [sample.image_path for sample in unique if in_splits and not sample.split]
    return DatasetIndex(
        samples=tuple(sorted(in_splits or unique)),
        images_without_mask=tuple(sorted(images_without_mask)),
        masks_without_image=tuple(sorted(masks_without_image)),
        same_stem=tuple(sorted(same_stem)),
        outside_splits=tuple(sorted({*outside_splits, *unsplit})),
        foreign_files=tuple(sorted(foreign_files)),
        reader=reader,
        description=classes.description,
    )


def name_shape(number: str, kind: object, label: object) -> str:
    """Name a shape in messages: `shape 2, polyline 'road'`."""
    return f"{number}, {kind if isinstance(kind, str) and 0 < len(kind) <= 40 else 'shape'} {format_value(label)}"


def refuse_shape(kind: str) -> DataError:
    """Return the error for a shape that is not an area."""
    fault = "covers no pixels" if kind in _WITHOUT_AREA else f"{format_value(kind)} is not a known type of shape"
    return DataError(f"{fault}. Draw its area as a polygon, or remove it.")


def name_sample(root: Path, path: Path) -> str:
    """Name a sample by its relative path without the extension and without folders of all images: `train/0001`."""
    *folders, stem = path.relative_to(root).with_suffix("").parts
    return "/".join([*(folder for folder in folders if folder not in ("images", "img", "datasets")), stem])


def find_image(root: Path, name: str, folders: Sequence[str], images: Collection[Path]) -> Path | None:
    """Find an image by the name in an annotation, which may be a path of another machine or a URL.

    Args:
        root: Folder of the dataset.
        name: Path of the image as the annotation gives it.
        folders: Folders below the root to search, the most likely one first.
        images: All images below the root.
    """
    if "://" in name:
        name = unquote(urlsplit(name).path)
    candidates = (root / normpath(f"{folder}/{end}") for end in list_path_endings(name) for folder in folders)
    return next((path for path in candidates if path in images), None)


def group_by_name(images: Iterable[Path]) -> dict[str, list[Path]]:
    """Group images by their file names."""
    found: dict[str, list[Path]] = {}
    for path in images:
        found.setdefault(path.name, []).append(path)
    return found


def get_only_image(root: Path, candidates: Sequence[Path], split: Split | None) -> Path | None:
    """Return the image of a name if there is only one and its folders do not name another split."""
    if len(candidates) == 1 and find_split(candidates[0].relative_to(root).parts[:-1]) in (None, split):
        return candidates[0]
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedImage(Generic[T]):
    """An image in a document that lists many of them."""

    document: Path
    name: str
    """Path of the image as the document gives it."""
    split: Split | None
    content: T
    """The annotation of the image in the document."""

    @property
    def place(self) -> str:
        return f"{self.document}: image {format_value(self.name)}"


def index_listed_images(
    root: Path,
    listed: Sequence[ListedImage[T]],
    images: Iterable[Path],
    folders: Mapping[Path, Sequence[str]],
    parse_shapes: Callable[[T], ImageShapes],
    classes: ShapeClasses,
) -> DatasetIndex:
    """Make the index of a dataset from the images that documents list.

    Args:
        root: Folder of the dataset.
        listed: The images that are listed.
        images: All images below the root. Those in folders of listed images are without mask, others in no split.
        folders: Document → folders of its images below the root, the most likely one first.
        parse_shapes: Parses the content of a listed image.
        classes: The classes of the dataset.
    """
    known = set(images)
    found, missing = _match_images(root, listed, known, folders)
    if not found:
        subject = f"{listed[0].place} and all others" if listed else f"{', '.join(map(str, folders))}: images"
        raise DataError(f"{subject} do not exist below {root}. Put the images there.")
    used = {path.parent for path in found}

    def read_shapes(sample: Sample) -> ImageShapes:
        entry = found[sample.image_path]
        with locate_errors(sample.mask_location):
            return parse_shapes(entry.content)

    samples = [
        Sample(
            name=name_sample(root, path),
            image_path=path,
            mask_path=entry.document,
            split=entry.split,
            label_entry=path.relative_to(root).as_posix(),
        )
        for path, entry in found.items()
    ]
    unlisted = known - set(found)
    return make_index(
        samples,
        ShapeReader(read_shapes, classes),
        classes,
        images_without_mask=[path for path in unlisted if path.parent in used],
        masks_without_image=missing,
        outside_splits=[path for path in unlisted if path.parent not in used],
    )


def _match_images(
    root: Path, listed: Iterable[ListedImage[T]], images: Collection[Path], folders: Mapping[Path, Sequence[str]]
) -> tuple[dict[Path, ListedImage[T]], list[Path]]:
    """Return the entries by their images, and the paths where the images of the others are expected.

    An image may be deeper in its folders, or elsewhere if a document has no image in its folders: see `get_only_image`.
    """
    found: dict[Path, ListedImage[T]] = {}
    not_found: list[ListedImage[T]] = []
    missing: list[Path] = []
    for entry in listed:
        path = find_image(root, entry.name, folders[entry.document], images)
        if path is None:
            not_found.append(entry)
        elif path in found:
            first, second = found[path].document, entry.document
            places = f" in {first}" if first == second else f", in {first} and in {second}"
            raise DataError(f"{path} is listed twice{places}. Keep only one entry.")
        else:
            found[path] = entry
    unlisted = group_by_name(set(images) - set(found))
    documents = {entry.document for entry in found.values()}
    for entry in not_found:
        name = Path(entry.name.replace("\\", "/")).name
        tops = [root / folder for folder in folders[entry.document] if folder != "." or entry.document not in documents]
        nested = [path for path in unlisted.get(name, ()) if any(map(path.is_relative_to, tops))]
        path = get_only_image(root, nested, entry.split)
        if path and path not in found:
            found[path] = entry
        else:
            missing.append(root / folders[entry.document][0] / name)
    return found, missing
