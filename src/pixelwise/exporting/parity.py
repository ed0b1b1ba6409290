"""Whether an exported file gives what the model gives: labels compared, and how far logits differ."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from pixelwise.data.io.images import Array
from pixelwise.errors import InvalidArgumentError
from pixelwise.exporting.formats import Run
from pixelwise.inference.predictor import Predictor
from pixelwise.inference.probe_images import draw_noise, draw_scene
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

    Raises:
        InvalidArgumentError: labels of another number, size or type than the model's.
    """
    equal = pixels = 0
    gap = largest = 0.0
    batches = list(drawn_batches(predictor.spec))
    for images in batches:
        (labels, *_), (_, logits) = run(images), with_logits(images)
        _require_form(labels, images, predictor)
        for image, found, scores in zip(images, labels, logits, strict=True):
            expected = predictor.predict(image, tiling="none", keep_logits=True)
            equal += int((expected.labels == found).sum())
            pixels += expected.labels.size
            # NaN would be larger than nothing.
            gap = max(gap, float(np.nan_to_num(np.abs(expected.logits - scores), nan=np.inf).max()))
            largest = max(largest, float(np.abs(expected.logits).max()))
    sizes = tuple((images.shape[1], images.shape[2]) for images in batches)
    return Proof(agreement=equal / pixels, largest_logit_gap=gap, largest_logit=largest, sizes=sizes)


def _require_form(labels: Array, images: Array, predictor: Predictor) -> None:
    dtype = "uint8" if len(predictor.classes.names) <= 256 else "uint16"
    if labels.shape != images.shape[:3] or labels.dtype != dtype:
        raise InvalidArgumentError(
            f"the file is not written: of images {images.shape} it makes labels {labels.shape} {labels.dtype}, not "
            f"{images.shape[:3]} {dtype}; choose another format or precision, and report this."
        )


def drawn_batches(spec: ModelSpec) -> Iterator[Array]:
    """(B, H, W, C) in the model's type and about its units: mean and std of each channel are the model's."""
    for sizes, draw in ((NOISE_SIZES, draw_noise), (SCENE_SIZES, draw_scene)):
        for size in sizes:
            # A batch at every second size, so that neither form is left out.
            count = BATCH if size[1] % 2 else 1
            yield np.stack([draw(seed, size, spec) for seed in range(count)])
