"""COCO instances: JSON files of images, categories and annotations as polygons or run lengths.

    annotations/instances_train2017.json    train.json            train/_annotations.coco.json
    train2017/000000000009.jpg              images/0001.jpg       train/0001.jpg

The split is in the name of the JSON file, or else of its folder. Coordinates start at the corner of the first pixel.
Later annotations cover earlier ones; crowds (`iscrowd`), whose outlines are the roughest, are below all others. An
image without annotations is background.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from pixelwise.data.colors import Color
from pixelwise.data.formats._documents import (
    Record,
    format_value,
    get_flag,
    get_id,
    get_integers,
    get_records,
    get_size,
    get_text,
    locate_errors,
    pair_coordinates,
    parse_id,
    parse_number,
    parse_size,
    read_ends,
)
from pixelwise.data.formats._shapes import ImageShapes, ListedImage, ShapeClasses, index_listed_images, make_classes
from pixelwise.data.formats.dataset_index import DatasetIndex, find_images, find_split
from pixelwise.data.io.images import Array
from pixelwise.data.rasterize import Bitmap, DrawnShape, Polygon, decode_run_lengths
from pixelwise.data.sample import Split
from pixelwise.errors import DataError
from pixelwise.files import read_json
from pixelwise.shapes import Size

_Categories = Mapping[str, tuple[str, Color | None]]
"""Id → name and color."""
_Content = tuple[Record, Sequence[Record], _Categories]
"""An image, its annotations, and the categories of its document."""

_KEYS = re.compile(r'"(images|annotations|categories)"\s*:\s*\[|"(annotations)"\s*:\s*\{')
_NUM_END_BYTES = 65536
_FILE_NAME = re.compile(r"instances_|_annotations\.coco\.json$")
_FOLDERS = ("", "annotations", "train", "val", "valid", "test")
_UNLABELED = re.compile(r"(test|unlabeled)\d*", re.IGNORECASE)
"""Folders of images that COCO publishes without annotations."""
_VISUALIZATION = "Visualization"
"""Folder of drawn annotations that LabelMe's labelme2coco writes next to its images."""


def can_read(root: Path) -> bool:
    return bool(_find_documents(root))


def find_pairs(root: Path) -> DatasetIndex:
    """Find the images of all JSON files, which are read once; masks are painted when they are read."""
    documents = {path: read_json(path) for path in _find_documents(root)}
    if not documents:
        raise DataError(f"{root} has no COCO file. Put instances_train.json, ... into annotations/.")
    categories: dict[Path, _Categories] = {}
    listed: list[ListedImage[_Content]] = []
    for path, document in documents.items():
        with locate_errors(path):
            categories[path] = _read_categories(document)
            listed += _list_images(document, path, _find_document_split(root, path), categories[path])
    classes = _make_classes(categories)
    images = [path for path in find_images(root) if path.parent != root / _VISUALIZATION]
    is_labeled = any(entry.split == "test" for entry in listed)
    unlabeled = [path for path in images if _UNLABELED.fullmatch(path.parent.name) and not is_labeled]
    images = [path for path in images if path not in set(unlabeled)]
    folders = {path: _list_folders(root, path) for path in documents}
    index = index_listed_images(root, listed, images, folders, partial(_parse_shapes, classes=classes), classes)
    return replace(index, unlabeled_images=tuple(unlabeled))


def _find_documents(root: Path) -> list[Path]:
    """Find the instances files; next to them COCO has other files, of captions and keypoints."""
    found = []
    for folder in _FOLDERS:
        files = [path for path in sorted((root / folder).glob("*.json")) if _is_coco(path)]
        found += [path for path in files if path.name.startswith("instances")] or files
    return found


def _is_coco(path: Path) -> bool:
    """Recognize a file by its name, even if it is damaged, or by two of its keys near its start and end."""
    return bool(_FILE_NAME.match(path.name)) or len(set(_KEYS.findall(read_ends(path, _NUM_END_BYTES)))) >= 2


def _read_categories(document: Any) -> _Categories:
    """Read the categories, without the parent that Roboflow adds: other categories name it, no annotation does."""
    categories = _index_by_id(document, "categories")
    used = {parse_id(annotation.get("category_id")) for annotation in _get_annotations(document)}
    parents = [category.get("supercategory") for category in categories.values()]
    found = {}
    for key, category in categories.items():
        with locate_errors(f"category {key:.40}"):
            name = get_text(category, "name")
        is_root = category.get("supercategory") in (None, "", "none")
        if key in used or not is_root or name not in parents:
            found[key] = name, _parse_category_color(category.get("color"))
    return found


def _get_annotations(document: Any) -> list[Record]:
    """Return the annotations, a list or, as in LIVECell, an object of them."""
    found = document.get("annotations")
    return get_records({"annotations": list(found.values())} if isinstance(found, Mapping) else document, "annotations")


def _index_by_id(document: Any, key: str) -> dict[str, Record]:
    """Index the objects of a list by their ids, which must differ."""
    found: dict[str, Record] = {}
    for number, record in enumerate(get_records(document, key), 1):
        with locate_errors(f"entry {number} of {key!r}"):
            if found.setdefault(get_id(record, "id"), record) is not record:
                raise DataError(f"Another entry has the id {format_value(record['id'])}, too. Give each its own id.")
    return found


def _make_classes(documents: Mapping[Path, _Categories]) -> ShapeClasses:
    """Make the classes of all documents by their names, in the order of the ids where a name occurs first."""
    ids: dict[str, str] = {}
    colors: dict[str, Color | None] = {}
    for path, categories in documents.items():
        names = [name for name, _ in categories.values()]
        if duplicate := next((name for name in names if names.count(name) > 1), None):
            raise DataError(f"{path} lists the class {duplicate!r} twice. Give each class its own name.")
        for key, (name, color) in categories.items():
            ids.setdefault(name, key)
            colors[name] = colors.get(name) or color
    first = next(iter(documents))
    if not ids:
        raise DataError(f"{first} lists no categories. Add those of the annotations.")
    ordered = sorted(ids, key=lambda name: (len(ids[name]), ids[name]))  # the order of the numbers
    return make_classes(first, [(name, name, colors[name]) for name in ordered])


def _parse_category_color(color: Any) -> Color | None:
    """Parse the color that some tools add to a category; COCO itself has none."""
    if isinstance(color, list) and len(color) == 3 and all(type(part) is int and 0 <= part <= 255 for part in color):
        return color[0], color[1], color[2]
    return None


def _list_images(
    document: Any, path: Path, split: Split | None, categories: _Categories
) -> Iterator[ListedImage[_Content]]:
    images = _index_by_id(document, "images")
    by_image: dict[str, list[Record]] = {key: [] for key in images}
    unlisted: list[str] = []
    for annotation in _get_annotations(document):
        if "segments_info" in annotation:
            raise DataError("The file contains panoptic segments. Use the instances file of the same images.")
        with locate_errors(_name_annotation(annotation)):
            key = get_id(annotation, "image_id")
        if key in by_image:
            by_image[key].append(annotation)
        else:
            unlisted.append(f"{_name_annotation(annotation)}: belongs to image {key:.40}")
    if unlisted:
        more = f" and {len(unlisted) - 12} more" if len(unlisted) > 12 else ""
        shown = ", ".join(unlisted[:12])
        raise DataError(f"{shown}{more}, which is not listed. List the image, or remove the annotation.")
    for key, image in images.items():
        with locate_errors(f"image {key:.40}"):
            name = get_text(image, "file_name" if image.get("file_name") or not image.get("coco_url") else "coco_url")
        yield ListedImage(document=path, name=name, split=split, content=(image, by_image[key], categories))


def _find_document_split(root: Path, path: Path) -> Split | None:
    words = re.split(r"[^A-Za-z]+", path.stem)
    return find_split([*words, *reversed(path.parent.relative_to(root).parts)])


def _list_folders(root: Path, document: Path) -> list[str]:
    """List the folders that may have the images of a JSON file, the most likely one first."""
    name, parent = document.stem.removeprefix("instances_"), document.parent.relative_to(root).as_posix()
    own = [] if parent == "annotations" else [parent, f"{parent}/images"]
    split = _find_document_split(root, document)
    named = [name, f"images/{name}"] + ([split, f"images/{split}"] if split else [])
    return [*own, *named, "images", "."]


def _parse_shapes(content: _Content, classes: ShapeClasses) -> ImageShapes:
    """Parse the annotations of an image; the size is that of run lengths where the image does not have one."""
    image, annotations, categories = content
    size = get_size(image)
    shapes: list[DrawnShape] = []
    crowds: list[DrawnShape] = []
    for annotation in annotations:
        with locate_errors(_name_annotation(annotation)):
            key = get_id(annotation, "category_id")
            if key not in categories:
                known = ", ".join(f"{key:.40}" for key in list(categories)[:12])
                raise DataError(
                    f"The category {key:.40} is not among those listed ({known}). List it, or correct the id."
                )
            value = classes.get_value(categories[key][0])
            for part in _list_parts(annotation):
                layer = crowds if get_flag(annotation, "iscrowd") else shapes
                if isinstance(part, Mapping):
                    size = size or parse_size(*get_integers(part, "size", 2))
                    layer.append(Bitmap(value=value, pixels=_decode_runs(part, size)))
                else:
                    layer.append(Polygon(value=value, outline=pair_coordinates(part, "the polygon")))
    return size, crowds + shapes


def _name_annotation(annotation: Record) -> str:
    return f"annotation {format_value(annotation.get('id'))}"


def _list_parts(annotation: Record) -> Sequence[Any]:
    """List the polygons and run lengths of an annotation; some tools write a single polygon without its list."""
    outline = annotation.get("segmentation")
    if outline is None or outline in ([], {}, ""):
        raise DataError("It has at most a box, but no segmentation. Draw its outline, or remove it.")
    is_list = isinstance(outline, list) and parse_number(outline[0]) is None
    parts: Sequence[Any] = outline if is_list else [outline]
    if other := [part for part in parts if not isinstance(part, list | Mapping)]:
        raise DataError(
            f"'segmentation' contains {format_value(other[0])}. Expected polygons x1, y1, x2, y2, ... or run lengths. "
            f"Export the annotations again."
        )
    areas = [part for part in parts if isinstance(part, Mapping) or len(part) not in (2, 4)]
    return areas or parts  # next to an area, a single point or a line is a remnant without pixels


def _decode_runs(runs: Record, size: Size) -> Array:
    """Decode run lengths along the columns to (H, W) bool."""
    if (given := get_integers(runs, "size", 2)) != [*size]:
        raise DataError(
            f"The run lengths are for size {given}, but the image has {list(size)} (height, width). "
            f"Export the mask again."
        )
    counts = runs.get("counts")
    lengths = list(_unpack_counts(counts)) if isinstance(counts, str) else get_integers(runs, "counts")
    return decode_run_lengths(lengths, (size[1], size[0])).T


def _unpack_counts(text: str) -> Iterator[int]:
    """Yield the run lengths of COCO's compressed form.

    Each number is split into groups of five bits, the lowest first. Each group plus 48 is a character, plus 32 if
    more groups follow; the highest bit of the last group is the sign. From the fourth number on, numbers are
    differences to the last but one. (pycocotools reads the same, but leaves random values if runs end too early.)
    """
    previous = [0, 0]
    number = shift = count = 0
    for character in text:
        group = ord(character) - 48
        if not 0 <= group < 64 or shift > 60:
            raise DataError(
                f"{format_value(text)} are not run lengths in COCO's compressed form. Export the mask again."
            )
        number |= (group & 31) << shift
        shift += 5
        if group & 32:
            continue
        number -= (1 << shift) if group & 16 else 0
        number += previous[0] if count > 2 else 0
        previous = [previous[1], number]
        yield number
        number = shift = 0
        count += 1
    if shift:
        raise DataError("The run lengths end within a number. Export the mask again.")
