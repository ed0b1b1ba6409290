"""LabelMe: one JSON file per image, with labeled polygons, rectangles, circles and masks.

    0001.jpg                 train/0001.jpg          images/0001.jpg
    0001.json                train/0001.json         annotations/0001.json   (imagePath leads to the image)

A folder named after a split is that split. Coordinates start at the corner of the first pixel; later shapes cover
earlier ones. Labels become classes in sorted order; `_background_` is background and `__ignore__` is ignored, as in
LabelMe's own tools. An image without a file is read from the JSON file that contains it.
"""

import base64
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from pixelwise.data.formats._documents import locate_errors, parse_size, read_ends
from pixelwise.data.formats._shapes import (
    ImageShapes,
    ShapeClasses,
    ShapeReader,
    find_image,
    make_classes,
    make_index,
    name_sample,
)
from pixelwise.data.formats.dataset_index import DatasetIndex, find_files, find_images, find_split
from pixelwise.data.io.images import IMAGE_EXTENSIONS, DecodedImage, decode_image_bytes, read_size
from pixelwise.data.rasterize import Bitmap, DrawnShape, Ellipse, Polygon, make_box
from pixelwise.data.sample import Sample
from pixelwise.errors import DataError, PixelwiseError
from pixelwise.files import READ_ERRORS, read_json, walk_folders


def can_read(root: Path) -> bool:
    """Check the first JSON file of each folder, down to two folders below the root."""
    for folder, subfolders, names in walk_folders(root):
        if len(folder.relative_to(root).parts) == 2:
            subfolders.clear()
        first = next((name for name in names if name.lower().endswith(".json")), None)
        if first:
            text = read_ends(folder / first, 4096)
            if '"shapes"' in text and any(key in text for key in ('"shape_type"', '"imagePath"', '"imageData"')):
                return True
    return False


def find_pairs(root: Path) -> DatasetIndex:
    """Find all LabelMe JSON files, which are read once; masks are painted when they are read."""
    images = set(find_images(root))
    parsed = {path: _read_document(root, path, images) for path in find_files(root, (".json",))}
    documents = [document for document in parsed.values() if document]
    if not documents:
        raise DataError(f"{root} contains no LabelMe JSON file. Put each next to its image.")
    classes = make_classes(root, [(label, label, None) for label in sorted(_collect_labels(documents))])
    return make_index(
        [_make_sample(root, document.image, document.path) for document in documents if document.image],
        _Reader(partial(_parse_shapes, parsed, classes), classes),
        classes,
        images_without_mask=images - {document.image for document in documents},
        masks_without_image=[document.path for document in documents if not document.image],
        foreign_files=[path for path, document in parsed.items() if not document],
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Document:
    """A JSON file without the image, which is most of it."""

    path: Path
    image: Path | None
    """The image file, or `path` if it contains the image; None without an image."""
    shapes: Any
    size: tuple[Any, Any]
    fault: PixelwiseError | None = None
    """Error of reading the file; raised when its mask is read, so that checks list all such files."""


class _Reader(ShapeReader):
    """Also reads images that are contained in their JSON file."""

    def decode_image(self, sample: Sample) -> DecodedImage:
        return _decode_embedded(sample.mask_path) if _is_embedded(sample) else super().decode_image(sample)

    def read_image_bytes(self, sample: Sample) -> bytes:
        return _read_embedded(sample.mask_path) if _is_embedded(sample) else super().read_image_bytes(sample)


def _read_document(root: Path, path: Path, images: set[Path]) -> _Document | None:
    """Read a JSON file; return None if LabelMe did not write it."""
    try:
        content = read_json(path)
    except READ_ERRORS as error:
        image = _find_image(root, path, "", images)
        return _Document(path=path, image=image, shapes=(), size=(None, None), fault=error)
    if not isinstance(content, dict) or "shapes" not in content:
        return None
    image = _find_image(root, path, str(content.get("imagePath") or ""), images)
    return _Document(
        path=path,
        image=image or (path if content.get("imageData") else None),
        shapes=content["shapes"],
        size=(content.get("imageHeight"), content.get("imageWidth")),
    )


def _find_image(root: Path, path: Path, image_path: str, images: set[Path]) -> Path | None:
    """Find an image by its imagePath, or else by the stem of the JSON file."""
    folder = path.parent.relative_to(root).as_posix()
    named = find_image(root, image_path, (folder, f"{folder}/../images"), images) if image_path else None
    same_stem = (path.with_suffix(extension) for extension in IMAGE_EXTENSIONS)
    return named or next((image for image in same_stem if image in images), None)


def _collect_labels(documents: Iterable[_Document]) -> set[str]:
    """Collect all labels; malformed shapes are reported when their mask is read."""
    labels = set()
    for document in documents:
        for shape in document.shapes if isinstance(document.shapes, list) else ():
            if isinstance(shape, dict) and isinstance(shape.get("label"), str):
                labels.add(shape["label"])
    return labels


def _make_sample(root: Path, image: Path, document: Path) -> Sample:
    split = find_split(document.relative_to(root).parts[:-1])
    return Sample(name=name_sample(root, image), image_path=image, mask_path=document, split=split)


def _is_embedded(sample: Sample) -> bool:
    return sample.image_path == sample.mask_path


def _read_embedded(path: Path) -> bytes:
    content = read_json(path)
    with locate_errors(path):
        return base64.b64decode(content["imageData"], validate=True)


def _decode_embedded(path: Path) -> DecodedImage:
    return decode_image_bytes(_read_embedded(path), f"{path}: imageData")


def _parse_shapes(documents: Mapping[Path, _Document | None], classes: ShapeClasses, sample: Sample) -> ImageShapes:
    document = documents[sample.mask_path]
    assert document is not None
    if document.fault:
        raise document.fault
    with locate_errors(document.path):
        if all(document.size):
            size = parse_size(*document.size)
        elif _is_embedded(sample):  # old files do not contain the size
            height, width = _decode_embedded(sample.mask_path).pixels.shape[:2]
            size = (height, width)
        else:
            size = read_size(sample.image_path)
        shapes = []
        for number, shape in enumerate(document.shapes, 1):
            with locate_errors(f"shape {number}"):
                shapes.append(_parse_shape(shape, classes.get_value(shape["label"])))
        return size, shapes


def _parse_shape(shape: Mapping[str, Any], value: int) -> DrawnShape:
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
    raise DataError(f"a {kind} of {shape['label']!r} covers no pixels. Draw its area as a polygon, or remove it.")
