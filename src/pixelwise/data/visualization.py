"""Images and label maps as RGB pictures: display range, class colors, overlays, and data URIs for HTML."""

import base64
import io
from typing import Literal

import cv2
import numpy as np
from PIL import Image

from pixelwise.data.classes import Classes
from pixelwise.data.colors import GRAY, Color, choose_mark_color
from pixelwise.data.io.images import Array

OverlayStyle = Literal["fill", "outline"]
OPACITY = 0.5
"""Default opacity of overlays."""


def to_display_image(image: Array) -> Array:
    """Convert (H, W, C) of any type to (H, W, 3) uint8; of more than 3 channels, show the first three.

    16-bit and float values are stretched between their 0.5 and 99.5 % quantiles: gray and RGB as a whole,
    which preserves colors; multi-band images per channel, because their units may differ.
    """
    shown = image[..., :3] if image.shape[2] >= 3 else image[..., :1]
    if shown.dtype != np.uint8:
        low, high = np.percentile(shown, (0.5, 99.5), axis=(0, 1) if image.shape[2] > 3 else None)
        span = np.where(high > low, high - low, 1)
        shown = (np.clip((shown - low) / span, 0, 1) * 255).astype(np.uint8)
    return shown if shown.shape[2] == 3 else np.repeat(shown, 3, axis=2)


def colorize_labels(labels: Array, classes: Classes) -> Array:
    """Convert labels (H, W) to (H, W, 3) uint8 in the class colors; ignored pixels are black."""
    table = np.zeros((max(len(classes.names), classes.ignore_index) + 1, 3), np.uint8)
    table[: len(classes.names)] = classes.colors
    return table[labels]


def overlay_labels(
    picture: Array, labels: Array, classes: Classes, opacity: float = OPACITY, style: OverlayStyle = "fill"
) -> Array:
    """Draw labels (H, W) over a picture (H, W, 3) uint8 in the class colors, without the background."""
    colors = colorize_labels(labels, classes)
    if style == "fill":
        return blend_colors(picture, labels, colors, opacity, classes.background)
    order = _put_background_first(labels, classes.background)
    kernel = _make_disk(2 * max(1, round(max(labels.shape) / 500)))
    is_line = (cv2.erode(order, kernel) < order) | (cv2.dilate(order, kernel) > order)
    return np.where((is_line & (labels != classes.background))[..., None], colors, picture)


def blend_colors(picture: Array, labels: Array, colors: Array, opacity: float, background: int | None = None) -> Array:
    """Blend a picture with `colors`, both (H, W, 3) uint8; nearly opaque where neighboring `labels` (H, W) differ.

    The border is drawn on the side of the higher label, so a region on the background has one rim around it.
    """
    order = _put_background_first(labels, background)
    is_border = cv2.erode(order, _make_disk(max(1, round(max(labels.shape) / 1000)))) < order
    weight = np.where(is_border, min(1, 1.8 * opacity), opacity).astype(np.float32)
    weight[labels == background] = 0
    blended: Array = np.rint(picture + (colors.astype(np.float32) - picture) * weight[..., None]).astype(np.uint8)
    return blended


def draw_errors(picture: Array, labels: Array, prediction: Array, classes: Classes) -> Array:
    """Mark wrong pixels on a pale gray version of a picture (H, W, 3) uint8; ignored pixels are dark gray."""
    errors = np.repeat(np.rint(picture.mean(2, keepdims=True) * 0.45 + 130), 3, 2).astype(np.uint8)
    is_ignored = labels == classes.ignore_index
    errors[is_ignored] = GRAY
    return mark_pixels(errors, (prediction != labels) & ~is_ignored, choose_error_stripes(classes))


def choose_error_color(classes: Classes) -> Color:
    """Return a color that differs from those of all classes, and from gray."""
    return choose_mark_color([GRAY, *classes.colors])


def choose_error_stripes(classes: Classes) -> tuple[Color, Color]:
    """Return `choose_error_color` and a dark shade of it."""
    red, green, blue = choose_error_color(classes)
    return (red, green, blue), (red // 4, green // 4, blue // 4)


def mark_pixels(picture: Array, is_marked: Array, stripes: tuple[Color, Color]) -> Array:
    """Paint the pixels `is_marked` (H, W) with diagonal stripes of two colors, which are visible without color."""
    height, width = is_marked.shape
    period = max(6, round(max(height, width) / 64))
    is_stripe = np.add.outer(np.arange(height), np.arange(width)) % period < period / 3
    marked = picture.copy()
    marked[is_marked] = stripes[0]
    marked[is_marked & is_stripe] = stripes[1]
    return marked


def _put_background_first(labels: Array, background: int | None) -> Array:
    """Renumber labels so that the background is 0."""
    if background is None:
        return labels.copy()
    order: Array = labels + (labels < background).astype(labels.dtype)
    order[labels == background] = 0
    return order


def _make_disk(radius: int) -> Array:
    return cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1, 2 * radius + 1))


def to_data_uri(picture: Array, max_side: int, quality: int = 88) -> str:
    """Encode (H, W, 3 or 4) uint8, shrunk to at most `max_side`, as a WebP data URI for HTML without other files."""
    image = Image.fromarray(picture)
    image.thumbnail((max_side, max_side))
    buffer = io.BytesIO()
    image.save(buffer, "WEBP", quality=quality, method=1)  # a quarter of the time of the default
    return "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode()


def list_swatches(classes: Classes) -> list[tuple[str, str]]:
    """Return name and CSS color of each class in overlays; the background is transparent."""
    swatches = [(name, to_css_color(color)) for name, color in zip(classes.names, classes.colors, strict=True)]
    if classes.background is not None:
        swatches[classes.background] = (f"{classes.names[classes.background]} (not painted)", "transparent")
    return swatches


def list_css_colors(classes: Classes) -> list[str]:
    """Return the CSS color of each class in overlays."""
    return [color for _, color in list_swatches(classes)]


def to_css_stripes(stripes: tuple[Color, Color]) -> str:
    """Return stripes such as those of `mark_pixels`."""
    first, second = map(to_css_color, stripes)
    return f"repeating-linear-gradient(135deg, {first} 0 3px, {second} 3px 6px)"


def to_css_color(color: Color) -> str:
    """Return `rgb(R, G, B)`."""
    return "rgb({}, {}, {})".format(*color)
