"""Compare an exported file with its model on synthetic images."""

from collections.abc import Iterator

import numpy as np

from pixelwise.data.io.images import Array
from pixelwise.errors import InvalidArgumentError
from pixelwise.exporting.formats import Run
from pixelwise.exporting.result import Parity
from pixelwise.inference.engines import draw_noise, draw_scene
from pixelwise.inference.predictor import Predictor
from pixelwise.model_file import ModelSpec
from pixelwise.shapes import Size

NOISE_SIZES: tuple[Size, ...] = ((1, 1), (1, 7), (61, 33), (45, 64))
SCENE_SIZES: tuple[Size, ...] = ((67, 93), (96, 129))
BATCH_SIZE = 2


def compare_with_model(predictor: Predictor, run: Run, run_with_logits: Run) -> Parity:
    """Compare labels and logits on noise and on drawn scenes: odd sizes, single pixels, single images and batches.

    Args:
        predictor: the model in float32 on the CPU.
        run: runs the file; its labels are compared.
        run_with_logits: runs the same graph with logits.

    Raises:
        InvalidArgumentError: the labels have a different shape or dtype than the model's.
    """
    equal = pixels = 0
    gap = largest = 0.0
    batches = list(draw_batches(predictor.spec))
    for images in batches:
        (labels, *_), (_, logits) = run(images), run_with_logits(images)
        _require_labels(labels, images, predictor)
        for image, image_labels, image_logits in zip(images, labels, logits, strict=True):
            expected = predictor.predict(image, tiling="none", keep_logits=True)
            equal += int((expected.labels == image_labels).sum())
            pixels += expected.labels.size
            # NaN counts as an infinite gap: max() would ignore it.
            gap = max(gap, float(np.nan_to_num(np.abs(expected.logits - image_logits), nan=np.inf).max()))
            largest = max(largest, float(np.abs(expected.logits).max()))
    sizes = tuple((images.shape[1], images.shape[2]) for images in batches)
    return Parity(agreement=equal / pixels, largest_logit_gap=gap, largest_logit=largest, sizes=sizes)


def draw_batches(spec: ModelSpec) -> Iterator[Array]:
    """Draw batches (B, H, W, C) in the model's dtype, with about the model's mean and std in each channel."""
    for sizes, draw in ((NOISE_SIZES, draw_noise), (SCENE_SIZES, draw_scene)):
        for size in sizes:
            count = BATCH_SIZE if size[1] % 2 else 1
            yield np.stack([draw(seed, size, spec) for seed in range(count)])


def _require_labels(labels: Array, images: Array, predictor: Predictor) -> None:
    dtype = "uint8" if len(predictor.classes.names) <= 256 else "uint16"
    if labels.shape != images.shape[:3] or labels.dtype != dtype:
        raise InvalidArgumentError(
            f"The file was not written. For images {images.shape} it gives labels {labels.shape} {labels.dtype}, "
            f"expected {images.shape[:3]} {dtype}. Use another format or precision, and report this."
        )
