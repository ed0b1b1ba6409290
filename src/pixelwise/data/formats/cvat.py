"""CVAT for images 1.1: an XML file that lists images with their boxes, polygons, ellipses and masks.

    annotations.xml
    images/0001.jpg          or images/Train/0001.jpg, as named in the XML file

The split of an image is its attribute `subset`, or else a folder in its name. Coordinates start at the corner of the
first pixel. Shapes of higher z_order cover others; of equal ones, the later cover the earlier. An image without
shapes is background. Tags, which have no position, are skipped.
"""

import re
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from xml.etree.ElementTree import Element

from pixelwise.data.colors import Color
from pixelwise.data.formats._documents import (
    get_integer,
    get_integers,
    get_number,
    get_size,
    get_text,
    locate_errors,
    parse_color,
    parse_points,
    parse_size,
    read_ends,
    read_xml,
)
from pixelwise.data.formats._shapes import (
    ImageShapes,
    ListedImage,
    ShapeClasses,
    index_listed_images,
    make_classes,
    name_shape,
    refuse_shape,
)
from pixelwise.data.formats.dataset_index import DatasetIndex, find_images, find_split
from pixelwise.data.rasterize import Bitmap, DrawnShape, Ellipse, Polygon, decode_run_lengths, make_box
from pixelwise.errors import DataError

_ROOT = re.compile(r"<annotations[\s>]")


def can_read(root: Path) -> bool:
    return bool(_find_documents(root))


def find_pairs(root: Path) -> DatasetIndex:
    """Find the images of all XML files, which are read once; masks are painted when they are read."""
    documents = {path: read_xml(path) for path in _find_documents(root)}
    if not documents:
        raise DataError(f"{root} contains no CVAT XML file. Export 'CVAT for images 1.1' into it.")
    for path, top in documents.items():
        if top.find("track") is not None:
            raise DataError(f"{path} has tracks of a video. Export the task as 'CVAT for images 1.1', with its images.")
    classes = _read_classes(documents)
    listed = [_list_image(path, image) for path, top in documents.items() for image in top.iter("image")]
    folders = dict.fromkeys(documents, ("images", "."))
    parse_shapes = partial(_parse_shapes, classes=classes)
    return index_listed_images(root, listed, find_images(root), folders, parse_shapes, classes)


def _find_documents(root: Path) -> list[Path]:
    return [path for path in sorted(root.glob("*.xml")) if _ROOT.search(read_ends(path, 4096))]


def _list_image(path: Path, image: Element) -> ListedImage[Element]:
    with locate_errors(path):
        name = get_text(image.attrib, "name")
    split = find_split([image.get("subset", ""), *re.split(r"[/\\]", name)[:-1]])
    return ListedImage(document=path, name=name, split=split, content=image)


def _read_classes(documents: Mapping[Path, Element]) -> ShapeClasses:
    """Read the labels of all files in their order, without parts of skeletons, which have a parent."""
    colors: dict[str, Color | None] = {}
    for path, top in documents.items():
        with locate_errors(path):
            for label in top.iterfind("meta//label"):
                if label.find("parent") is None:
                    name = get_text({key.tag: (key.text or "").strip() for key in label}, "name")
                    colors.setdefault(name, parse_color(label.findtext("color")))
    first = next(iter(documents))
    if not colors:
        raise DataError(f"{first} lists no labels. Export 'CVAT for images 1.1' again.")
    return make_classes(first, [(name, name, color) for name, color in colors.items()])


def _parse_shapes(image: Element, classes: ShapeClasses) -> ImageShapes:
    layers: list[tuple[int, DrawnShape]] = []
    for number, element in enumerate(image, 1):
        if element.tag != "tag":
            with locate_errors(name_shape(f"shape {number}", element.tag, element.get("label"))):
                shape = _parse_shape(element, classes.get_value(get_text(element.attrib, "label")))
                layers.append((get_integer(element.attrib, "z_order", 0), shape))
    return get_size(image.attrib), [shape for _, shape in sorted(layers, key=lambda layer: layer[0])]


def _parse_shape(element: Element, value: int) -> DrawnShape:
    if element.tag == "polygon":
        points = [point.split(",") for point in get_text(element.attrib, "points").split(";")]
        return Polygon(value=value, outline=parse_points(points, "'points'"))
    if element.tag == "box":
        left, top, right, bottom = _read_numbers(element, "xtl", "ytl", "xbr", "ybr")
        return make_box(value, left, top, right, bottom, get_number(element.attrib, "rotation", 0))
    if element.tag == "ellipse":
        x, y, rx, ry = _read_numbers(element, "cx", "cy", "rx", "ry")
        return Ellipse(value=value, center=(x, y), radii=(rx, ry), degrees=get_number(element.attrib, "rotation", 0))
    if element.tag == "mask":
        top, left, height, width = (get_integer(element.attrib, key) for key in ("top", "left", "height", "width"))
        runs = get_integers({"rle": get_text(element.attrib, "rle").split(",")}, "rle")
        return Bitmap(value=value, pixels=decode_run_lengths(runs, parse_size(height, width)), top=top, left=left)
    raise refuse_shape(element.tag)


def _read_numbers(element: Element, *names: str) -> list[float]:
    return [get_number(element.attrib, name) for name in names]
