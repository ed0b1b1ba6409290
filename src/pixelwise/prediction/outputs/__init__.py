"""All outputs that `predict --save` can write, in one table.

A file of one image is encoded by a function, in any thread. A file that covers all images receives them one by one,
in their order, and is written at the end.
"""

import csv
import io
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import numpy as np

from pixelwise.data.classes import Classes
from pixelwise.data.io.images import Array
from pixelwise.inference.predictor import Prediction
from pixelwise.prediction.outputs.annotations import (
    CocoFile,
    CvatFile,
    SummaryFile,
    encode_labelme,
    encode_polygons,
    require_nameable,
)
from pixelwise.prediction.outputs.pictures import (
    LabeledImage,
    encode_confidence,
    encode_entropy,
    encode_labels,
    encode_overlay,
    encode_probabilities,
    encode_probabilities_tiff,
    encode_variance,
)
from pixelwise.prediction.postprocess import label_components

COLUMNS = ("image", "class", "pixels", "share", "regions", "area", "present")
"""The header of `CsvTable`."""

Encoder = Callable[[Path, LabeledImage, Array, Prediction], bytes]
"""Takes the file, the labels, the image (H, W, C) and the prediction, whose labels are not postprocessed."""


class CsvTable:
    """One row per class and image, also for classes that do not occur: means need their zeros."""

    def __init__(self, classes: Classes) -> None:
        self.classes = classes
        self.text = io.StringIO()
        self.rows = csv.writer(self.text, lineterminator="\n")
        self.rows.writerow(COLUMNS)

    def add(self, labeled: LabeledImage) -> None:
        """Add an image. `area` is in squared map units, and empty if the image is not georeferenced."""
        num_classes = len(self.classes.names)
        pixels = np.bincount(labeled.labels.ravel(), minlength=num_classes)[:num_classes].tolist()
        _, firsts = np.unique(label_components(labeled.labels), return_index=True)
        regions = np.bincount(labeled.labels.reshape(-1)[firsts], minlength=num_classes)[:num_classes].tolist()
        for name, num_pixels, num_regions in zip(self.classes.names, pixels, regions, strict=True):
            share = f"{num_pixels / labeled.labels.size:.6f}"
            area = repr(num_pixels * labeled.georeference.pixel_area) if labeled.georeference else ""
            present = "true" if num_pixels else "false"
            self.rows.writerow((labeled.name, name, num_pixels, share, num_regions, area, present))

    def mark(self) -> tuple[int, ...]:
        return (self.text.tell(),)

    def roll_back(self, mark: tuple[int, ...]) -> None:
        self.text.seek(mark[0])
        self.text.truncate()

    def encode(self) -> bytes:
        return self.text.getvalue().encode()


ENCODERS: dict[str, tuple[str, Encoder]] = {
    "confidence": ("_confidence.png", lambda path, labeled, image, predicted: encode_confidence(predicted)),
    "entropy": ("_entropy.png", lambda path, labeled, image, predicted: encode_entropy(predicted)),
    "labelme": (".json", lambda path, labeled, image, predicted: encode_labelme(path, labeled)),
    "labels": (".png", lambda path, labeled, image, predicted: encode_labels(path, labeled)),
    "labels-png": (".png", lambda path, labeled, image, predicted: encode_labels(path, labeled)),
    "overlay": ("_overlay.png", lambda path, labeled, image, predicted: encode_overlay(labeled, image)),
    "polygons": (".geojson", lambda path, labeled, image, predicted: encode_polygons(labeled)),
    "probabilities": (
        "_probabilities.npz",
        lambda path, labeled, image, predicted: encode_probabilities(predicted, labeled.classes.names),
    ),
    "probabilities-tiff": (
        "_probabilities.tif",
        lambda path, labeled, image, predicted: encode_probabilities_tiff(predicted, labeled.classes.names),
    ),
    "variance": ("_variance.png", lambda path, labeled, image, predicted: encode_variance(predicted)),
}
"""Files of one image: name → (ending after the stem, function)."""

SUMMARY_FILES: Mapping[str, tuple[str, Callable[[Classes], SummaryFile]]] = {
    "coco": ("coco.json", CocoFile),
    "cvat": ("cvat.xml", CvatFile),
    "table": ("table.csv", CsvTable),
}
"""Files that cover all images: name → (file in the output folder, constructor)."""

PROBABILITY_OUTPUTS = ("confidence", "entropy", "probabilities", "probabilities-tiff")
"""Computed from probabilities, so the logits are kept."""
GEOREFERENCED = ("polygons", "table")
"""Contain positions or areas on the map."""
OBJECT_OUTPUTS = ("coco", "cvat", "labelme")
"""For annotation tools: each region is an object with the name of its class."""
POLYGON_OUTPUTS = (*OBJECT_OUTPUTS, "polygons")
"""Contain outlines, which can be simplified."""


def require_kinds(kinds: Iterable[str], classes: Classes) -> None:
    """Raise InvalidArgumentError for outputs that cannot name these classes."""
    for kind in set(kinds) & set(OBJECT_OUTPUTS):
        require_nameable(kind, classes)
