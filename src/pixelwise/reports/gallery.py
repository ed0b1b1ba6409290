"""Pictures of scored images: the image, the truth, the prediction and the errors."""

import numpy as np

from pixelwise.data.classes import Classes
from pixelwise.data.io.images import Array
from pixelwise.data.visualization import overlay_labels, to_display_image


def draw_panels(image: Array, labels: Array, prediction: Array, classes: Classes) -> dict[str, Array]:
    """Draw an image as it is, with the truth, with the prediction and with the errors, each (H, W, 3) uint8."""
    picture = to_display_image(image)
    return {
        "image": picture,
        "truth": overlay_labels(picture, labels, classes, 0.75),
        "prediction": overlay_labels(picture, prediction, classes, 0.75),
        "errors": _draw_errors(picture, labels, prediction, classes.ignore_index),
    }


def _draw_errors(picture: Array, labels: Array, prediction: Array, ignore_index: int) -> Array:
    """Draw wrong pixels red and ignored pixels blue-gray on a pale gray image."""
    errors = np.repeat(picture.mean(2, keepdims=True) * 0.45 + 130, 3, 2)
    is_ignored = labels == ignore_index
    is_wrong = (prediction != labels) & ~is_ignored
    errors[is_wrong] = 0.25 * errors[is_wrong] + 0.75 * np.array([220, 20, 40])
    errors[is_ignored] = 0.5 * errors[is_ignored] + 0.5 * np.array([120, 140, 170])
    return errors.astype(np.uint8)
