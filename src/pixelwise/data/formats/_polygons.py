"""What the formats share whose labels are shapes: painting them, naming their classes, sorting out their files.

A pixel that no shape covers is background, class 0.
"""

from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pixelwise.data.classes import Color, default_colors, ignore_index_for
from pixelwise.data.formats.dataset_index import DatasetIndex, SampleReader
from pixelwise.data.io.images import IMAGE_EXTENSIONS, Array
from pixelwise.data.rasterize import DrawnShape, rasterize
from pixelwise.data.sample import SPLITS, Sample, Split
from pixelwise.errors import DataError
from pixelwise.shapes import Size

_BACKGROUND_NAMES = ("background", "_background_")
_IGNORE_NAMES = ("ignore", "__ignore__")
_SPLIT_WORDS: Mapping[str, Split] = {
    **{split: split for split in SPLITS},
    "training": "train",
    "valid": "val",
    "validation": "val",
    "testing": "test",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawing:
    """The shapes on one image, from the lowest to the uppermost."""

    size: Size
    """As the annotation gives it; whether the image agrees is for the caller of `read_mask` to see."""
    shapes: Sequence[DrawnShape]


@dataclass(frozen=True, slots=True, kw_only=True)
class DrawnClasses:
    """Which mask value stands for which class of a format; 0 is background."""

    values: Mapping[Hashable, int]
    """Whatever the format calls a class by → mask value."""
    description: Mapping[str, Any]
    """For `DatasetIndex.description`."""

    @property
    def ignore_index(self) -> int:
        return ignore_index_for(len(self.description["names"]))

    def value(self, key: Hashable) -> int:
        if key not in self.values:
            known = ", ".join(str(k) for k in list(self.values)[:12])
            raise DataError(f"the class {key!r} is not among those listed ({known}); list it, or correct the label.")
        return self.values[key]


class DrawingReader(SampleReader):
    """Images are files; masks are painted when they are asked for."""

    def __init__(self, draw: Callable[[Sample], Drawing], classes: DrawnClasses) -> None:
        """`draw` reads the shapes of a sample; its DataError names the file and the place in it."""
        self._draw = draw
        self._dtype = np.uint8 if classes.ignore_index == 255 else np.uint16

    def read_mask(self, sample: Sample) -> Array:
        drawing = self._draw(sample)
        return rasterize(drawing.shapes, drawing.size, self._dtype)


def drawn_classes(where: Path, listed: Sequence[tuple[Hashable, str, Color | None]]) -> DrawnClasses:
    """Classes as a format lists them (key, name, color), background put before them unless one has that name.

    What is called `ignore` is no class: its pixels are ignored.
    """
    names = [name for _, name, _ in listed]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise DataError(f"{where} lists the class {twice[0]!r} twice; give each class its own name.")
    own = [row for row in listed if row[1].lower() in _BACKGROUND_NAMES][:1] or [(None, "background", (0, 0, 0))]
    rows = own + [row for row in listed if row not in own and row[1].lower() not in _IGNORE_NAMES]
    ignore_index = ignore_index_for(len(rows))
    values = {row[0]: rows.index(row) if row in rows else ignore_index for row in listed}
    return DrawnClasses(values=values, description=_described(rows))


def _described(rows: Sequence[tuple[Hashable, str, Color | None]]) -> dict[str, Any]:
    description: dict[str, Any] = {"names": [name for _, name, _ in rows], "coding": "index"}
    ignore_index = ignore_index_for(len(rows))
    if ignore_index != 255:  # 255 is then a class, which a mapping must say
        description |= {"label_mapping": {i: i for i in range(len(rows))}, "ignore": ignore_index}
    if any(color for _, _, color in rows[1:]):
        spare = default_colors(len(rows))
        description["colors"] = [list(color or other) for (_, _, color), other in zip(rows, spare, strict=True)]
    return description


def drawn_pairing(
    samples: Iterable[Sample],
    reader: DrawingReader,
    classes: DrawnClasses,
    *,
    images_without_mask: Iterable[Path] = (),
    masks_without_image: Iterable[Path] = (),
    outside_splits: Iterable[Path] = (),
    foreign_files: Iterable[Path] = (),
) -> DatasetIndex:
    """The pairs in order. Those of one name are told apart from the others, as are those without a split where
    others have one."""
    by_name: dict[str, list[Sample]] = {}
    for sample in samples:
        by_name.setdefault(sample.name, []).append(sample)
    single = [group[0] for group in by_name.values() if len(group) == 1]
    in_splits = [sample for sample in single if sample.split]
    stray = [sample.image_path for sample in single if in_splits and not sample.split]
    return DatasetIndex(
        samples=tuple(sorted(in_splits or single)),
        images_without_mask=tuple(sorted(images_without_mask)),
        masks_without_image=tuple(sorted(masks_without_image)),
        same_stem=tuple(sorted({p for group in by_name.values() for p in _clash(group)})),
        outside_splits=tuple(sorted({*outside_splits, *stray})),
        foreign_files=tuple(sorted(foreign_files)),
        reader=reader,
        description=classes.description,
    )


def files_below(root: Path, endings: tuple[str, ...] = IMAGE_EXTENSIONS) -> Iterator[Path]:
    """Every file of these endings below the folder, sorted; hidden ones are the system's, not the user's."""
    for path in sorted(root.rglob("*")):
        hidden = any(part.startswith(".") for part in path.relative_to(root).parts)
        if path.suffix.lower() in endings and not hidden and path.is_file():
            yield path


def sample_name(root: Path, path: Path) -> str:
    """The path below the root without its ending and without folders that every image has: `train/0001`."""
    parts = path.relative_to(root).with_suffix("").parts
    return "/".join([part for part in parts[:-1] if part not in ("images", "img", "datasets")] + [parts[-1]])


def split_named(word: str) -> Split | None:
    """`train`, `Validation`, `valid`, ... → the split of that name; None of any other word."""
    return _SPLIT_WORDS.get(word.lower())


def split_among(folders: Iterable[str]) -> Split | None:
    """The split that one of the folders is named after."""
    return next(filter(None, map(split_named, folders)), None)


def _clash(group: Sequence[Sample]) -> set[Path]:
    """Of samples of one name the files that differ: two images of one stem, or two labels of one image."""
    if len(group) == 1:
        return set()
    images = {sample.image_path for sample in group}
    return images if len(images) > 1 else {sample.label_path for sample in group}
