"""Whether an exported file gives what the model gives: labels compared, and how far logits differ."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pixelwise.data.images import Array
from pixelwise.data.synthetic import street_scene
from pixelwise.exporting.formats import Run
from pixelwise.inference.predictor import Predictor
from pixelwise.model_file import ModelSpec
from pixelwise.shapes import Size

NOISE_SIZES: tuple[Size, ...] = ((1, 1), (1, 7), (61, 33), (45, 64))
SCENE_SIZES: tuple[Size, ...] = ((67, 93), (96, 129))
BATCH = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """What the comparison with the model in float32 found."""

    agreement: float
    """Share of pixels of all images that have the model's label."""
    largest_logit_gap: float
    largest_logit: float
    """In absolute value; what the gap is to be seen beside."""
    sizes: tuple[Size, ...]


def prove(predictor: Predictor, run: Run, with_logits: Run) -> Proof:
    """Compares on noise and on drawn scenes of odd sizes, single pixels and batches among them.

    Args:
        predictor: the model, in float32 on the CPU.
        run: the file as it is handed over; its labels are compared.
        with_logits: the same graph with its logits.
    """
    equal = pixels = 0
    gap = largest = 0.0
    batches = list(drawn_batches(predictor.spec))
    for images in batches:
        (labels, *_), (_, logits) = run(images), with_logits(images)
        for image, found, scores in zip(images, labels, logits, strict=True):
            expected = predictor.predict(image, tiling="none", keep_logits=True)
            equal += int((expected.labels == found).sum())
            pixels += expected.labels.size
            # NaN would be larger than nothing.
            gap = max(gap, float(np.nan_to_num(np.abs(expected.logits - scores), nan=np.inf).max()))
            largest = max(largest, float(np.abs(expected.logits).max()))
    sizes = tuple((images.shape[1], images.shape[2]) for images in batches)
    return Proof(agreement=equal / pixels, largest_logit_gap=gap, largest_logit=largest, sizes=sizes)


def drawn_batches(spec: ModelSpec) -> Iterator[Array]:
    """(B, H, W, C) in the model's type and about its units: mean and deviation of each channel are the model's."""
    draws: tuple[tuple[tuple[Size, ...], Callable[[int, Size, int], Array]], ...] = (
        (NOISE_SIZES, _noise),
        (SCENE_SIZES, _scene),
    )
    for sizes, draw in draws:
        for size in sizes:
            # A batch at every second size, so that neither form is left out.
            count = BATCH if size[1] % 2 else 1
            yield np.stack([_in_units(draw(seed, size, spec.channels), spec) for seed in range(count)])


def _noise(seed: int, size: Size, channels: int) -> Array:
    return np.random.default_rng(seed).normal(size=(*size, channels))


def _scene(seed: int, size: Size, channels: int) -> Array:
    """A drawn street, its three colors in turn for as many channels as there are."""
    scene: npt.NDArray[np.float64] = street_scene(seed, size)[0].astype(np.float64)
    scene = (scene - scene.mean()) / scene.std()
    return scene[..., np.arange(channels) % 3]


def _in_units(values: Array, spec: ModelSpec) -> Array:
    """Values of mean 0 and deviation 1 → pixels as the training images have them."""
    pixels = values * np.array(spec.deviation) + np.array(spec.mean)
    dtype = np.dtype(spec.dtype)
    if dtype.kind == "u":
        pixels = np.rint(pixels).clip(0, np.iinfo(dtype).max)
    typed: Array = pixels.astype(dtype)
    return typed
