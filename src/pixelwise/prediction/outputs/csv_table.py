"""How much of each class there is, image by image, as CSV."""

import csv
import io

import numpy as np

from pixelwise.data.classes import Classes
from pixelwise.prediction.outputs.prediction_view import Labeled
from pixelwise.prediction.postprocess import number_regions

COLUMNS = ("image", "class", "pixels", "share", "regions", "area")


class TableFile:
    """A line for each class of each image, also of classes that do not occur: means need their zeros."""

    def __init__(self, classes: Classes) -> None:
        self.classes = classes
        self.text = io.StringIO()
        self.rows = csv.writer(self.text, lineterminator="\n")
        self.rows.writerow(COLUMNS)

    def add(self, made: Labeled) -> None:
        """`area` is in squares of the map's unit, and empty where the image is not georeferenced."""
        num_classes = len(self.classes.names)
        pixels = np.bincount(made.labels.ravel(), minlength=num_classes).tolist()
        _, firsts = np.unique(number_regions(made.labels), return_index=True)
        counts = np.bincount(made.labels.reshape(-1)[firsts], minlength=num_classes).tolist()
        for name, found, count in zip(self.classes.names, pixels, counts, strict=True):
            share = f"{found / made.labels.size:.6f}"
            area = repr(found * made.georeference.pixel_area) if made.georeference else ""
            self.rows.writerow((made.name, name, found, share, count, area))

    def mark(self) -> tuple[int, ...]:
        return (self.text.tell(),)

    def back_to(self, mark: tuple[int, ...]) -> None:
        self.text.seek(mark[0])
        self.text.truncate()

    def content(self) -> bytes:
        return self.text.getvalue().encode()
