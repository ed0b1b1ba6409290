"""LabelMe: one JSON file per image, with labeled polygons, rectangles, circles and masks.

    0001.jpg                 train/0001.jpg          images/0001.jpg
    0001.json                train/0001.json         annotations/0001.json   (imagePath leads to the image)

A folder named after a split is that split. Coordinates start at the corner of the first pixel; later shapes cover
earlier ones. Labels become classes in sorted order; `_background_` is background and `__ignore__` is ignored, as in
LabelMe's own tools. An image without a file is read from the JSON file that contains it.
"""

from collections.abc import Collection, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from pathlib import Path

import numpy as np

from pixelwise.data.formats._documents import (
    Record,
    format_value,
    get_bytes,
    get_points,
    get_records,
    get_size,
    get_text,
    locate_errors,
    read_ends,
)
from pixelwise.data.formats._shapes import (
    ImageShapes,
    ShapeClasses,
    ShapeReader,
    find_image,
    get_only_image,
    group_by_name,
    make_classes,
    make_index,
    name_sample,
    name_shape,
    refuse_shape,
)
from pixelwise.data.formats.dataset_index import DatasetIndex, find_files, find_images, find_split
from pixelwise.data.io.images import IMAGE_EXTENSIONS, DecodedImage, decode_image_bytes
from pixelwise.data.rasterize import Bitmap, DrawnShape, Ellipse, Polygon, make_box
from pixelwise.data.sample import Sample
from pixelwise.errors import DataError, PixelwiseError
from pixelwise.files import READ_ERRORS, read_json, walk_folders
from pixelwise.shapes import Size

_KEYS = ("shapes", "shape_type", "points", "imagePath", "imageData", "imageHeight")
"""Two of these are near the start and the end of a file of any version, in any order of the keys."""
_POLYGONS = ("polygon", "rotation", "oriented_rectangle", "quadrilateral")
"""Types of shapes that have all corners; some are of LabelMe's descendants."""


def can_read(root: Path) -> bool:
    """Check the first JSON files of each folder, down to two folders below the root."""
    for folder, subfolders, names in walk_folders(root):
        if len(folder.relative_to(root).parts) == 2:
            subfolders.clear()
        for name in islice((name for name in names if name.lower().endswith(".json")), 5):
            text = read_ends(folder / name, 4096)
            if sum(f'"{key}"' in text for key in _KEYS) >= 2:
                return True
    return False


def find_pairs(root: Path) -> DatasetIndex:
    """Find all LabelMe JSON files, which are read once; masks are painted when they are read."""
    images = set(find_images(root))
    parsed = _find_images_elsewhere(
        root, images, {path: _read_document(root, path, images) for path in find_files(root, (".json",))}
    )
    documents = [document for document in parsed.values() if document]
    if not documents:
        raise DataError(f"{root} contains no LabelMe JSON file. Put each next to its image.")
    classes = make_classes(root, [(label, label, None) for label in sorted(_collect_labels(documents))], are_found=True)
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
    """A JSON file."""

    path: Path
    image: Path | None
    """The image file, or `path` if it contains the image; None without an image."""
    content: Record
    """The content of the file without the image, which is most of it."""
    fault: PixelwiseError | None = None
    """Error of the whole file; raised when its mask is read, so that checks list all such files."""


class _Reader(ShapeReader):
    """Also reads images that are contained in their JSON file."""

    def decode_image(self, sample: Sample) -> DecodedImage:
        return _decode_embedded(sample.mask_path) if _is_embedded(sample) else super().decode_image(sample)

    def read_size(self, sample: Sample) -> Size:
        if not _is_embedded(sample):
            return super().read_size(sample)
        height, width = _decode_embedded(sample.mask_path).pixels.shape[:2]
        return height, width

    def read_image_bytes(self, sample: Sample) -> bytes:
        return _read_embedded(sample.mask_path) if _is_embedded(sample) else super().read_image_bytes(sample)


def _read_document(root: Path, path: Path, images: set[Path]) -> _Document | None:
    """Read a JSON file; return None if LabelMe did not write it."""
    try:
        content = read_json(path)
    except READ_ERRORS as error:
        return _Document(path=path, image=_find_same_stem(path, images), content={}, fault=error)
    if not isinstance(content, dict) or "shapes" not in content:
        return None
    name, embedded = content.get("imagePath"), content.pop("imageData", None)
    folder = path.parent.relative_to(root).as_posix()
    named = find_image(root, name, (folder, f"{folder}/../images"), images) if isinstance(name, str) else None
    same_stem = _find_same_stem(path, images)
    fault = None
    if named and same_stem and named.stem != same_stem.stem:  # such as after renaming many files
        fault = DataError(
            f"{path}: 'imagePath' is {format_value(name)}, but {same_stem.name} has the name of this file. Correct "
            f"'imagePath', or rename the file after its image."
        )
    return _Document(path=path, image=named or same_stem or (path if embedded else None), content=content, fault=fault)


def _find_images_elsewhere(
    root: Path, images: Collection[Path], documents: Mapping[Path, _Document | None]
) -> dict[Path, _Document | None]:
    """Find the images of files whose folder has none, by the name in imagePath: see `get_only_image`."""
    by_name, folders = group_by_name(images), {image.parent for image in images}
    found = dict(documents)
    for path, document in documents.items():
        if document and not document.image and path.parent not in folders:
            name = Path(str(document.content.get("imagePath")).replace("\\", "/")).name
            split = find_split(path.relative_to(root).parts[:-1])
            found[path] = replace(document, image=get_only_image(root, by_name.get(name, ()), split))
    return found


def _find_same_stem(path: Path, images: set[Path]) -> Path | None:
    """Find the image next to a JSON file that has its stem."""
    return next((image for image in map(path.with_suffix, IMAGE_EXTENSIONS) if image in images), None)


def _collect_labels(documents: Iterable[_Document]) -> set[str]:
    """Collect all labels; malformed shapes are reported when their mask is read."""
    labels = set()
    for document in documents:
        shapes = document.content.get("shapes")
        for shape in shapes if isinstance(shapes, list) else ():
            with suppress(DataError):
                labels.add(get_text(shape, "label"))
    return labels


def _make_sample(root: Path, image: Path, document: Path) -> Sample:
    split = find_split(document.relative_to(root).parts[:-1])
    return Sample(name=name_sample(root, image), image_path=image, mask_path=document, split=split)


def _is_embedded(sample: Sample) -> bool:
    return sample.image_path == sample.mask_path


def _read_embedded(path: Path) -> bytes:
    content = read_json(path)
    with locate_errors(path):
        return get_bytes(content, "imageData")


def _decode_embedded(path: Path) -> DecodedImage:
    return decode_image_bytes(_read_embedded(path), f"{path}: imageData")


def _parse_shapes(documents: Mapping[Path, _Document | None], classes: ShapeClasses, sample: Sample) -> ImageShapes:
    document = documents[sample.mask_path]
    assert document is not None
    if document.fault:
        raise document.fault
    with locate_errors(document.path):
        shapes = []
        for number, shape in enumerate(get_records(document.content, "shapes"), 1):
            with locate_errors(name_shape(f"shape {number}", shape.get("shape_type"), shape.get("label"))):
                shapes.append(_parse_shape(shape, classes.get_value(get_text(shape, "label"))))
        return get_size(document.content, "imageHeight", "imageWidth"), shapes


def _parse_shape(shape: Record, value: int) -> DrawnShape:
    """Parse a shape; without a type, as in old files, it is a polygon."""
    kind = "polygon" if shape.get("shape_type") is None else get_text(shape, "shape_type")
    if kind in _POLYGONS:
        return Polygon(value=value, outline=get_points(shape, "points"))
    if kind == "rectangle":
        corners = get_points(shape, "points", (2, 4))
        return make_box(value, *corners.min(0), *corners.max(0))
    if kind == "circle":
        (x, y), (rim_x, rim_y) = get_points(shape, "points", (2,))
        radius = float(np.hypot(rim_x - x, rim_y - y))
        return Ellipse(value=value, center=(x, y), radii=(radius, radius))
    if kind == "mask":
        (left, top), _ = get_points(shape, "points", (2,))
        pixels = decode_image_bytes(get_bytes(shape, "mask"), "mask").pixels[..., 0] > 0
        return Bitmap(value=value, pixels=pixels, top=round(top), left=round(left))
    raise refuse_shape(kind)
