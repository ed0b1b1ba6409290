"""A model's network in int8, made once from labeled images and kept beside the model."""

import logging
from dataclasses import asdict
from pathlib import Path

import torch

from pixelwise.errors import InvalidArgumentError
from pixelwise.inference.engines import Source, choose_engine, require_engine
from pixelwise.inference.int8_file import frames_of, int8_file, read_int8, write_int8
from pixelwise.inference.predictor import in_int8, load
from pixelwise.lowering.quantize import quantize, quantizer_versions
from pixelwise.quantization.accuracy import (
    Accuracy,
    allowed_loss,
    calibration_images,
    measure_accuracy,
    open_trial,
    require_accuracy,
)

logger = logging.getLogger(__name__)


def calibrate(
    model: str | Path,
    data: str | Path,
    *,
    format: str | None,
    engine: str,
    max_iou_drop: float | None,
) -> None:
    """Sees to it that the model has a network in int8 that loses no more than is allowed.

    One that is there and whole is used. Else scales are found on images of the training split, and the mean IoU is
    measured on the validation split, by the engine that is to compute it.

    Args:
        max_iou_drop: points of mean IoU that may be lost, from 0 to 100; None: 1.

    Raises:
        InvalidArgumentError: it loses more, a split or an extra is missing, the classes are not the model's, or the
        engine
            has no int8.
    """
    most, path, name = allowed_loss(max_iou_drop), int8_file(model), choose_engine(engine, "int8")
    require_engine(name, torch.device("cpu"), "int8")
    known = _known(model)
    if known:
        if known.loss > most:
            raise InvalidArgumentError(
                f"{path} loses {known.loss:.2g} points of mean IoU, and {most:g} may be lost. Choose another "
                f"precision, or allow more with --max-iou-drop."
            )
        return
    versions = quantizer_versions()
    reference = load(model, device="cpu", precision="fp32", engine="torch")
    trial = open_trial(data, format, model, reference)
    logger.info(f"int8: finding scales on {len(trial.calibration)} training images, once")
    source = Source(module=reference.module, channels=reference.spec.channels)
    graph = quantize(source.onnx, frames_of(reference.module, calibration_images(trial, reference)))
    made = in_int8(reference, name, graph)
    accuracy = measure_accuracy(trial, reference, lambda image: made.predict(image).labels)
    require_accuracy(accuracy, most, path)
    write_int8(model, graph, {"accuracy": asdict(accuracy), "versions": dict(versions)})
    logger.info(
        f"int8: mean IoU {accuracy.mean_iou:.4f} on {accuracy.validation_images} validation images, the model's "
        f"{accuracy.model_mean_iou:.4f}; {accuracy.agreement:.2%} of the labels are equal; kept in {path.name}"
    )


def _known(model: str | Path) -> Accuracy | None:
    """What the file beside the model was measured to lose; None where there is none that can be used."""
    if not int8_file(model).exists():
        return None
    try:
        return Accuracy(**read_int8(model)[1]["accuracy"])
    except InvalidArgumentError as error:
        logger.info(str(error))
        return None
