"""Values per pixel: probabilities, confidence and entropy."""

import io
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import tifffile

from pixelwise.data.io.images import Array, write_png
from pixelwise.files import write_atomically
from pixelwise.inference.predictor import Prediction

MAX_VALUE = 65535
"""Pixel value that stands for 1.0."""


def write_probabilities(path: Path, predicted: Prediction, names: Sequence[str]) -> None:
    """Write a compressed NPZ: `probabilities` (K, H, W) float16, `names` (K,)."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, probabilities=predicted.probabilities.astype(np.float16), names=np.array(names))
    write_atomically(path, buffer.getvalue())


def write_probabilities_tiff(path: Path, predicted: Prediction, names: Sequence[str]) -> None:
    """Write a compressed TIFF of K float16 bands, with the description `{"names": [...]}`."""
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
    write_atomically(path, buffer.getvalue())


def write_confidence(path: Path, predicted: Prediction) -> None:
    """Write the confidence as a 16-bit gray PNG; 65535 is 1."""
    write_png(path, _scale_to_16_bit(compute_confidence(predicted.probabilities)))


def write_entropy(path: Path, predicted: Prediction) -> None:
    """Write the entropy as a 16-bit gray PNG; 65535 is 1."""
    write_png(path, _scale_to_16_bit(compute_entropy(predicted.probabilities)))


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
