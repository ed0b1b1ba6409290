"""Predictions to look at: label PNG, and overlay with legend."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from pixelwise.data.io.images import Array, write_png
from pixelwise.data.visualization import overlay_labels, to_display_image
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
    picture = overlay_labels(to_display_image(made.image), labels, classes)
    present = np.flatnonzero(np.bincount(labels.ravel()))
    shares = [float((labels == i).mean()) for i in present]
    entries = [
        # Joined: the font measures single lines only.
        (f"{' '.join(classes.names[i].split())}  {share:.1%}", classes.colors[i])
        for share, i in sorted(zip(shares, present.tolist(), strict=True), reverse=True)
    ]
    write_png(path, with_legend(picture, entries))


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
