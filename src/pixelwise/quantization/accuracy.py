"""What int8 loses: its mean IoU beside the model's in float32, on labeled images that neither has seen."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pixelwise.data.dataset import Dataset
from pixelwise.data.io.images import Array
from pixelwise.data.sample import Sample
from pixelwise.errors import InvalidArgumentError
from pixelwise.evaluation.split_selection import choose_split, for_model
from pixelwise.inference.batching import Failure, predict_all
from pixelwise.inference.predictor import Predictor
from pixelwise.metrics import ConfusionMatrix, mean_iou
from pixelwise.progress import report_progress
from pixelwise.shapes import Size

MAX_LOSS = 1.0
"""Points of mean IoU that int8 may lose, where nothing else is asked for."""

CALIBRATION_IMAGES = 32
"""Of the training split, drawn with a fixed seed. Their smallest and largest values are all that is used."""
CALIBRATION_SIZE: Size = (1024, 1024)
"""Of a larger image a window of this size is used, so that memory has a bound."""
CALIBRATION_SEED = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """Images to find the scales of int8 with, and others to judge it by."""

    dataset: Dataset
    calibration: tuple[Sample, ...]
    validation: tuple[Sample, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Accuracy:
    """Int8 and the model in float32, on the validation images at full size."""

    mean_iou: float
    """Of int8, a fraction in [0, 1]."""
    model_mean_iou: float
    agreement: float
    """Share of pixels that have the model's label, whether they are labeled or not."""
    validation_images: int
    calibration_images: int

    @property
    def loss(self) -> float:
        """Points of mean IoU that int8 has less than the model; negative where it has more."""
        return 100 * (self.model_mean_iou - self.mean_iou)


def open_trial(data: str | Path, format: str | None, model: str | Path, predictor: Predictor) -> Trial:
    """Images of the training and of the validation split, the model's own where its run has made them.

    Raises:
        InvalidArgumentError: one of the splits is missing, or the classes are not the model's.
    """
    dataset = for_model(Dataset.load(data, format), predictor)
    (_, train), (_, val) = (choose_split(dataset, Path(model), split) for split in ("train", "val"))
    order = np.random.default_rng(CALIBRATION_SEED).permutation(len(train))
    calibration = tuple(train[index] for index in order[:CALIBRATION_IMAGES])
    return Trial(dataset=dataset, calibration=calibration, validation=tuple(val))


def calibration_images(trial: Trial, predictor: Predictor) -> Iterator[Array]:
    """(H, W, C) as the model takes them, read one after the other; of large ones a window drawn by the seed."""
    rng = np.random.default_rng(CALIBRATION_SEED)
    for sample in trial.calibration:
        image = predictor.checked(trial.dataset.read_image(sample))
        sides = [min(side, most) for side, most in zip(image.shape[:2], CALIBRATION_SIZE, strict=True)]
        top, left = (int(rng.integers(0, whole - side + 1)) for whole, side in zip(image.shape, sides, strict=False))
        yield np.ascontiguousarray(image[top : top + sides[0], left : left + sides[1]])


def allowed_loss(points: float | None) -> float:
    """In points; None is the usual limit. InvalidArgumentError where it is no number of points."""
    most = MAX_LOSS if points is None else points
    if not 0 <= most <= 100:
        raise InvalidArgumentError(f"max_iou_drop is {most}, but is a number of points of mean IoU, from 0 to 100.")
    return most


def require_accuracy(accuracy: Accuracy, most: float, path: Path) -> None:
    """InvalidArgumentError where int8 loses more points than that, for a file that was to be written."""
    if not accuracy.loss <= most:
        raise InvalidArgumentError(
            f"{path} is not written: on the {accuracy.validation_images} validation images the mean IoU of int8 is "
            f"{accuracy.mean_iou:.4f} and the model's {accuracy.model_mean_iou:.4f}, {accuracy.loss:.2g} points less, "
            f"and {most:g} may be lost. Choose another precision, or allow more with --max-iou-drop."
        )


def measure_accuracy(trial: Trial, predictor: Predictor, labels_of: Callable[[Array], Array]) -> Accuracy:
    """Labels each validation image in int8 and with the model, and counts both as `evaluate` does.

    Args:
        predictor: the model in float32.
        labels_of: (H, W, C) → (H, W) class indices, in int8.

    Raises:
        InvalidArgumentError: no pixel of these images is labeled.
    """
    classes = predictor.classes
    of_int8, of_model = (ConfusionMatrix(len(classes.names)) for _ in range(2))
    equal = pixels = 0
    answers = predict_all(predictor, trial.validation, trial.dataset.read, name=lambda sample: sample.image_location)
    for done, answer in enumerate(answers, start=1):
        if isinstance(answer, Failure):
            raise answer.error
        found = labels_of(predictor.checked(answer.image))
        expected = answer.prediction.labels
        for confusion, labels in ((of_int8, found), (of_model, expected)):
            confusion.update(labels, answer.extra, ignore_index=classes.ignore_index)
        equal += int((found == expected).sum())
        pixels += expected.size
        report_progress("compare", done, len(trial.validation))
    if not of_model.counts.any():
        raise InvalidArgumentError(
            f"no pixel of the {len(trial.validation)} validation images of {trial.dataset.root} is labeled, so the "
            f"loss of int8 cannot be measured; give data with labels."
        )
    return Accuracy(
        mean_iou=mean_iou(of_int8.counts),
        model_mean_iou=mean_iou(of_model.counts),
        agreement=equal / pixels,
        validation_images=len(trial.validation),
        calibration_images=len(trial.calibration),
    )
