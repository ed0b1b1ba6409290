"""CVAT for images 1.1: an XML file that lists images with their boxes, polygons, ellipses and masks.

    annotations.xml
    images/0001.jpg          or images/Train/0001.jpg, as the name in the XML file says

The attribute `subset` of an image is its split, else a folder in its name. Coordinates count from the corner of the
first pixel. Shapes of higher z_order lie over others, and of equal ones the later over the earlier. An image
without shapes is background. Tags, which are of no place, are left aside.
"""

import re
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from xml.etree.ElementTree import Element

from pixelwise.data.formats._documents import parse_color, peek, read_xml, size_of, well_formed
from pixelwise.data.formats._index_files import Listed, listed_pairing
from pixelwise.data.formats._polygons import Drawing, DrawnClasses, drawn_classes, files_below, split_among
from pixelwise.data.formats.dataset_index import DatasetIndex
from pixelwise.data.rasterize import Bitmap, DrawnShape, Ellipse, Polygon, decode_run_lengths, make_box
from pixelwise.errors import DataError

_ROOT = re.compile(r"<annotations[\s>]")
_WITHOUT_AREA = ("points", "polyline", "cuboid", "skeleton")


def find_pairs(root: Path) -> DatasetIndex:
    """All images of the XML files. The files are read here, once; masks are painted when they are asked for."""
    documents = {path: read_xml(path) for path in _annotation_files(root)}
    if not documents:
        raise DataError(f"{root} holds no XML file of CVAT; export 'CVAT for images 1.1' into it.")
    classes = _classes(documents)
    listed = [_listed(path, image) for path, top in documents.items() for image in top.iter("image")]
    folders = dict.fromkeys(documents, ("images", "."))
    return listed_pairing(root, listed, files_below(root), folders, partial(_draw, classes=classes), classes)


def _annotation_files(root: Path) -> list[Path]:
    return [path for path in sorted(root.glob("*.xml")) if _ROOT.search(peek(path, 4096))]


def _listed(path: Path, image: Element) -> Listed[Element]:
    with well_formed(str(path)):
        name = image.attrib["name"]
    split = split_among([image.get("subset", ""), *re.split(r"[/\\]", name)[:-1]])
    return Listed(document=path, name=name, split=split, content=image)


def _classes(documents: Mapping[Path, Element]) -> DrawnClasses:
    """The labels of the files in the order of the first; parts of skeletons, which have a parent, are none."""
    colors: dict[str, tuple[int, int, int] | None] = {}
    for path, top in documents.items():
        with well_formed(str(path)):
            for label in top.iterfind("meta//label"):
                if label.find("parent") is None:
                    colors.setdefault(label.findtext("name", "").strip(), parse_color(label.findtext("color")))
    if not colors:
        raise DataError(f"{next(iter(documents))} lists no labels; export 'CVAT for images 1.1' once more.")
    return drawn_classes(next(iter(documents)), [(name, name, color) for name, color in colors.items()])


def _draw(image: Element, classes: DrawnClasses) -> Drawing:
    size = size_of(image.attrib["height"], image.attrib["width"])
    raised = sorted(image, key=lambda shape: int(shape.get("z_order", 0)))
    return Drawing(size=size, shapes=list(_shapes(raised, classes)))


def _shapes(elements: list[Element], classes: DrawnClasses) -> Iterator[DrawnShape]:
    for element in elements:
        if element.tag != "tag":
            with well_formed(f"a {element.tag} of {element.get('label')!r}"):
                yield _shape(element, classes.value(element.attrib["label"]))


def _shape(element: Element, value: int) -> DrawnShape:
    if element.tag == "polygon":
        points = element.attrib["points"].split(";")
        return Polygon(value=value, outline=[[float(number) for number in point.split(",")] for point in points])
    if element.tag == "box":
        left, top, right, bottom = _numbers(element, "xtl", "ytl", "xbr", "ybr")
        return make_box(value, left, top, right, bottom, float(element.get("rotation", 0)))
    if element.tag == "ellipse":
        x, y, rx, ry = _numbers(element, "cx", "cy", "rx", "ry")
        return Ellipse(value=value, center=(x, y), radii=(rx, ry), degrees=float(element.get("rotation", 0)))
    if element.tag == "mask":
        top, left, height, width = (int(number) for number in _numbers(element, "top", "left", "height", "width"))
        runs = [int(run) for run in element.attrib["rle"].split(",")]
        return Bitmap(value=value, pixels=decode_run_lengths(runs, size_of(height, width)), top=top, left=left)
    if element.tag in _WITHOUT_AREA:
        raise DataError("covers no pixels; draw its area as a polygon, or remove it.")
    raise DataError("is no shape of CVAT; export 'CVAT for images 1.1' once more.")


def _numbers(element: Element, *names: str) -> list[float]:
    return [float(element.attrib[name]) for name in names]


def can_read(root: Path) -> bool:
    return bool(_annotation_files(root))
