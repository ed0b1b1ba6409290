"""Pictures of scored images: the image, the truth, the prediction and the errors."""

from pixelwise.data.classes import Classes
from pixelwise.data.colors import GRAY
from pixelwise.data.io.images import Array
from pixelwise.data.visualization import (
    choose_error_color,
    draw_errors,
    list_swatches,
    overlay_labels,
    to_css_color,
    to_css_stripes,
    to_display_image,
)


def draw_panels(image: Array, labels: Array, prediction: Array, classes: Classes) -> dict[str, Array]:
    """Draw an image as it is, with the truth, with the prediction and with the errors, each (H, W, 3) uint8."""
    picture = to_display_image(image)
    return {
        "image": picture,
        "truth": overlay_labels(picture, labels, classes, 0.75),
        "prediction": overlay_labels(picture, prediction, classes, 0.75),
        "errors": draw_errors(picture, labels, prediction, classes),
    }


def list_panel_swatches(classes: Classes) -> list[tuple[str, str]]:
    """Return name and CSS color of everything that `draw_panels` paints."""
    errors = [("error", to_css_stripes(choose_error_color(classes))), ("ignored in errors", to_css_color(GRAY))]
    return [*list_swatches(classes), *errors]
