"""The input of the writers of outputs."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pixelwise.data.classes import Classes, Color
from pixelwise.data.io.georeference import Georeference
from pixelwise.data.io.images import Array

LabelValues = Literal["index", "dataset"]


@dataclass(frozen=True, slots=True)
class LabeledImage:
    """The labels of one image, and what its file says about it."""

    labels: Array
    """(H, W) class indices, after postprocessing."""
    classes: Classes
    name: str
    """Name in files that list several images: the path below the input folder, with suffix."""
    source: Path | None = None
    """The image file; None for a URL."""
    georeference: Georeference | None = None
    """Position on the map, if the image file has one."""
    label_values: LabelValues = "index"
    """Values of a label file: class indices, or the mask values of the dataset."""

    @property
    def mask(self) -> Array:
        """Return the pixels of the label file."""
        return self.classes.to_mask(self.labels) if self.label_values == "dataset" else self.labels

    @property
    def palette(self) -> Sequence[Color]:
        """Return the colors of the label file; empty if it has no palette."""
        return self.classes.colors if self.label_values == "index" and len(self.classes.names) <= 256 else ()
