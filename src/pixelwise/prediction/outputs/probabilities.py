"""Numbers of every pixel: probabilities, and how sure the model is."""

import io
import json
from pathlib import Path

import numpy as np
import tifffile

from pixelwise.data.io.images import Array, write_png
from pixelwise.files import write_atomically
from pixelwise.prediction.outputs.prediction_view import Predicted

FULL = 65535
"""What 1.0 is in a map of 16 bit."""


def write_probabilities(path: Path, made: Predicted) -> None:
    """Compressed NPZ: `probabilities` (K, H, W) float16, `names` (K,)."""
    buffer = io.BytesIO()
    np.savez_compressed(
        buffer,
        probabilities=made.prediction.probabilities.astype(np.float16),
        names=np.array(made.classes.names),
    )
    write_atomically(path, buffer.getvalue())


def write_probabilities_tiff(path: Path, made: Predicted) -> None:
    """TIFF of K float16 bands, compressed; its description is JSON: {"names": [...]}."""
    buffer = io.BytesIO()
    tifffile.imwrite(
        buffer,
        made.prediction.probabilities.astype(np.float16),
        photometric="minisblack",
        planarconfig="separate",
        compression="zlib",
        description=json.dumps({"names": made.classes.names}),
        metadata=None,
    )
    write_atomically(path, buffer.getvalue())


def write_confidence(path: Path, made: Predicted) -> None:
    """16-bit gray PNG of `confidence`; 65535 is 1."""
    write_png(path, _as_16_bit(confidence(made.prediction.probabilities)))


def write_entropy(path: Path, made: Predicted) -> None:
    """16-bit gray PNG of `entropy`; 65535 is 1."""
    write_png(path, _as_16_bit(entropy(made.prediction.probabilities)))


def confidence(probabilities: Array) -> Array:
    """(K, H, W) float32 → (H, W) float32: the probability of the likeliest class, from 1/K to 1."""
    highest: Array = probabilities.max(0)
    return highest


def entropy(probabilities: Array) -> Array:
    """(K, H, W) float32 → (H, W) float32 from 0, one class is certain, to 1, all are as likely.

    That is -Σ p log p, divided by log K; of a single class 0.
    """
    num_classes = len(probabilities)
    total: Array = np.zeros(probabilities.shape[1:], np.float32)
    for layer in probabilities:  # one class at a time: no second array of K layers
        total -= layer * np.log(np.maximum(layer, np.finfo(np.float32).tiny))
    total /= np.float32(np.log(max(num_classes, 2)))
    return total


def _as_16_bit(values: Array) -> Array:
    scaled: Array = np.rint(values.clip(0, 1).astype(np.float64) * FULL).astype(np.uint16)
    return scaled
