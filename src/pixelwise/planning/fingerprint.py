"""What a data set is, in the few numbers that a plan depends on."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pixelwise.data.dataset import DataSet
from pixelwise.data.sample import Sample
from pixelwise.data.splits import Splits
from pixelwise.data.survey import Survey
from pixelwise.shapes import Size


@dataclass(frozen=True, slots=True, kw_only=True)
class Fingerprint:
    num_train: int
    num_val: int
    median_size: Size
    """Height and width in pixels, over the training images."""
    channels: int
    dtype: str
    mean: tuple[float, ...]
    deviation: tuple[float, ...]
    class_shares: tuple[float, ...]
    """Share of each class among the training pixels that count."""
    class_weights: tuple[float, ...]
    """Median-frequency weights, to the first power."""
    upright: bool
    """Whether the rows of the labels differ: sky above road, and not cells any way up."""


def fingerprint(surveyed: Survey, splits: Splits, weights: tuple[float, ...]) -> Fingerprint:
    """Of the training images; validation images are only counted."""
    train = set(splits["train"])
    readings = [r for r in surveyed.readings if r.sample in train and r.size]
    sizes = np.array([r.size for r in readings])
    pixels = surveyed.class_pixels(splits["train"]).sum(0)
    mean, deviation = surveyed.normalization(splits["train"])
    return Fingerprint(
        num_train=len(splits["train"]),
        num_val=len(splits["val"]),
        median_size=(int(np.median(sizes[:, 0])), int(np.median(sizes[:, 1]))),
        channels=surveyed.dataset.channels or 0,
        dtype=readings[0].dtype,
        mean=tuple(mean),
        deviation=tuple(deviation),
        class_shares=tuple(float(share) for share in pixels / max(int(pixels.sum()), 1)),
        class_weights=weights,
        upright=is_upright(surveyed.dataset, splits["train"]),
    )


def is_upright(dataset: DataSet, samples: Sequence[Sample], at_most: int = 40) -> bool:
    """Whether the top and the bottom of the images hold different classes, judged on a few of them.

    The total variation between the class shares of the upper and the lower half, 0 to 1, exceeds
    a quarter; then vertical flips and large rotations would show what never occurs.
    """
    assert dataset.classes is not None
    num_classes = len(dataset.classes.names)
    shares = np.zeros((2, num_classes))
    for sample in samples[:: max(1, len(samples) // at_most)]:
        labels = dataset.read_labels(sample)
        middle = labels.shape[0] // 2
        for half, part in enumerate((labels[:middle], labels[middle:])):
            shares[half] += np.bincount(part[part < num_classes].ravel(), minlength=num_classes)
    shares /= np.maximum(shares.sum(1, keepdims=True), 1)
    return bool(0.5 * np.abs(shares[0] - shares[1]).sum() > 0.25)
