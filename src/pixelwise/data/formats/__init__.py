"""How datasets lie on disk: one short file a format, one line each in `FORMATS`."""

from collections.abc import Mapping
from pathlib import Path

from pixelwise.data.formats.ade20k import ADE20K
from pixelwise.data.formats.camvid import CAMVID
from pixelwise.data.formats.cityscapes import CITYSCAPES
from pixelwise.data.formats.coco import COCO
from pixelwise.data.formats.cvat import CVAT
from pixelwise.data.formats.folder import FOLDER
from pixelwise.data.formats.huggingface import HUGGINGFACE
from pixelwise.data.formats.labelme import LABELME
from pixelwise.data.formats.nnunet import NNUNET
from pixelwise.data.formats.pairing import Format
from pixelwise.data.formats.supervisely import SUPERVISELY
from pixelwise.data.formats.voc import VOC
from pixelwise.data.formats.webdataset import WEBDATASET
from pixelwise.data.formats.yolo import YOLO
from pixelwise.errors import DataError, unknown_name

FORMATS: Mapping[str, Format] = {
    "folder": FOLDER,
    "camvid": CAMVID,
    "voc": VOC,
    "cityscapes": CITYSCAPES,
    "ade20k": ADE20K,
    "nnunet": NNUNET,
    "huggingface": HUGGINGFACE,
    "webdataset": WEBDATASET,
    "coco": COCO,
    "cvat": CVAT,
    "labelme": LABELME,
    "supervisely": SUPERVISELY,
    "yolo": YOLO,
}
"""`folder` is taken where no other one is recognized: its folders occur in many of them."""


def recognize_format(root: Path, name: str | None = None) -> str:
    """The format of a dataset: the one asked for, or the one its files look like.

    Raises InvalidArgumentError for an unknown name and DataError where several formats would fit.
    """
    if name is not None:
        if name not in FORMATS:
            raise unknown_name("format", name, FORMATS)
        return name
    if not root.is_dir():
        raise DataError(f"{root} is not a folder; give the folder that holds images/ and masks/.")
    found = [key for key, format in FORMATS.items() if key != "folder" and format.recognizes(root)]
    if len(found) > 1:
        raise DataError(f"{root} looks like {' and like '.join(found)}; say which it is with --format.")
    return found[0] if found else "folder"
