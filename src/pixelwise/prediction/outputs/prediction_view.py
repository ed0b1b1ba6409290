"""What outputs are made from: an image and what was predicted of it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pixelwise.data.classes import Classes
from pixelwise.data.io.georeference import Georeference
from pixelwise.data.io.images import Array
from pixelwise.inference.predictor import Prediction

LabelValues = Literal["index", "dataset"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Labeled:
    """One image of a job and its labels."""

    source: Path | None
    """The image's file; None of one behind a URL."""
    name: str
    """Of the image in files that list several: below the folder it was found in, with its ending."""
    labels: Array
    """(H, W) class indices, tidied if that was asked for."""
    classes: Classes
    georeference: Georeference | None = None
    """Where the image lies on the map, if its file says so."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Predicted(Labeled):
    """One image with all that is known of it when it has just been predicted."""

    image: Array
    """(H, W, C) as read."""
    prediction: Prediction
    """As the network gave it: its labels are not tidied."""

    def without_image(self) -> Labeled:
        """What files on all images need; the rest takes K + C times the memory."""
        return Labeled(
            source=self.source,
            name=self.name,
            labels=self.labels,
            classes=self.classes,
            georeference=self.georeference,
        )
