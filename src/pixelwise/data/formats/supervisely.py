"""Supervisely: meta.json with the classes, and one JSON file per image in each of the datasets.

    meta.json
    train/img/0001.jpg
    train/ann/0001.jpg.json

A dataset named after a split is that split. Integer coordinates are those of pixels and mean their centers, as
Supervisely exports them; an object with fractions has coordinates from the corner of the first pixel, as in the
labeling tool. Later objects cover earlier ones. A file without objects is background.
"""

import zlib
from functools import partial
from pathlib import Path

import numpy as np

from pixelwise.data.formats._documents import (
    Record,
    get_bytes,
    get_integers,
    get_list,
    get_points,
    get_record,
    get_records,
    get_size,
    get_text,
    locate_errors,
    parse_color,
)
from pixelwise.data.formats._shapes import (
    ImageShapes,
    ShapeClasses,
    ShapeReader,
    make_classes,
    make_index,
    name_sample,
    name_shape,
    refuse_shape,
)
from pixelwise.data.formats.dataset_index import DatasetIndex, find_files, find_images, find_split
from pixelwise.data.io.decoded_image import MAX_PIXELS
from pixelwise.data.io.images import Array, decode_image_bytes
from pixelwise.data.rasterize import Bitmap, DrawnShape, Polygon, make_box
from pixelwise.data.sample import Sample
from pixelwise.errors import DataError
from pixelwise.files import read_json


def can_read(root: Path) -> bool:
    return (root / "meta.json").is_file() and any(root.glob("*/ann"))


def find_pairs(root: Path) -> DatasetIndex:
    """Find the images of all datasets; objects are read when their masks are read."""
    path = root / "meta.json"
    if not path.is_file():
        raise DataError(f"{root} has no meta.json. Export the whole project from Supervisely.")
    classes = _read_classes(path)
    labels = {path for path in find_files(root, (".json",)) if path.parent.name == "ann"}
    samples = [_make_sample(root, path) for path in find_images(root) if path.parent.name == "img"]
    return make_index(
        [sample for sample in samples if sample.mask_path in labels],
        ShapeReader(partial(_read_shapes, classes=classes), classes),
        classes,
        images_without_mask=[sample.image_path for sample in samples if sample.mask_path not in labels],
        masks_without_image=labels - {sample.mask_path for sample in samples},
    )


def _read_classes(path: Path) -> ShapeClasses:
    meta = read_json(path)
    with locate_errors(path):
        records = get_records(meta, "classes")
        listed = [(title := get_text(c, "title"), title, parse_color(c.get("color"))) for c in records]
        if not listed:
            raise DataError("The file lists no classes. Export the whole project from Supervisely.")
    return make_classes(path, listed)


def _make_sample(root: Path, image: Path) -> Sample:
    return Sample(
        name=name_sample(root, image),
        image_path=image,
        mask_path=image.parent.parent / "ann" / f"{image.name}.json",
        split=find_split(image.relative_to(root).parts[:-1]),
    )


def _read_shapes(sample: Sample, classes: ShapeClasses) -> ImageShapes:
    content = read_json(sample.mask_path)
    with locate_errors(sample.mask_path):
        shapes = []
        for number, labeled_object in enumerate(get_records(content, "objects"), 1):
            kind, label = labeled_object.get("geometryType"), labeled_object.get("classTitle")
            with locate_errors(name_shape(f"object {number}", kind, label)):
                value = classes.get_value(get_text(labeled_object, "classTitle"))
                shapes.append(_parse_object(labeled_object, value))
        return get_size(content.get("size") or {}), shapes


def _parse_object(labeled_object: Record, value: int) -> DrawnShape:
    kind = get_text(labeled_object, "geometryType")
    if kind == "bitmap":
        bitmap = get_record(labeled_object, "bitmap")
        left, top = get_integers(bitmap, "origin", 2)
        return Bitmap(value=value, pixels=_decode_bitmap(get_bytes(bitmap, "data")), top=top, left=left)
    if kind == "polygon":
        points = get_record(labeled_object, "points")
        holes = get_list(points, "interior", [])
        rings = [get_points(points, "exterior"), *(get_points({"interior": hole}, "interior") for hole in holes)]
        outline, *holes = [ring + 0.5 for ring in rings] if _has_integers(rings) else rings
        return Polygon(value=value, outline=outline, holes=holes)
    if kind == "rectangle":
        first, second = get_points(get_record(labeled_object, "points"), "exterior", (2,))
        (left, top), (right, bottom) = np.minimum(first, second), np.maximum(first, second)
        last = 1 if _has_integers([first, second]) else 0  # pixel numbers include the last
        return make_box(value, left, top, right + last, bottom + last)
    if kind == "alpha_mask":
        raise DataError("Alpha masks are not read. Convert it to a mask (bitmap) in Supervisely, or remove it.")
    raise refuse_shape(kind)


def _has_integers(arrays: list[Array]) -> bool:
    return all((array == np.rint(array)).all() for array in arrays)


def _decode_bitmap(data: bytes) -> Array:
    """Decode a deflated PNG to (h, w) bool, by its alpha or else its first channel."""
    try:
        content = zlib.decompressobj().decompress(data, MAX_PIXELS)
    except zlib.error as error:
        raise DataError("The bitmap cannot be decompressed. Export it again.") from error
    decoded = decode_image_bytes(content, "bitmap")
    return decoded.pixels[..., -1 if decoded.alpha else 0] > 0
