"""The area of each class in each image, as CSV."""

import csv
import io

import numpy as np

from pixelwise.data.classes import Classes
from pixelwise.prediction.outputs.pictures import LabeledImage
from pixelwise.prediction.postprocess import label_components

COLUMNS = ("image", "class", "pixels", "share", "regions", "area")


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
        pixels = np.bincount(labeled.labels.ravel(), minlength=num_classes).tolist()
        _, firsts = np.unique(label_components(labeled.labels), return_index=True)
        regions = np.bincount(labeled.labels.reshape(-1)[firsts], minlength=num_classes).tolist()
        for name, num_pixels, num_regions in zip(self.classes.names, pixels, regions, strict=True):
            share = f"{num_pixels / labeled.labels.size:.6f}"
            area = repr(num_pixels * labeled.georeference.pixel_area) if labeled.georeference else ""
            self.rows.writerow((labeled.name, name, num_pixels, share, num_regions, area))

    def mark(self) -> tuple[int, ...]:
        return (self.text.tell(),)

    def roll_back(self, mark: tuple[int, ...]) -> None:
        self.text.seek(mark[0])
        self.text.truncate()

    def encode(self) -> bytes:
        return self.text.getvalue().encode()
