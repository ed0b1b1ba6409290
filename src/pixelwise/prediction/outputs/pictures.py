"""Outputs of one image as pixels: labels, an overlay with a legend, probabilities, confidence and entropy."""

import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import tifffile
from PIL import Image, ImageDraw, ImageFont

from pixelwise.conversion.writer import make_palette
from pixelwise.data.classes import Classes
from pixelwise.data.colors import Color
from pixelwise.data.io.images import Array, encode_png
from pixelwise.data.io.tiff import Georeference, GeoTag, encode_label_tiff
from pixelwise.data.visualization import OPACITY, OverlayStyle, overlay_labels, to_display_image
from pixelwise.inference.predictor import Prediction
from pixelwise.progress import format_percent

LabelValues = Literal["index", "dataset"]


@dataclass(frozen=True, slots=True)
class LabeledImage:
    """The labels of one image, and what its file says about it."""

    labels: Array
    """(H, W) class indices after postprocessing; the ignore index for pixels without data."""
    classes: Classes
    name: str
    """Name in files that list several images: the path below the input folder, with suffix."""
    source: Path | None = None
    """The image file; None for a URL."""
    georeference: Georeference | None = None
    """Position on the map, if the image file has one."""
    geo_tags: tuple[GeoTag, ...] = ()
    """Everything that the image file says about its place, as tags of a GeoTIFF."""
    label_values: LabelValues = "index"
    """Values of a label file: class indices, or the mask values of the dataset."""
    corners: Array | None = None
    """(2 H + 1, 2 W + 1) bool, the corners of simplified polygons in half pixels; None: they follow the pixels."""
    overlay_style: OverlayStyle = "fill"
    opacity: float = OPACITY
    """Opacity of a filled overlay, from 0 to 1."""

    @property
    def mask(self) -> Array:
        """Return the pixels of the label file."""
        return self.classes.to_mask(self.labels) if self.label_values == "dataset" else self.labels

    @property
    def palette(self) -> Sequence[Color]:
        """Return the colors of the label file; empty if it has no palette."""
        if self.label_values != "index" or self.labels.dtype != np.uint8:
            return ()
        return make_palette(self.classes) if self.labels.max() >= len(self.classes.names) else self.classes.colors


def encode_labels(path: Path, labeled: LabeledImage) -> bytes:
    """Encode class indices in the class colors, or the mask values of the dataset, as PNG or GeoTIFF by the suffix."""
    if path.suffix == ".tif":
        has_missing = labeled.labels.max(initial=0) >= len(labeled.classes.names)
        nodata = int(labeled.mask[labeled.labels >= len(labeled.classes.names)][0]) if has_missing else None
        return encode_label_tiff(labeled.mask, labeled.palette, labeled.geo_tags, nodata)
    return encode_png(labeled.mask, labeled.palette)


def draw_overlay(labeled: LabeledImage, image: Array) -> Array:
    """Draw the classes over an image (H, W, C): (H, W, 3) uint8."""
    picture = to_display_image(image)
    return overlay_labels(picture, labeled.labels, labeled.classes, labeled.opacity, labeled.overlay_style)


def encode_overlay(labeled: LabeledImage, image: Array) -> bytes:
    """Encode the classes over the image, and a legend of those that occur."""
    labels, classes = labeled.labels, labeled.classes
    colors = get_painted_colors(classes)
    counts = np.bincount(labels.ravel())[: len(classes.names)]
    entries = [
        # The font only measures single lines.
        (f"{' '.join(classes.names[label].split())}  {format_percent(counts[label] / labels.size)}", colors[label])
        for label in sorted(np.flatnonzero(counts).tolist(), key=lambda label: (counts[label], label), reverse=True)
    ]
    return encode_png(add_legend(draw_overlay(labeled, image), entries))


def get_painted_colors(classes: Classes) -> list[Color | None]:
    """Return the color of each class in overlays; None for the background."""
    return [None if label == classes.background else color for label, color in enumerate(classes.colors)]


def add_legend(picture: Array, entries: Sequence[tuple[str, Color | None]]) -> Array:
    """Append a strip below a picture with a swatch and a text for each entry, wrapped to the width.

    The swatch of an entry without color is empty, with a diagonal line.
    """
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
        if color is None:
            draw.line((x, y + 13, x + 12, y + 1), fill=(90, 90, 90))
        draw.text((x + 18, y), text, fill="black", font=font)
    return np.asarray(strip)


MAX_VALUE = 65535
"""Pixel value that stands for 1.0."""


def encode_probabilities(predicted: Prediction, names: Sequence[str]) -> bytes:
    """Encode a compressed NPZ: `probabilities` (K, H, W) float16, `names` (K,)."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, probabilities=predicted.probabilities.astype(np.float16), names=np.array(names))
    return buffer.getvalue()


def encode_probabilities_tiff(predicted: Prediction, names: Sequence[str]) -> bytes:
    """Encode a compressed TIFF of K float16 bands, with the description `{"names": [...]}`."""
    buffer = io.BytesIO()
    tifffile.imwrite(
        buffer,
        predicted.probabilities.astype(np.float16),
        photometric="minisblack",
        planarconfig="separate",
        compression="zlib",
        description=json.dumps({"names": names}),
        metadata=None,
    )
    return buffer.getvalue()


def encode_confidence(predicted: Prediction) -> bytes:
    """Encode the confidence as a 16-bit gray PNG; 65535 is 1."""
    return encode_png(_scale_to_16_bit(compute_confidence(predicted.probabilities)))


def encode_entropy(predicted: Prediction) -> bytes:
    """Encode the entropy as a 16-bit gray PNG; 65535 is 1."""
    return encode_png(_scale_to_16_bit(compute_entropy(predicted.probabilities)))


def encode_variance(predicted: Prediction) -> bytes:
    """Encode the variance of the samples as a 16-bit gray PNG; 65535 is 1/4, the largest variance of a fraction."""
    assert predicted.variance is not None
    return encode_png(_scale_to_16_bit(4 * predicted.variance))


def compute_confidence(probabilities: Array) -> Array:
    """Compute the probability of the most probable class, 1/K to 1: (K, H, W) float32 → (H, W) float32."""
    highest: Array = probabilities.max(0)
    return highest


def compute_entropy(probabilities: Array) -> Array:
    """Compute the normalized entropy -Σ p log p / log K, 0 to 1: (K, H, W) float32 → (H, W) float32.

    It is 0 where one class is certain, or K is 1, and 1 where all classes are equally probable.
    """
    total: Array = np.zeros(probabilities.shape[1:], np.float32)
    for layer in probabilities:  # one class at a time, to avoid a second array of K layers
        total -= layer * np.log(np.maximum(layer, np.finfo(np.float32).tiny))
    total /= np.float32(np.log(max(len(probabilities), 2)))
    return total


def _scale_to_16_bit(values: Array) -> Array:
    scaled: Array = np.rint(values.clip(0, 1).astype(np.float64) * MAX_VALUE).astype(np.uint16)
    return scaled
