"""Images and label maps as RGB pictures: display range, class colors, overlays, and data URIs for HTML."""

import base64
import io

import numpy as np
from PIL import Image

from pixelwise.data.classes import Classes, Color
from pixelwise.data.io.images import Array


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


def overlay_labels(picture: Array, labels: Array, classes: Classes, opacity: float = 0.5) -> Array:
    """Blend (H, W, 3) uint8 with the class colors; borders between classes are nearly opaque."""
    return blend_colors(picture, labels, colorize_labels(labels, classes), opacity)


def blend_colors(picture: Array, labels: Array, colors: Array, opacity: float) -> Array:
    """Blend a picture with `colors`, both (H, W, 3) uint8; nearly opaque where neighboring `labels` (H, W) differ.

    The border is drawn on the side of the higher label, so a region on background 0 has one rim around it.
    """
    border = np.zeros(labels.shape, bool)
    for one, other in ((np.s_[:, 1:], np.s_[:, :-1]), (np.s_[1:], np.s_[:-1])):
        border[one] |= labels[one] > labels[other]
        border[other] |= labels[other] > labels[one]
    weight = np.where(border, 0.9, opacity)[..., None]
    blended: Array = np.rint(picture * (1 - weight) + colors.astype(np.float32) * weight).astype(np.uint8)
    return blended


def to_data_uri(picture: Array, max_side: int, quality: int = 88) -> str:
    """Encode (H, W, 3) uint8, shrunk to at most `max_side`, as a WebP data URI for an HTML page without other files."""
    image = Image.fromarray(picture)
    image.thumbnail((max_side, max_side))
    buffer = io.BytesIO()
    image.save(buffer, "WEBP", quality=quality, method=1)  # a quarter of the time of the default
    return "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode()


def to_css_color(color: Color) -> str:
    """Return `rgb(R, G, B)`."""
    return "rgb({}, {}, {})".format(*color)
