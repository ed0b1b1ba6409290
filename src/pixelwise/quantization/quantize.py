"""Quantize a model to int8 with activation ranges from training images, and measure the result."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from pixelwise.data.dataset import Dataset
from pixelwise.data.io.images import Array
from pixelwise.data.sample import Sample
from pixelwise.errors import InvalidArgumentError
from pixelwise.inference.batching import Failure, predict_all
from pixelwise.inference.engines import ENGINES, EngineName, NetworkSource
from pixelwise.inference.int8_file import prepare_frames
from pixelwise.inference.predictor import Predictor, make_int8_predictor
from pixelwise.lowering.int8 import quantize_graph
from pixelwise.metrics import ConfusionMatrix, mean_iou
from pixelwise.progress import report_progress
from pixelwise.quantization.result import EngineAccuracy, Int8Accuracy
from pixelwise.shapes import Size

logger = logging.getLogger(__name__)

NUM_TRAINING_IMAGES = 32
"""Training images that are drawn to find activation ranges; only minima and maxima are used."""
MAX_IMAGE_SIZE: Size = (1024, 1024)
"""Larger images are cropped to a random window of this size, which bounds memory."""
SEED = 0


def quantize_predictor(
    reference: Predictor, dataset: Dataset, training: Sequence[Sample], validation: Sequence[Sample]
) -> tuple[bytes, Int8Accuracy]:
    """Quantize a model and measure the result.

    Args:
        reference: the model in float32 on the CPU.
        training: samples of which some are drawn to find activation ranges.
        validation: samples on which the accuracy is measured, with every installed engine that computes in int8.

    Returns:
        The ONNX graph in int8, from frames to the network's output, and its accuracy.
    """
    drawn = draw_training_samples(training)
    logger.info(f"Finding activation ranges on {len(drawn)} training images")
    images = read_training_images(dataset, drawn, reference)
    source = NetworkSource(module=reference.module, channels=reference.spec.channels)
    graph = quantize_graph(source.onnx, prepare_frames(reference.module, images))
    quantized = {
        name: make_int8_predictor(reference, name, graph)
        for name, engine in ENGINES.items()
        if engine.is_installed and "int8" in engine.precisions
    }
    model_mean_iou, engines = measure_accuracy(dataset, validation, reference, quantized)
    return graph, Int8Accuracy(
        model_mean_iou=model_mean_iou,
        engines=engines,
        num_validation_images=len(validation),
        num_training_images=len(drawn),
    )


def draw_training_samples(samples: Sequence[Sample]) -> list[Sample]:
    """Return up to `NUM_TRAINING_IMAGES` samples, drawn at random with a fixed seed."""
    order = np.random.default_rng(SEED).permutation(len(samples))
    return [samples[index] for index in order[:NUM_TRAINING_IMAGES]]


def read_training_images(dataset: Dataset, samples: Sequence[Sample], predictor: Predictor) -> Iterator[Array]:
    """Yield images (H, W, C) in the model's type, one at a time, cropped to `MAX_IMAGE_SIZE`."""
    rng = np.random.default_rng(SEED)
    for sample in samples:
        image = predictor.check_image(dataset.read_image(sample))
        height, width = (min(side, limit) for side, limit in zip(image.shape[:2], MAX_IMAGE_SIZE, strict=True))
        top = int(rng.integers(0, image.shape[0] - height + 1))
        left = int(rng.integers(0, image.shape[1] - width + 1))
        yield np.ascontiguousarray(image[top : top + height, left : left + width])


def measure_accuracy(
    dataset: Dataset, samples: Sequence[Sample], reference: Predictor, quantized: Mapping[EngineName, Predictor]
) -> tuple[float, dict[str, EngineAccuracy]]:
    """Compare int8 predictors with the model in float32 on labeled images, scored as in `evaluate`.

    Args:
        reference: the model in float32.
        quantized: engine → the model in int8 on it.

    Returns:
        The mean IoU in float32, and the accuracy on each engine.

    Raises:
        InvalidArgumentError: no pixel of these images is labeled.
    """
    classes = reference.classes
    confusions = {name: ConfusionMatrix(len(classes.names)) for name in (None, *quantized)}
    equal = dict.fromkeys(quantized, 0)
    pixels = 0
    answers = predict_all(reference, samples, dataset.read, name=lambda sample: sample.image_location)
    for done, answer in enumerate(answers, start=1):
        if isinstance(answer, Failure):
            raise answer.error
        image, expected = reference.check_image(answer.image), answer.prediction.labels
        confusions[None].update(expected, answer.extra, ignore_index=classes.ignore_index)
        for name, predictor in quantized.items():
            labels = predictor.predict(image).labels
            confusions[name].update(labels, answer.extra, ignore_index=classes.ignore_index)
            equal[name] += int((labels == expected).sum())
        pixels += expected.size
        report_progress("compare", done, len(samples))
    if not confusions[None].counts.any():
        raise InvalidArgumentError(
            f"No pixel of the {len(samples)} validation images of {dataset.root} is labeled, so the accuracy of int8 "
            f"cannot be measured. Use a dataset with labeled validation images."
        )
    return mean_iou(confusions[None].counts), {
        name: EngineAccuracy(mean_iou=mean_iou(confusions[name].counts), agreement=equal[name] / pixels)
        for name in quantized
    }


def require_accuracy(accuracy: Int8Accuracy, max_iou_drop: float, path: Path) -> None:
    """Raise InvalidArgumentError if an engine loses more points of mean IoU; `path` is the file not written."""
    for name, engine in accuracy.engines.items():
        drop = accuracy.compute_iou_drop(name)
        if not drop <= max_iou_drop:  # NaN is refused, too
            raise InvalidArgumentError(
                f"{path} was not written. On {accuracy.num_validation_images} validation images the mean IoU is "
                f"{engine.mean_iou:.4f} in int8 ({name}) and {accuracy.model_mean_iou:.4f} in float32, {drop:.2g} "
                f"points lower. At most {max_iou_drop:g} are allowed. Use another precision, or allow more with "
                f"--max-iou-drop."
            )
