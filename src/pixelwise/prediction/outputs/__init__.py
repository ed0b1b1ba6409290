"""What predictions look like on disk: one table of all that `predict --save` can write.

A file of one image is written by a function, whichever thread calls it. A file on all images of a job is
given them one by one, in their order, and written at the end.
"""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from pixelwise.data.classes import Classes
from pixelwise.prediction.outputs.annotations import CocoFile, CvatFile, JobFile, require_nameable, write_labelme
from pixelwise.prediction.outputs.csv_table import TableFile
from pixelwise.prediction.outputs.geojson import write_polygons
from pixelwise.prediction.outputs.pictures import write_labels, write_overlay
from pixelwise.prediction.outputs.prediction_view import Labeled, LabelValues, Predicted
from pixelwise.prediction.outputs.probabilities import (
    write_confidence,
    write_entropy,
    write_probabilities,
    write_probabilities_tiff,
)

__all__ = [
    "GEOREFERENCED",
    "JOB_FILES",
    "OF_PROBABILITIES",
    "WRITERS",
    "JobFile",
    "LabelValues",
    "Labeled",
    "Predicted",
    "require_kinds",
]

Writer = Callable[[Path, Predicted, LabelValues], None]

WRITERS: dict[str, tuple[str, Writer]] = {
    "confidence": ("_confidence.png", lambda path, made, _: write_confidence(path, made)),
    "entropy": ("_entropy.png", lambda path, made, _: write_entropy(path, made)),
    "labelme": (".json", lambda path, made, _: write_labelme(path, made)),
    "labels": (".png", write_labels),
    "overlay": ("_overlay.png", lambda path, made, _: write_overlay(path, made)),
    "polygons": (".geojson", lambda path, made, _: write_polygons(path, made)),
    "probabilities": ("_probabilities.npz", lambda path, made, _: write_probabilities(path, made)),
    "probabilities-tiff": ("_probabilities.tif", lambda path, made, _: write_probabilities_tiff(path, made)),
}
"""Files of one image: name → (what follows the stem, function)."""

JOB_FILES: Mapping[str, tuple[str, Callable[[Classes], JobFile]]] = {
    "coco": ("coco.json", CocoFile),
    "cvat": ("cvat.xml", CvatFile),
    "table": ("table.csv", TableFile),
}
"""Files on all images of a job: name → (file in the output folder, how it begins)."""

OF_PROBABILITIES = ("confidence", "entropy", "probabilities", "probabilities-tiff")
"""Made from probabilities, so the logits had better be kept."""
GEOREFERENCED = ("polygons", "table")
"""Say where things are on the map."""
OF_OBJECTS = ("coco", "cvat", "labelme")
"""For annotation tools: each region is an object with the name of its class."""


def require_kinds(kinds: Iterable[str], classes: Classes) -> None:
    """InvalidArgumentError for outputs that cannot name these classes."""
    for kind in kinds:
        if kind in OF_OBJECTS:
            require_nameable(kind, classes)
