"""Supervisely: meta.json with the classes, and one JSON file an image in each dataset.

    meta.json
    train/img/0001.jpg
    train/ann/0001.jpg.json

A dataset named after a split is that split. Whole coordinates are those of pixels, whose centers they mean, as
Supervisely exports them; where an object has fractions, its coordinates count from the corner of the first pixel,
as in its labeling tool. Later objects lie over earlier ones. A file without objects is background.
"""

import base64
import zlib
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from pixelwise.data.formats._documents import parse_color, size_of, well_formed
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
from pixelwise.data.io.decoded_image import MAX_PIXELS
from pixelwise.data.io.images import Array, decode_image_bytes
from pixelwise.data.rasterize import Bitmap, DrawnShape, Polygon, make_box
from pixelwise.data.sample import Sample
from pixelwise.errors import DataError
from pixelwise.files import read_json


def find_pairs(root: Path) -> DatasetIndex:
    """All images of the datasets. meta.json is read here; objects are read when their masks are asked for."""
    if not (root / "meta.json").is_file():
        raise DataError(f"{root} holds no meta.json; export the whole project from Supervisely.")
    classes = _classes(root / "meta.json")
    images = [path for path in files_below(root) if path.parent.name == "img"]
    labels = {path for path in files_below(root, (".json",)) if path.parent.name == "ann"}
    samples = [_sample(root, path) for path in images]
    return drawn_pairing(
        [sample for sample in samples if sample.label_path in labels],
        DrawingReader(partial(_draw, classes=classes), classes),
        classes,
        images_without_mask=[sample.image_path for sample in samples if sample.label_path not in labels],
        masks_without_image=labels - {sample.label_path for sample in samples},
    )


def _classes(path: Path) -> DrawnClasses:
    with well_formed(str(path)):
        listed = [(str(c["title"]), str(c["title"]), parse_color(c.get("color"))) for c in read_json(path)["classes"]]
        if not listed:
            raise DataError("lists no classes; export the whole project from Supervisely.")
    return drawn_classes(path, listed)


def _sample(root: Path, image: Path) -> Sample:
    return Sample(
        name=sample_name(root, image),
        image_path=image,
        label_path=image.parent.parent / "ann" / f"{image.name}.json",
        split=split_among(image.relative_to(root).parts[:-1]),
    )


def _draw(sample: Sample, classes: DrawnClasses) -> Drawing:
    content = read_json(sample.label_path)
    with well_formed(str(sample.label_path)):
        size = size_of(content["size"]["height"], content["size"]["width"])
        return Drawing(size=size, shapes=list(_shapes(content["objects"], classes)))


def _shapes(objects: list[Mapping[str, Any]], classes: DrawnClasses) -> Iterator[DrawnShape]:
    for number, thing in enumerate(objects, 1):
        with well_formed(f"object {number}"):
            yield _shape(thing, classes.value(thing["classTitle"]))


def _shape(thing: Mapping[str, Any], value: int) -> DrawnShape:
    kind = thing["geometryType"]
    if kind == "bitmap":
        left, top = thing["bitmap"]["origin"]
        return Bitmap(value=value, pixels=_bitmap(thing["bitmap"]["data"]), top=int(top), left=int(left))
    if kind == "polygon":
        outline, *holes = _corners([thing["points"]["exterior"], *thing["points"].get("interior", [])], 0.5)
        return Polygon(value=value, outline=outline, holes=holes)
    if kind == "rectangle":
        (first, second), *_ = _corners([thing["points"]["exterior"]], 0)
        (left, top), (right, bottom) = np.minimum(first, second), np.maximum(first, second)
        last = 1 if _are_pixels([first, second]) else 0  # pixel numbers include the last
        return make_box(value, left, top, right + last, bottom + last)
    raise DataError(f"a {kind} of {thing['classTitle']!r} covers no pixels; draw its area as a polygon, or remove it.")


def _corners(rings: list[Any], to_center: float) -> list[Array]:
    """The rings of one object, (N, 2) each, moved to the frame of `rasterize`."""
    arrays = [np.asarray(ring, float) for ring in rings]
    return [ring + to_center for ring in arrays] if _are_pixels(arrays) else arrays


def _are_pixels(rings: list[Array]) -> bool:
    return all((ring == np.rint(ring)).all() for ring in rings)


def _bitmap(text: str) -> Array:
    """(H', W') bool from a PNG, deflated and written in base64; its alpha, or else its first channel, tells."""
    inflater = zlib.decompressobj()
    try:
        content = inflater.decompress(base64.b64decode(text, validate=True), MAX_PIXELS)
    except zlib.error as error:
        raise DataError(f"the bitmap cannot be inflated ({error}); export it once more.") from error
    decoded = decode_image_bytes(content, "bitmap")
    return decoded.pixels[..., -1 if decoded.alpha else 0] > 0


def can_read(root: Path) -> bool:
    return (root / "meta.json").is_file() and any(root.glob("*/ann"))
