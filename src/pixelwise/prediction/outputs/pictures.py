"""Predictions to look at: label PNG, and overlay with legend."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from pixelwise.data.classes import Classes
from pixelwise.data.io.images import Array, write_png
from pixelwise.prediction.outputs.prediction_view import LabelValues, Predicted


def write_labels(path: Path, made: Predicted, label_values: LabelValues) -> None:
    """`index`: palette PNG of class indices in the class colors; `data`: the dataset's own values."""
    if label_values == "dataset":
        write_png(path, made.classes.to_mask(made.labels))
    elif len(made.classes.names) > 256:
        write_png(path, made.labels)
    else:
        write_png(path, made.labels, made.classes.colors)


def write_overlay(path: Path, made: Predicted) -> None:
    """The image under its classes in their colors, with a legend of those that occur."""
    labels, classes = made.labels, made.classes
    picture = overlay(display(made.image), labels, classes)
    present = np.flatnonzero(np.bincount(labels.ravel()))
    shares = [float((labels == i).mean()) for i in present]
    entries = [
        # Joined: the font measures single lines only.
        (f"{' '.join(classes.names[i].split())}  {share:.1%}", classes.colors[i])
        for share, i in sorted(zip(shares, present.tolist(), strict=True), reverse=True)
    ]
    write_png(path, with_legend(picture, entries))


def display(image: Array) -> Array:
    """(H, W, C) of any type → (H, W, 3) uint8 to look at, of more channels the first three.

    16 bit and float are stretched to their own range: gray and color as a whole, so that colors stay,
    and the channels of a multi-band image each for itself, as their units may differ.
    """
    shown = image[..., :3] if image.shape[2] >= 3 else image[..., :1]
    if shown.dtype != np.uint8:
        low, high = np.percentile(shown, (0.5, 99.5), axis=(0, 1) if image.shape[2] > 3 else None)
        span = np.where(high > low, high - low, 1)
        shown = (np.clip((shown - low) / span, 0, 1) * 255).astype(np.uint8)
    return shown if shown.shape[2] == 3 else np.repeat(shown, 3, axis=2)


def colorize(labels: Array, classes: Classes) -> Array:
    """Labels (H, W) → (H, W, 3) uint8 in the class colors; ignored pixels are black."""
    table = np.zeros((max(len(classes.names), classes.ignore_index) + 1, 3), np.uint8)
    table[: len(classes.names)] = classes.colors
    return table[labels]


def overlay(picture: Array, labels: Array, classes: Classes, opacity: float = 0.5) -> Array:
    """(H, W, 3) uint8 blended with the class colors, the borders between classes at full strength."""
    return blend(picture, labels, colorize(labels, classes), opacity)


def blend(picture: Array, labels: Array, colors: Array, opacity: float) -> Array:
    """A picture under `colors`, both (H, W, 3) uint8; stronger where neighboring `labels` (H, W) differ.

    Of two neighbors the one with the higher label is, so that a region on background 0 has one rim, all around.
    """
    border = np.zeros(labels.shape, bool)
    for one, other in ((np.s_[:, 1:], np.s_[:, :-1]), (np.s_[1:], np.s_[:-1])):
        border[one] |= labels[one] > labels[other]
        border[other] |= labels[other] > labels[one]
    weight = np.where(border, 0.9, opacity)[..., None]
    blended: Array = np.rint(picture * (1 - weight) + colors.astype(np.float32) * weight).astype(np.uint8)
    return blended


def with_legend(picture: Array, entries: Sequence[tuple[str, tuple[int, int, int]]]) -> Array:
    """The picture with a strip below it: a swatch and a text for each entry, wrapped to its width."""
    font = ImageFont.load_default(12)
    boxes = [int(font.getlength(text)) + 30 for text, _ in entries]
    width = max(picture.shape[1], *boxes, 1)
    columns = max(1, width // max(*boxes, 1))
    rows = -(-len(entries) // columns)
    strip = Image.new("RGB", (width, picture.shape[0] + 18 * rows + 6), "white")
    strip.paste(Image.fromarray(picture), (0, 0))
    draw = ImageDraw.Draw(strip)
    for index, (text, color) in enumerate(entries):
        x = 4 + index % columns * (width // columns)
        y = picture.shape[0] + 4 + index // columns * 18
        draw.rectangle((x, y + 1, x + 12, y + 13), fill=color, outline=(90, 90, 90))
        draw.text((x + 18, y), text, fill="black", font=font)
    return np.asarray(strip)
