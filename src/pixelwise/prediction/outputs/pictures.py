"""Pictures of predictions: the label file, and an overlay with a legend."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from pixelwise.data.classes import Color
from pixelwise.data.io.images import Array, write_png
from pixelwise.data.visualization import overlay_labels, to_display_image
from pixelwise.prediction.outputs.labeled_image import LabeledImage


def write_labels(path: Path, labeled: LabeledImage) -> None:
    """Write class indices as a palette PNG in the class colors, or the mask values of the dataset."""
    write_png(path, labeled.mask, labeled.palette)


def write_overlay(path: Path, labeled: LabeledImage, image: Array) -> None:
    """Write the image blended with the class colors, and a legend of the classes that occur."""
    labels, classes = labeled.labels, labeled.classes
    counts = np.bincount(labels.ravel())
    entries = [
        # The font only measures single lines.
        (f"{' '.join(classes.names[label].split())}  {counts[label] / labels.size:.1%}", classes.colors[label])
        for label in sorted(np.flatnonzero(counts).tolist(), key=lambda label: (counts[label], label), reverse=True)
    ]
    write_png(path, add_legend(overlay_labels(to_display_image(image), labels, classes), entries))


def add_legend(picture: Array, entries: Sequence[tuple[str, Color]]) -> Array:
    """Append a strip below a picture with a swatch and a text for each entry, wrapped to the width."""
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
