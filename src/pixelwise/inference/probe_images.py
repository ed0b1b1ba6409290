"""Synthetic test images that match a model's input dtype and statistics."""

import numpy as np
import numpy.typing as npt

from pixelwise.data.io.images import Array
from pixelwise.data.synthetic import street_scene
from pixelwise.model_file import ModelSpec
from pixelwise.shapes import Size


def draw_noise(seed: int, size: Size, spec: ModelSpec) -> Array:
    """Draw noise (H, W, C) with the dtype of the model, and its mean and std as far as the dtype allows."""
    return _to_pixels(np.random.default_rng(seed).normal(size=(*size, spec.channels)), spec)


def draw_scene(seed: int, size: Size, spec: ModelSpec) -> Array:
    """Draw a street scene (H, W, C) like `draw_noise`; its three colors are repeated for all channels."""
    scene: npt.NDArray[np.float64] = street_scene(seed, size)[0].astype(np.float64)
    scene = (scene - scene.mean()) / scene.std()
    return _to_pixels(scene[..., np.arange(spec.channels) % 3], spec)


def _to_pixels(values: npt.NDArray[np.float64], spec: ModelSpec) -> Array:
    """Convert values of mean 0 and std 1 to pixels like those of the training images."""
    pixels = values * np.array(spec.std) + np.array(spec.mean)
    dtype = np.dtype(spec.dtype)
    if dtype.kind == "u":
        pixels = np.rint(pixels).clip(0, np.iinfo(dtype).max)
    typed: Array = pixels.astype(dtype)
    return typed
