"""LabelMe: one JSON file an image, of labeled polygons, rectangles, circles and masks.

    0001.jpg                 train/0001.jpg          images/0001.jpg
    0001.json                train/0001.json         annotations/0001.json   (imagePath leads to the image)

A folder named after a split holds that split. Coordinates count from the corner of the first pixel; later shapes
lie over earlier ones. Labels become classes in sorted order; `_background_` is background and `__ignore__` is
ignored, as LabelMe's own tools have it. An image that lies in its JSON file only is read from there.
"""

import base64
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from posixpath import basename, normpath
from typing import Any

import numpy as np

from pixelwise.data.formats._documents import peek, size_of, well_formed
from pixelwise.data.formats._polygons import (
    Drawing,
    DrawingReader,
    DrawnClasses,
    drawn_classes,
    drawn_pairing,
    files_below,
    sample_name,
    split_among,
)
from pixelwise.data.formats.dataset_index import DatasetIndex
from pixelwise.data.io.images import IMAGE_EXTENSIONS, DecodedImage, decode_image_bytes, read_size
from pixelwise.data.rasterize import Bitmap, DrawnShape, Ellipse, Polygon, make_box
from pixelwise.data.sample import Sample
from pixelwise.errors import DataError
from pixelwise.files import read_json
from pixelwise.shapes import Size


@dataclass(frozen=True, slots=True, kw_only=True)
class _Document:
    """What is kept of a JSON file: not the image, which is most of it."""

    path: Path
    image: Path | None
    """None: neither a file nor embedded."""
    shapes: Any
    size: tuple[Any, Any]
    fault: DataError | None = None
    """Why the file could not be read. Raised when its mask is asked for: the doctor lists all such files."""


class _Reader(DrawingReader):
    """Images without a file of their own are decoded from the JSON file."""

    def decode_image(self, sample: Sample) -> DecodedImage:
        return _embedded_image(sample.label_path) if _is_embedded(sample) else super().decode_image(sample)

    def read_image_bytes(self, sample: Sample) -> bytes:
        return _embedded(sample.label_path) if _is_embedded(sample) else super().read_image_bytes(sample)


def find_pairs(root: Path) -> DatasetIndex:
    """All JSON files of LabelMe. They are read here, once; masks are painted when they are asked for."""
    pictures = set(files_below(root))
    read = {path: _read(root, path, pictures) for path in files_below(root, (".json",))}
    documents = [document for document in read.values() if document]
    if not documents:
        raise DataError(f"{root} holds no JSON file of LabelMe; put each beside its image.")
    classes = drawn_classes(root, [(label, label, None) for label in sorted(_labels(documents))])
    pairs = {_sample(root, d.image, d.path): d for d in documents if d.image}
    used = {document.image for document in documents}
    return drawn_pairing(
        pairs,
        _Reader(partial(_draw, pairs, classes), classes),
        classes,
        images_without_mask=pictures - used,
        masks_without_image=[d.path for d in documents if not d.image],
        foreign_files=[path for path, document in read.items() if not document],
    )


def _read(root: Path, path: Path, pictures: set[Path]) -> _Document | None:
    """None of a JSON file of something else."""
    try:
        content = read_json(path)
    except DataError as error:
        image = _find_image(root, path, "", pictures)
        return _Document(path=path, image=image, shapes=(), size=(None, None), fault=error)
    if not isinstance(content, dict) or "shapes" not in content:
        return None
    image = _find_image(root, path, str(content.get("imagePath") or ""), pictures)
    return _Document(
        path=path,
        image=image or (path if content.get("imageData") else None),
        shapes=content["shapes"],
        size=(content.get("imageHeight"), content.get("imageWidth")),
    )


def _find_image(root: Path, path: Path, image_path: str, pictures: set[Path]) -> Path | None:
    """The file that imagePath names, one of that name where images usually lie, or one of the stem of the JSON file."""
    folder, given = path.parent.relative_to(root), image_path.replace("\\", "/")
    names = (f"{folder}/{given}", f"{folder}/{basename(given)}", f"{folder}/../images/{basename(given)}")
    same_stem = (path.with_suffix(ending) for ending in IMAGE_EXTENSIONS)
    return next((p for p in (*(root / normpath(name) for name in names), *same_stem) if p in pictures), None)


def _labels(documents: Iterable[_Document]) -> set[str]:
    """All labels; what is malformed is told when its mask is asked for."""
    found = set()
    for document in documents:
        shapes = document.shapes if isinstance(document.shapes, list) else []
        found |= {shape["label"] for shape in shapes if isinstance(shape, dict) and isinstance(shape.get("label"), str)}
    return found


def _sample(root: Path, image: Path, document: Path) -> Sample:
    split = split_among(document.relative_to(root).parts[:-1])
    return Sample(name=sample_name(root, image), image_path=image, label_path=document, split=split)


def _draw(documents: Mapping[Sample, _Document], classes: DrawnClasses, sample: Sample) -> Drawing:
    document = documents[sample]
    if document.fault:
        raise document.fault
    with well_formed(str(document.path)):
        size = size_of(*document.size) if all(document.size) else _image_size(sample)
        return Drawing(size=size, shapes=list(_shapes(document.shapes, classes)))


def _image_size(sample: Sample) -> Size:
    """Of old files, which do not tell it."""
    if not _is_embedded(sample):
        return read_size(sample.image_path)
    height, width = _embedded_image(sample.label_path).pixels.shape[:2]
    return height, width


def _is_embedded(sample: Sample) -> bool:
    return sample.image_path == sample.label_path


def _embedded(path: Path) -> bytes:
    with well_formed(str(path)):
        return base64.b64decode(read_json(path)["imageData"], validate=True)


def _embedded_image(path: Path) -> DecodedImage:
    return decode_image_bytes(_embedded(path), f"{path}: imageData")


def _shapes(shapes: Iterable[Mapping[str, Any]], classes: DrawnClasses) -> Iterator[DrawnShape]:
    for number, shape in enumerate(shapes, 1):
        with well_formed(f"shape {number}"):
            yield _shape(shape, classes.value(shape["label"]))


def _shape(shape: Mapping[str, Any], value: int) -> DrawnShape:
    kind, points = shape.get("shape_type") or "polygon", shape["points"]
    if kind == "polygon":
        return Polygon(value=value, outline=points)
    if kind == "rectangle":
        x, y = zip(*points, strict=True)  # two corners, or all four
        return make_box(value, min(x), min(y), max(x), max(y))
    if kind == "circle":
        (x, y), (rim_x, rim_y) = points
        radius = float(np.hypot(rim_x - x, rim_y - y))
        return Ellipse(value=value, center=(x, y), radii=(radius, radius))
    if kind == "mask":
        (left, top), _ = points
        pixels = decode_image_bytes(base64.b64decode(shape["mask"], validate=True), "mask").pixels[..., 0] > 0
        return Bitmap(value=value, pixels=pixels, top=round(top), left=round(left))
    raise DataError(f"a {kind} of {shape['label']!r} covers no pixels; draw its area as a polygon, or remove it.")


def can_read(root: Path) -> bool:
    """By the first JSON file of each folder, down to those within the folders of the root."""
    for folder, subfolders, names in os.walk(root):
        deep = len(Path(folder).relative_to(root).parts)
        subfolders[:] = [name for name in subfolders if deep < 2 and not name.startswith(".")]
        first = min((name for name in names if name.lower().endswith(".json")), default=None)
        if first and _is_labelme(Path(folder, first)):
            return True
    return False


def _is_labelme(path: Path) -> bool:
    text = peek(path, 4096)
    return '"shapes"' in text and any(key in text for key in ('"shape_type"', '"imagePath"', '"imageData"'))
