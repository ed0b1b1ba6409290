"""Dataset formats that are read in place: one module per format, listed in `FORMATS`."""

from collections.abc import Mapping
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
from pixelwise.data.formats.dataset_index import DatasetFormat, require_folder
from pixelwise.errors import DataError, unknown_name

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


def detect_format(root: Path, name: str | None = None) -> str:
    """Return the name of a dataset's format: `name` if given, else the only one that can read the files.

    Raises:
        InvalidArgumentError: The name is unknown.
        PathNotFoundError: The folder does not exist.
        DataError: The path is a file, or several formats fit.
    """
    if name is not None:
        if name not in FORMATS:
            raise unknown_name("format", name, FORMATS)
        return name
    require_folder(root)
    matches = [key for key, dataset_format in FORMATS.items() if key != "folder" and dataset_format.can_read(root)]
    if len(matches) > 1:
        raise DataError(f"{root} fits several formats: {', '.join(matches)}. Choose one with --format.")
    return matches[0] if matches else "folder"
