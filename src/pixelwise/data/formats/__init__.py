"""Dataset formats that are read in place: one module per format, listed in `FORMATS`."""

from collections.abc import Mapping
from itertools import islice
from pathlib import Path

from pixelwise.data.formats import (
    ade20k,
    camvid,
    cityscapes,
    coco,
    cvat,
    folder,
    huggingface,
    labelme,
    nnunet,
    supervisely,
    voc,
    webdataset,
    yolo,
)
from pixelwise.data.formats._documents import read_ends
from pixelwise.data.formats.dataset_index import DatasetFormat, require_folder
from pixelwise.errors import DataError, find_name

FORMATS: Mapping[str, DatasetFormat] = {
    "folder": folder,
    "camvid": camvid,
    "voc": voc,
    "cityscapes": cityscapes,
    "ade20k": ade20k,
    "nnunet": nnunet,
    "huggingface": huggingface,
    "webdataset": webdataset,
    "coco": coco,
    "cvat": cvat,
    "labelme": labelme,
    "supervisely": supervisely,
    "yolo": yolo,
}
"""Format name → module. `folder` is the fallback: many other formats contain its folders, too."""

_EXPORTS: Mapping[str, str] = {
    **dict.fromkeys(
        ('"shape_attributes"', "region_shape_attributes", '"fid_list"'),
        "has annotations of VIA (VGG Image Annotator). Export them from VIA as COCO.",
    ),
    '"polygonlabels"': "is Label Studio's own JSON. Export the project from Label Studio as 'COCO with images'.",
    '"brushlabels"': "is Label Studio's own JSON. Export the project as 'Brush labels to PNG'.",
    "<bndbox>": "has boxes of objects, but no outlines. Draw the outlines, for example with LabelMe.",
}
"""Text in an annotation file of a tool whose own format is not read → what it is, and what to export instead."""


def detect_format(root: Path, name: str | None = None) -> str:
    """Return the name of a dataset's format: `name` if given, else the only one that can read the files.

    Raises:
        InvalidArgumentError: The name is unknown.
        PathNotFoundError: The folder does not exist.
        DataError: The path is a file, several formats fit, or it has annotations of another format only.
    """
    if name is not None:
        return find_name("format", name, FORMATS)
    require_folder(root)
    matches = [key for key, dataset_format in FORMATS.items() if key != "folder" and dataset_format.can_read(root)]
    if len(matches) > 1:
        raise DataError(f"{root} fits several formats: {', '.join(matches)}. Choose one with --format.")
    if not matches and (reason := _find_other_tool(root)) and not folder.can_read(root):
        raise DataError(reason)
    return matches[0] if matches else "folder"


def _find_other_tool(root: Path) -> str | None:
    """Return what an annotation file in a folder is, and which export to choose; None if there is none."""
    files = (
        path for pattern in ("*.json", "*.xml", "*.csv", "*/*.json", "*/*.xml") for path in sorted(root.glob(pattern))
    )
    for path in islice(files, 20):
        text = read_ends(path, 65536)
        reason = next((reason for key, reason in _EXPORTS.items() if key in text), None)
        if reason:
            return f"{path} {reason}"
    return None
