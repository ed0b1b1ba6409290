"""The pictures of scored images: the image, the truth, the prediction and the errors."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import cv2
import numpy as np

from pixelwise.data.classes import Classes
from pixelwise.data.colors import GRAY
from pixelwise.data.io.images import Array
from pixelwise.data.sample import Sample
from pixelwise.data.visualization import (
    choose_error_stripes,
    draw_errors,
    list_swatches,
    overlay_labels,
    to_css_color,
    to_css_stripes,
    to_data_uri,
)
from pixelwise.evaluation.evaluate import ScoredImage
from pixelwise.metrics import ConfusionMatrix, global_accuracy, iou, mean_iou
from pixelwise.progress import format_percent
from pixelwise.reports.html import Cell, Table, build_table, make_score_cell
from pixelwise.reports.thumbnails import Panel, draw_image, shrink

MAX_IMAGES = 500
"""Images with pictures; a page with more is slow to open."""
MAX_CHARACTERS = 9_000_000
"""Size of all pictures as data URIs."""
MAX_IMAGE_CHARACTERS = 240_000
"""Size of the pictures of one image."""

_ENCODINGS = ((640, 80), (480, 78), (384, 75), (256, 70), (192, 65), (144, 60), (96, 50), (64, 30))
"""Side and quality, tried in order until the pictures of an image are small enough."""
_CHARACTERS_PER_PIXEL = 0.3
"""Smallest size of the pictures of an image; sides that would exceed the budget are not tried."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GalleryImage:
    """A scored image with its pictures."""

    name: str
    size: str
    """Width × height in pixels."""
    confusion: ConfusionMatrix
    pictures: tuple[Panel, ...]

    @property
    def score(self) -> float | None:
        """The mean IoU; None if no pixel is labeled."""
        return compute_image_score(self.confusion)


class ImageGallery:
    """Draws images while they are scored, and keeps those with the lowest mean IoU.

    Args:
        num_images: Number of images that will be scored, from which the size of the pictures follows.
        classes: Classes of the model.
    """

    def __init__(self, num_images: int, classes: Classes) -> None:
        self.classes = classes
        self.budget = min(MAX_CHARACTERS // max(1, min(num_images, MAX_IMAGES)), MAX_IMAGE_CHARACTERS)
        self.images: dict[Sample, GalleryImage] = {}

    def add(self, scored: ScoredImage) -> None:
        """Draw an image, unless `MAX_IMAGES` others have lower scores."""
        if len(self.images) >= MAX_IMAGES:
            best = max(self.images, key=lambda sample: _rank(self.images[sample].score))
            if _rank(compute_image_score(scored.confusion)) >= _rank(self.images[best].score):
                return
            del self.images[best]
        height, width = scored.labels.shape
        self.images[scored.sample] = GalleryImage(
            name=scored.sample.name,
            size=f"{width} × {height}",
            confusion=scored.confusion,
            pictures=self._draw(scored),
        )

    def _draw(self, scored: ScoredImage) -> tuple[Panel, ...]:
        height, width = scored.labels.shape
        for side, quality in _ENCODINGS:
            scale = min(1.0, side / max(height, width))
            if scale**2 * height * width * _CHARACTERS_PER_PIXEL > self.budget and side > _ENCODINGS[-1][0]:
                continue
            pictures = draw_pictures(scored, self.classes, side, quality)
            if sum(len(picture.uri) for picture in pictures) <= self.budget:
                break
        return pictures

    def list_worst_first(self) -> list[GalleryImage]:
        """Return the images, those without labeled pixels last."""
        return sorted(self.images.values(), key=lambda image: (_rank(image.score), image.name))


def merge_galleries(galleries: Iterable[ImageGallery]) -> ImageGallery:
    """Return one gallery with the images of several, which scored different images."""
    first, *others = galleries
    for other in others:
        first.images |= other.images
    kept = sorted(first.images.items(), key=lambda item: (_rank(item[1].score), item[0]))
    first.images = dict(kept[:MAX_IMAGES])
    return first


def compute_image_score(confusion: ConfusionMatrix) -> float | None:
    """Return the mean IoU of an image; None if no pixel is labeled."""
    return float(mean_iou(confusion.counts)) if confusion.counts.any() else None


def _rank(score: float | None) -> float:
    return 2.0 if score is None else score


def _find_weakest(image: GalleryImage, names: tuple[str, ...]) -> Cell:
    """Return the class with the lowest IoU of an image, among those of its mean: in the truth or the prediction."""
    values = iou(image.confusion.counts)
    if np.isnan(values).all():
        return Cell(text="–", is_text=True)
    index = int(np.nanargmin(values))
    return Cell(text=f"{names[index]} {format_percent(values[index])}", is_text=True)


IMAGE_COLUMNS: Mapping[str, Callable[[GalleryImage, tuple[str, ...]], Cell]] = {
    "image": lambda image, names: Cell(text=image.name, is_text=True, pictures=image.pictures),
    "mean IoU": lambda image, names: make_score_cell(image.score),
    "accuracy": lambda image, names: make_score_cell(global_accuracy(image.confusion.counts)),
    "lowest class": _find_weakest,
}
"""Title → function of an image and the names of the classes that returns the cell. A further column is one entry."""


def build_image_table(gallery: ImageGallery) -> Table:
    """Return the table of all images in a gallery."""
    return build_table(IMAGE_COLUMNS, gallery.list_worst_first(), gallery.classes.names)


def draw_pictures(scored: ScoredImage, classes: Classes, side: int, quality: int = 80) -> tuple[Panel, ...]:
    """Draw the panels of a scored image with at most `side` pixels."""
    labels, prediction = (shrink(x, side, cv2.INTER_NEAREST) for x in (scored.labels, scored.prediction))
    panels = draw_panels(draw_image(scored.image, side), labels, prediction, classes)
    height, width = labels.shape
    return tuple(
        Panel(title=title, uri=to_data_uri(panel, side, quality), height=height, width=width)
        for title, panel in panels.items()
    )


def draw_panels(picture: Array, labels: Array, prediction: Array, classes: Classes) -> dict[str, Array]:
    """Draw a picture as it is, with the truth, with the prediction and with the errors, each (H, W, 3) uint8."""
    return {
        "image": picture,
        "truth": overlay_labels(picture, labels, classes, 0.75),
        "prediction": overlay_labels(picture, prediction, classes, 0.75),
        "errors": draw_errors(picture, labels, prediction, classes),
    }


def list_panel_swatches(classes: Classes) -> list[tuple[str, str]]:
    """Return name and CSS color of everything that `draw_panels` paints."""
    errors = [("error", to_css_stripes(choose_error_stripes(classes))), ("ignored in errors", to_css_color(GRAY))]
    return [*list_swatches(classes), *errors]
