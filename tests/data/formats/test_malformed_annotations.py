"""Every value of a small annotation file is replaced or removed: the mask stays right, or an error names the file."""

import base64
import copy
import io
import json
import re
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
import yaml
from PIL import Image

from pixelwise.data.dataset import Dataset
from pixelwise.errors import PixelwiseError
from support.shape_datasets import SIZE, write_image

Keys = tuple[str | int, ...]
"""Where a value is in a document."""

NESTED: list[Any] = []
for _ in range(50):
    NESTED = [NESTED]
REMOVED = object()
REPLACEMENTS: dict[str, Any] = {
    "null": None,
    "empty text": "",
    "text": "x",
    "-1": -1,
    "infinite": 1e400,
    "empty list": [],
    "empty object": {},
    "deep list": NESTED,
    "long text": "x" * 100_000,
    "removed": REMOVED,
}
BITMAP = np.array([[1, 0, 1], [1, 1, 0]], bool)
BUFFER = io.BytesIO()
Image.fromarray(BITMAP).save(BUFFER, "PNG")
PNG = BUFFER.getvalue()


def encode(content: bytes) -> str:
    return base64.b64encode(content).decode()


def annotation(number: int, image: int, category: int, segmentation: Any, crowd: int = 0) -> dict[str, Any]:
    return {"id": number, "image_id": image, "category_id": category, "iscrowd": crowd, "segmentation": segmentation}


COCO = {
    "images": [
        {"id": number, "file_name": f"{name}.png", "height": SIZE[0], "width": SIZE[1]}
        for number, name in ((1, "a"), (2, "b"))
    ],
    "categories": [{"id": 3, "name": "cat", "supercategory": "pet"}, {"id": 7, "name": "dog", "color": [1, 2, 3]}],
    "annotations": [
        annotation(1, 1, 3, [[1, 1, 4, 1, 4, 3, 1, 3]]),
        annotation(2, 1, 7, {"size": [*SIZE], "counts": [13, 3, 32]}),
        annotation(3, 2, 7, {"size": [*SIZE], "counts": "=3P1"}),
        annotation(4, 2, 3, [[0, 0, 8, 0, 8, 6, 0, 6]], crowd=1),
    ],
}
LABELME = {
    "version": "5.4.1",
    "flags": {},
    "shapes": [
        {"label": "cat", "points": [[1, 1], [4, 1], [4, 3], [1, 3]], "group_id": None, "shape_type": "polygon"},
        {"label": "dog", "points": [[4, 2], [6, 4]], "shape_type": "rectangle", "flags": {}},
        {"label": "dog", "points": [[2.5, 2.5], [2.5, 4]], "shape_type": "circle"},
        {"label": "cat", "points": [[4, 2], [6, 3]], "shape_type": "mask", "mask": encode(PNG)},
    ],
    "imagePath": "a.png",
    "imageData": None,
    "imageHeight": SIZE[0],
    "imageWidth": SIZE[1],
}
META = {"classes": [{"title": "dog", "shape": "any", "color": "#FF8C00"}, {"title": "cat"}], "tags": []}
POLYGON = {"exterior": [[0, 0], [6, 0], [6, 5], [0, 5]], "interior": [[[1, 1], [4, 1], [4, 3]]]}
SUPERVISELY = {
    "size": {"height": SIZE[0], "width": SIZE[1]},
    "objects": [
        {"classTitle": "cat", "geometryType": "polygon", "points": POLYGON},
        {"classTitle": "dog", "geometryType": "rectangle", "points": {"exterior": [[1, 1], [3, 2]], "interior": []}},
        {
            "classTitle": "cat",
            "geometryType": "bitmap",
            "bitmap": {"data": encode(zlib.compress(PNG)), "origin": [4, 2]},
        },
    ],
}
YOLO = {"path": ".", "train": "images", "nc": 2, "names": {0: "cat", 1: "dog"}}
LINES = "0 0.125 0.2 0.5 0.2 0.5 0.5 0.125 0.5\n1 0.25 0.2 0.5 0.2 0.5 0.5\n"
CVAT = """<annotations><version>1.1</version><meta><task><labels>
<label><name>cat</name><color>#ff8c00</color></label><label><name>dog</name><color>#0000ff</color></label>
</labels></task></meta><image id="0" name="a.png" subset="default" width="8" height="6">
<polygon label="cat" points="1,1;4,1;4,3;1,3" z_order="1"></polygon>
<box label="dog" xtl="1" ytl="1" xbr="7" ybr="3" rotation="0" z_order="0"></box>
<ellipse label="dog" cx="3.5" cy="2.5" rx="2" ry="1" rotation="90" z_order="2"></ellipse>
<mask label="cat" rle="0, 6" left="5" top="3" width="3" height="2" z_order="2"></mask></image></annotations>"""
NNUNET = {"channel_names": {"0": "gray"}, "labels": {"background": 0, "cat": 1, "dog": 2}, "file_ending": ".png"}


def write_nnunet(root: Path) -> None:
    write_image(root / "imagesTr/a_0000.png")
    (root / "labelsTr").mkdir()
    Image.fromarray(np.arange(48, dtype=np.uint8).reshape(SIZE) % 3).save(root / "labelsTr/a.png")


def write_yolo(root: Path) -> None:
    (root / "labels").mkdir()
    (root / "labels/a.txt").write_text(LINES, encoding="utf-8")
    (root / "data.yaml").write_text(yaml.safe_dump(YOLO), encoding="utf-8")


def write_supervisely(root: Path) -> None:
    write_image(root / "ds/img/a.png")
    (root / "ds/ann").mkdir()
    (root / "meta.json").write_text(json.dumps(META), encoding="utf-8")
    (root / "ds/ann/a.png.json").write_text(json.dumps(SUPERVISELY), encoding="utf-8")


def dump_lines(lines: list[list[Any]]) -> str:
    """Write the words of each line as JSON writes them, but texts without quotes."""
    return "\n".join(
        " ".join(word if isinstance(word, str) else json.dumps(word) for word in line)
        if isinstance(line, list)
        else json.dumps(line)
        for line in lines
    )


def dump_xml(tree: dict[str, Any]) -> str:
    def build(node: Any) -> ElementTree.Element:
        if not isinstance(node, dict) or not isinstance(node.get("tag"), str):
            return ElementTree.Element("x")
        attributes = node.get("attributes") if isinstance(node.get("attributes"), dict) else {}
        texts = {key: value if isinstance(value, str) else json.dumps(value) for key, value in attributes.items()}
        element = ElementTree.Element(node["tag"] or "x", texts)
        element.text = node["text"] if isinstance(node.get("text"), str) else json.dumps(node.get("text"))
        children = node.get("children")
        element.extend([build(child) for child in children] if isinstance(children, list) else [])
        return element

    return ElementTree.tostring(build(tree), encoding="unicode")


def load_xml(text: str) -> dict[str, Any]:
    def parse(element: ElementTree.Element) -> dict[str, Any]:
        return {
            "tag": element.tag,
            "attributes": dict(element.attrib),
            "text": (element.text or "").strip(),
            "children": [parse(child) for child in element],
        }

    return parse(ElementTree.fromstring(text))


DOCUMENTS: dict[str, tuple[str, str, Any, Callable[[Any], str], Callable[[Path], None] | None]] = {
    "coco": ("coco", "instances.json", COCO, json.dumps, None),
    "labelme": ("labelme", "a.json", LABELME, json.dumps, None),
    "cvat": ("cvat", "annotations.xml", load_xml(CVAT), dump_xml, None),
    "supervisely": ("supervisely", "ds/ann/a.png.json", SUPERVISELY, json.dumps, write_supervisely),
    "supervisely meta": ("supervisely", "meta.json", META, json.dumps, write_supervisely),
    "yolo": ("yolo", "labels/a.txt", [line.split() for line in LINES.splitlines()], dump_lines, write_yolo),
    "yolo names": ("yolo", "data.yaml", YOLO, yaml.safe_dump, write_yolo),
    "nnunet": ("nnunet", "dataset.json", NNUNET, json.dumps, write_nnunet),
}
"""Name → format, file, its content, how it is written, and what else the dataset has."""


OTHER_DOCUMENT = re.compile(
    r"(segmentation/0|points|points/exterior|interior/0|origin)(/\d)+: -1$|^yolo/\d/\d: -1$|"
    r"/(xtl|ytl|xbr|ybr|cx|cy|rotation|left|top|z_order): -1$|/(iscrowd|z_order|rotation): (null|removed)$|"
    r"^labelme.*/label: (-1|text|long text)$|/(annotations|shapes|objects): empty (list|object)$|"
    r"^cvat/children/2/children: |^yolo/\d: empty list$"
)
"""Changes that make another valid document, such as another corner, label or number of shapes."""
OTHER_FILE = re.compile(r"^cvat/tag: |^labelme/shapes: removed$|^nnunet/labels/\w+: removed$")
"""Changes after which the file is no longer recognized, or the masks contradict it: the error names those."""


def list_keys(value: Any, above: Keys = ()) -> Iterator[Keys]:
    """Yield where each value of a document is."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, child in items:
        yield (*above, key)
        yield from list_keys(child, (*above, key))


def replace_value(document: Any, keys: Keys, value: Any) -> Any:
    changed = copy.deepcopy(document)
    parent = changed
    for key in keys[:-1]:
        parent = parent[key]
    if value is REMOVED:
        del parent[keys[-1]]
    else:
        parent[keys[-1]] = value
    return changed


def read_masks(root: Path, format: str) -> dict[str, Any]:
    """Return the mask of each image by the path of the image, and the names of files that are in no pair."""
    dataset = Dataset.load(root, format)
    index = dataset.index
    lists = (index.images_without_mask, index.masks_without_image, index.same_stem, index.outside_splits)
    named = {path.name: "named" for files in (*lists, index.foreign_files) for path in files}
    return named | {sample.image_path.name: dataset.read_labels(sample).tolist() for sample in dataset.samples}


@pytest.mark.parametrize("replacement", REPLACEMENTS)
@pytest.mark.parametrize("name", DOCUMENTS)
def test_a_malformed_value_never_gives_a_wrong_mask(tmp_path: Path, name: str, replacement: str) -> None:
    format, file, document, dump, write = DOCUMENTS[name]
    for image in {"coco": ("a.png", "b.png"), "labelme": ("a.png",)}.get(format, ("images/a.png",)):
        write_image(tmp_path / image)
    if write:
        write(tmp_path)
    path = tmp_path / file
    path.write_text(dump(document), encoding="utf-8")
    expected = read_masks(tmp_path, format)
    wrong = []
    for keys in list_keys(document):
        if REPLACEMENTS[replacement] is REMOVED and isinstance(keys[-1], int):
            continue  # a shorter list is another document
        change = f"{name}/{'/'.join(map(str, keys))}: {replacement}"
        path.write_text(dump(replace_value(document, keys, REPLACEMENTS[replacement])), encoding="utf-8")
        try:
            found = read_masks(tmp_path, format)
        except PixelwiseError as error:
            message = str(error).replace(str(tmp_path), "")
            if len(message) > 500 or not (path.name in message or OTHER_FILE.search(change)):
                wrong.append(f"{change}: {message[:200]}")
        else:
            is_right = all(found.get(image) in ("named", mask) for image, mask in expected.items())
            if not is_right and not OTHER_DOCUMENT.search(change):
                wrong.append(f"{change}: another mask")
    assert wrong == []
