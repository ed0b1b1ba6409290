"""Quantize a model to int8 with activation ranges from training images, and measure the result."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np

from pixelwise.data.dataset import Dataset
from pixelwise.data.io.images import Array
from pixelwise.data.sample import Sample
from pixelwise.errors import InvalidArgumentError
from pixelwise.evaluation.split_selection import adapt_to_model, choose_split
from pixelwise.inference.batching import Failure, predict_all
from pixelwise.inference.engines import ENGINES, EngineName, NetworkSource, choose_engine, get_installed_versions
from pixelwise.inference.int8_file import get_int8_path, prepare_frames, require_replaceable, write_int8
from pixelwise.inference.predictor import Predictor, load, make_int8_predictor
from pixelwise.lowering.int8 import quantize_graph
from pixelwise.metrics import ConfusionMatrix, mean_iou
from pixelwise.progress import report_progress
from pixelwise.quantization.result import EngineAccuracy, Int8Accuracy, QuantizeResult
from pixelwise.shapes import Size
from pixelwise.version import __version__

logger = logging.getLogger(__name__)

NUM_TRAINING_IMAGES = 32
"""Training images that are drawn to find activation ranges; only minima and maxima are used."""
MAX_IMAGE_SIZE: Size = (1024, 1024)
"""Larger images are cropped to a random window of this size, which bounds memory."""
SEED = 0


def quantize(
    model: str | Path,
    data: str | Path,
    output: str | Path | None = None,
    *,
    max_iou_drop: float = 1.0,
    format: str | None = None,
) -> QuantizeResult:
    """Quantize a model to int8, see `pixelwise.quantize`."""
    if not 0 <= max_iou_drop <= 100:
        raise InvalidArgumentError(f"max_iou_drop is {max_iou_drop}. Expected percentage points from 0 to 100.")
    path = get_int8_path(model) if output is None else Path(output)
    require_replaceable(path)
    choose_engine("onnxruntime")  # which has the quantizer
    reference = load(model, device="cpu", precision="fp32", engine="torch")
    dataset = adapt_to_model(Dataset.load(Path(data), format), reference)
    training = draw_training_samples(choose_split(dataset, model, "train")[1])
    _, validation = choose_split(dataset, model, "val")
    logger.info(f"Finding activation ranges on {len(training)} training images")
    images = read_training_images(dataset, training, reference)
    source = NetworkSource(module=reference.module, channels=reference.spec.channels)
    graph = quantize_graph(source.onnx, prepare_frames(reference.module, images))
    quantized = {
        name: make_int8_predictor(reference, name, graph)
        for name, engine in ENGINES.items()
        if engine.is_installed and "int8" in engine.precisions
    }
    model_mean_iou, engines = measure_accuracy(dataset, validation, reference, quantized)
    accuracy = Int8Accuracy(
        model_mean_iou=model_mean_iou,
        engines=engines,
        num_validation_images=len(validation),
        num_training_images=len(training),
    )
    _require_accuracy(accuracy, max_iou_drop, path)
    versions = {"pixelwise": __version__, **get_installed_versions()}
    write_int8(model, graph, {"accuracy": asdict(accuracy), "versions": versions}, path=path)
    return QuantizeResult(file=path, accuracy=accuracy)


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


def _require_accuracy(accuracy: Int8Accuracy, max_iou_drop: float, path: Path) -> None:
    for name, engine in accuracy.engines.items():
        drop = accuracy.compute_iou_drop(name)
        if not drop <= max_iou_drop:  # NaN is refused, too
            raise InvalidArgumentError(
                f"{path} was not written. On {accuracy.num_validation_images} validation images the mean IoU is "
                f"{engine.mean_iou:.4f} in int8 ({name}) and {accuracy.model_mean_iou:.4f} in float32, {drop:.2g} "
                f"points lower; at most {max_iou_drop:g} are allowed. Use another precision, or allow more with "
                f"--max-iou-drop."
            )
