"""COCO instances: JSON files of images, categories and annotations, by polygons or run lengths.

    annotations/instances_train2017.json    train.json            train/_annotations.coco.json
    train2017/000000000009.jpg              images/0001.jpg       train/0001.jpg

The split is in the name of the JSON file, or else of its folder; files without one hold one set. Coordinates count
from the corner of the first pixel. Later annotations lie over earlier ones, and crowds (`iscrowd`), whose outlines
are the roughest, below all others. An image without annotations is background.
"""

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from pixelwise.data.classes import Color
from pixelwise.data.formats._documents import peek, size_of, well_formed
from pixelwise.data.formats._index_files import Listed, listed_pairing
from pixelwise.data.formats._polygons import Drawing, DrawnClasses, drawn_classes, files_below, split_among
from pixelwise.data.formats.dataset_index import DatasetIndex
from pixelwise.data.io.images import Array
from pixelwise.data.rasterize import Bitmap, DrawnShape, Polygon, decode_run_lengths
from pixelwise.data.sample import Split
from pixelwise.errors import DataError
from pixelwise.files import read_json
from pixelwise.shapes import Size

_Record = Mapping[str, Any]
_Content = tuple[_Record, list[_Record]]
"""An image and its annotations."""

_KEYS = re.compile(r'"(images|annotations|categories)"\s*:\s*\[')
_PEEK = 65536
_NAME = re.compile(r"instances_|_annotations\.coco\.json$")
_FOLDERS = ("", "annotations", "train", "val", "valid", "test")
_UNLABELED = re.compile(r"(test|unlabeled)\d*", re.IGNORECASE)
"""Folders of images that COCO itself publishes without annotations."""


def find_pairs(root: Path) -> DatasetIndex:
    """All images of the JSON files. The files are read here, once; masks are painted when they are asked for."""
    documents = {path: read_json(path) for path in _annotation_files(root)}
    if not documents:
        raise DataError(f"{root} holds no COCO file; put instances_train.json, ... into annotations/.")
    classes = _classes(documents)
    listed = [entry for path, document in documents.items() for entry in _listed(root, path, document)]
    pictures = list(files_below(root))
    if all(entry.split != "test" for entry in listed):
        pictures = [path for path in pictures if not _UNLABELED.fullmatch(path.parent.name)]
    folders = {path: _folders(root, path) for path in documents}
    return listed_pairing(root, listed, pictures, folders, partial(_draw, classes=classes), classes)


def _annotation_files(root: Path) -> list[Path]:
    return [path for folder in _FOLDERS for path in _files_in(root / folder)]


def _files_in(folder: Path) -> list[Path]:
    """The files of this form; beside `instances_...` COCO puts others, of captions and keypoints."""
    files = [path for path in sorted(folder.glob("*.json")) if _is_coco(path)]
    return [path for path in files if path.name.startswith("instances")] or files


def _is_coco(path: Path) -> bool:
    """Told by its name, even if it is broken, or by the lists it must hold: two of them begin near its ends."""
    return bool(_NAME.match(path.name)) or len(set(_KEYS.findall(peek(path, _PEEK)))) >= 2


def _classes(documents: Mapping[Path, Any]) -> DrawnClasses:
    """The categories of all files, in ascending order of their ids."""
    names: dict[int, str] = {}
    colors: dict[int, Color | None] = {}
    for path, document in documents.items():
        with well_formed(str(path)):
            for category in document["categories"]:
                key, name = int(category["id"]), str(category["name"])
                colors[key] = _color(category.get("color"))
                if names.setdefault(key, name) != name:
                    raise DataError(f"category {key} is {name!r}, but {names[key]!r} in another file; agree on one.")
    first = next(iter(documents))
    if not names:
        raise DataError(f"{first} lists no categories; add those of the annotations.")
    return drawn_classes(first, [(key, names[key], colors[key]) for key in sorted(names)])


def _color(given: Any) -> Color | None:
    """Some tools add one to a category; COCO knows none."""
    if isinstance(given, list) and len(given) == 3 and all(type(part) is int and 0 <= part <= 255 for part in given):
        return given[0], given[1], given[2]
    return None


def _listed(root: Path, path: Path, document: Any) -> list[Listed[_Content]]:
    split = _split(root, path)
    with well_formed(str(path)):
        images, annotations = document["images"], document["annotations"]
        by_image: dict[Any, list[_Record]] = {image["id"]: [] for image in images}
        if len(by_image) < len(images):
            twice = Counter(image["id"] for image in images).most_common(1)[0][0]
            raise DataError(f"two images have the id {twice}; number them apart.")
        for annotation in annotations:
            _require_instance(annotation, by_image)
            by_image[annotation["image_id"]].append(annotation)
        return [
            Listed(document=path, name=str(image["file_name"]), split=split, content=(image, by_image[image["id"]]))
            for image in images
        ]


def _require_instance(annotation: _Record, images: Mapping[Any, Any]) -> None:
    if "segments_info" in annotation:
        raise DataError("holds panoptic segments; use the instances file of the same images.")
    if annotation["image_id"] not in images:
        number = annotation["image_id"]
        raise DataError(f"{_number(annotation)} is of image {number}, which is not listed; list it, or remove both.")


def _split(root: Path, path: Path) -> Split | None:
    words = re.split(r"[^A-Za-z]+", path.stem)
    return split_among([*words, *reversed(path.parent.relative_to(root).parts)])


def _folders(root: Path, document: Path) -> list[str]:
    """Where the images of a JSON file may lie, below the root, the likeliest first."""
    name, parent = document.stem.removeprefix("instances_"), document.parent.relative_to(root).as_posix()
    beside = [] if parent == "annotations" else [parent, f"{parent}/images"]
    split = _split(root, document)
    named = [name, f"images/{name}"] + ([split, f"images/{split}"] if split else [])
    return [*beside, *named, "images", "."]


def _draw(content: _Content, classes: DrawnClasses) -> Drawing:
    image, annotations = content
    size = size_of(image["height"], image["width"])
    crowds_first = sorted(annotations, key=lambda annotation: not annotation.get("iscrowd"))
    return Drawing(size=size, shapes=[s for a in crowds_first for s in _shapes(a, size, classes)])


def _shapes(annotation: _Record, size: Size, classes: DrawnClasses) -> Iterator[DrawnShape]:
    with well_formed(_number(annotation)):
        value, outline = classes.value(annotation["category_id"]), annotation.get("segmentation")
        if not outline:
            raise DataError("has no segmentation, at most a box; draw its outline, or remove it.")
        if isinstance(outline, Mapping):
            yield Bitmap(value=value, pixels=_decode(outline, size))
        else:
            yield from (Polygon(value=value, outline=_corners(part)) for part in outline)


def _number(annotation: _Record) -> str:
    return f"annotation {annotation.get('id')}"


def _corners(numbers: Sequence[float]) -> Array:
    if len(numbers) % 2:
        raise DataError(f"a polygon has {len(numbers)} numbers, but x and y come in pairs; draw it once more.")
    return np.reshape(numbers, (-1, 2))


def _decode(runs: _Record, size: Size) -> Array:
    """Run lengths down the columns → (H, W) bool."""
    if tuple(runs["size"]) != size:
        found, wanted = runs["size"], list(size)
        raise DataError(
            f"run lengths for {found}, but the image is {wanted} (height, width); export the mask once more."
        )
    counts = runs["counts"]
    lengths = list(_unpacked(counts)) if isinstance(counts, str) else counts
    return decode_run_lengths(lengths, (size[1], size[0])).T


def _unpacked(text: str) -> Iterator[int]:
    """The run lengths that COCO packs into a text ("compressed" ones).

    Each number is cut into groups of five bits, the lowest first, each group plus 48 a character, plus 32 where
    more follow; the highest bit of the last group is the sign. From the fourth on, numbers are differences to
    the last but one. (pycocotools reads the same, but leaves chance values where runs end too early.)
    """
    before = [0, 0]
    number = shift = count = 0
    for character in text.encode("ascii"):
        group = character - 48
        if not 0 <= group < 64 or shift > 60:
            raise DataError(f"the run lengths {text[:20]!r} are none that COCO packs; export the mask once more.")
        number |= (group & 31) << shift
        shift += 5
        if group & 32:
            continue
        number -= (1 << shift) if group & 16 else 0
        number += before[0] if count > 2 else 0
        before = [before[1], number]
        yield number
        number = shift = 0
        count += 1
    if shift:
        raise DataError("the run lengths end within a number; export the mask once more.")


def can_read(root: Path) -> bool:
    return bool(_annotation_files(root))
