"""Images made up for a model, to compare on where no dataset is at hand: in its type and about its units."""

import numpy as np
import numpy.typing as npt

from pixelwise.data.io.images import Array
from pixelwise.data.synthetic import street_scene
from pixelwise.model_file import ModelSpec
from pixelwise.shapes import Size


def draw_noise(seed: int, size: Size, spec: ModelSpec) -> Array:
    """(H, W, C) of the model's type; mean and std of each channel are the model's, as far as its type allows."""
    return _in_units(np.random.default_rng(seed).normal(size=(*size, spec.channels)), spec)


def draw_scene(seed: int, size: Size, spec: ModelSpec) -> Array:
    """As `draw_noise`, a drawn street: its three colors in turn for as many channels as there are."""
    scene: npt.NDArray[np.float64] = street_scene(seed, size)[0].astype(np.float64)
    scene = (scene - scene.mean()) / scene.std()
    return _in_units(scene[..., np.arange(spec.channels) % 3], spec)


def _in_units(values: npt.NDArray[np.float64], spec: ModelSpec) -> Array:
    """Values of mean 0 and std 1 → pixels as the training images have them."""
    pixels = values * np.array(spec.std) + np.array(spec.mean)
    dtype = np.dtype(spec.dtype)
    if dtype.kind == "u":
        pixels = np.rint(pixels).clip(0, np.iinfo(dtype).max)
    typed: Array = pixels.astype(dtype)
    return typed
