"""COCO instances: JSON files of images, categories and annotations as polygons or run lengths.

    annotations/instances_train2017.json    train.json            train/_annotations.coco.json
    train2017/000000000009.jpg              images/0001.jpg       train/0001.jpg

The split is in the name of the JSON file, or else of its folder. Coordinates start at the corner of the first pixel.
Later annotations cover earlier ones; crowds (`iscrowd`), whose outlines are the roughest, are below all others. An
image without annotations is background.
"""

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from pixelwise.data.classes import Color
from pixelwise.data.formats._documents import locate_errors, parse_label, parse_size, read_ends
from pixelwise.data.formats._shapes import ImageShapes, ListedImage, ShapeClasses, index_listed_images, make_classes
from pixelwise.data.formats.dataset_index import DatasetIndex, find_images, find_split
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
_NUM_END_BYTES = 65536
_FILE_NAME = re.compile(r"instances_|_annotations\.coco\.json$")
_FOLDERS = ("", "annotations", "train", "val", "valid", "test")
_UNLABELED = re.compile(r"(test|unlabeled)\d*", re.IGNORECASE)
"""Folders of images that COCO publishes without annotations."""


def can_read(root: Path) -> bool:
    return bool(_find_documents(root))


def find_pairs(root: Path) -> DatasetIndex:
    """Find the images of all JSON files, which are read once; masks are painted when they are read."""
    documents = {path: read_json(path) for path in _find_documents(root)}
    if not documents:
        raise DataError(f"{root} has no COCO file. Put instances_train.json, ... into annotations/.")
    classes = _read_classes(documents)
    listed = [entry for path, document in documents.items() for entry in _list_images(root, path, document)]
    images = list(find_images(root))
    if all(entry.split != "test" for entry in listed):
        images = [path for path in images if not _UNLABELED.fullmatch(path.parent.name)]
    folders = {path: _list_folders(root, path) for path in documents}
    return index_listed_images(root, listed, images, folders, partial(_parse_shapes, classes=classes), classes)


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


def _read_classes(documents: Mapping[Path, Any]) -> ShapeClasses:
    """Read the categories of all files, sorted by id."""
    names: dict[int, str] = {}
    colors: dict[int, Color | None] = {}
    for path, document in documents.items():
        with locate_errors(path):
            for category in document["categories"]:
                key, name = int(category["id"]), parse_label(category["name"])
                colors[key] = _parse_category_color(category.get("color"))
                if names.setdefault(key, name) != name:
                    raise DataError(
                        f"category {key} is {name!r}, but {names[key]!r} in another file. Use the same name in both."
                    )
    first = next(iter(documents))
    if not names:
        raise DataError(f"{first} lists no categories. Add those of the annotations.")
    return make_classes(first, [(key, names[key], colors[key]) for key in sorted(names)])


def _parse_category_color(color: Any) -> Color | None:
    """Parse the color that some tools add to a category; COCO itself has none."""
    if isinstance(color, list) and len(color) == 3 and all(type(part) is int and 0 <= part <= 255 for part in color):
        return color[0], color[1], color[2]
    return None


def _list_images(root: Path, path: Path, document: Any) -> list[ListedImage[_Content]]:
    split = _find_document_split(root, path)
    with locate_errors(path):
        images, annotations = document["images"], document["annotations"]
        by_image: dict[Any, list[_Record]] = {image["id"]: [] for image in images}
        if len(by_image) < len(images):
            duplicate = Counter(image["id"] for image in images).most_common(1)[0][0]
            raise DataError(f"two images have the id {duplicate}. Give each its own id.")
        for annotation in annotations:
            if "segments_info" in annotation:
                raise DataError("contains panoptic segments. Use the instances file of the same images.")
            number = annotation["image_id"]
            if number not in by_image:
                raise DataError(
                    f"{_name_annotation(annotation)} belongs to image {number}, which is not listed. "
                    f"List it, or remove the annotation."
                )
            by_image[number].append(annotation)
        return [
            ListedImage(
                document=path, name=str(image["file_name"]), split=split, content=(image, by_image[image["id"]])
            )
            for image in images
        ]


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
    image, annotations = content
    size = parse_size(image["height"], image["width"])
    shapes: list[DrawnShape] = []
    for annotation in sorted(annotations, key=lambda annotation: not annotation.get("iscrowd")):
        with locate_errors(_name_annotation(annotation)):
            value, outline = classes.get_value(annotation["category_id"]), annotation.get("segmentation")
            if not outline:
                raise DataError("has at most a box, but no segmentation. Draw its outline, or remove it.")
            if isinstance(outline, Mapping):
                shapes.append(Bitmap(value=value, pixels=_decode_runs(outline, size)))
            else:
                shapes += [Polygon(value=value, outline=_pair_coordinates(part)) for part in outline]
    return size, shapes


def _name_annotation(annotation: _Record) -> str:
    return f"annotation {annotation.get('id')}"


def _pair_coordinates(numbers: Sequence[float]) -> Array:
    if len(numbers) % 2:
        raise DataError(f"a polygon has {len(numbers)} numbers, but x and y come in pairs. Draw it again.")
    return np.reshape(numbers, (-1, 2))


def _decode_runs(runs: _Record, size: Size) -> Array:
    """Decode run lengths along the columns to (H, W) bool."""
    if tuple(runs["size"]) != size:
        raise DataError(
            f"the run lengths are for size {runs['size']}, but the image has {list(size)} (height, width). "
            f"Export the mask again."
        )
    counts = runs["counts"]
    lengths = list(_unpack_counts(counts)) if isinstance(counts, str) else counts
    return decode_run_lengths(lengths, (size[1], size[0])).T


def _unpack_counts(text: str) -> Iterator[int]:
    """Yield the run lengths of COCO's compressed form.

    Each number is split into groups of five bits, the lowest first. Each group plus 48 is a character, plus 32 if
    more groups follow; the highest bit of the last group is the sign. From the fourth number on, numbers are
    differences to the last but one. (pycocotools reads the same, but leaves random values if runs end too early.)
    """
    previous = [0, 0]
    number = shift = count = 0
    for character in text.encode("ascii"):
        group = character - 48
        if not 0 <= group < 64 or shift > 60:
            raise DataError(f"{text[:20]!r} are not run lengths in COCO's compressed form. Export the mask again.")
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
        raise DataError("the run lengths end within a number. Export the mask again.")
