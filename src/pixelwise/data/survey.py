"""One pass over the files of a data set: what the doctor, the planner and the model need to know.

Everything is read once, in threads; faults are recorded, not raised.
"""

from collections import Counter
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace

import cv2
import numpy as np

from pixelwise.data.classes import Classes, classes_from_values, mask_values
from pixelwise.data.dataset import DataSet
from pixelwise.data.duplicates import pixel_digest
from pixelwise.data.images import Array
from pixelwise.data.sample import Sample
from pixelwise.errors import DataError
from pixelwise.shapes import Size

MAX_FOUND_CLASSES = 1024
"""Masks of more values than this are pictures, unless dataset.yaml says otherwise."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What one pair turned out to be."""

    sample: Sample
    image_error: str | None = None
    mask_error: str | None = None
    size: Size | None = None
    mask_size: Size | None = None
    channels: int = 0
    dtype: str = ""
    alpha_dropped: bool = False
    constant: bool = False
    mean: Array = field(default_factory=lambda: np.zeros(0))
    """(C,) float64, raw units."""
    square_mean: Array = field(default_factory=lambda: np.zeros(0))
    """(C,) float64, mean of the squared raw values."""
    digest: str = ""
    """Of the image's pixels: equal where two images are the same picture."""
    values: dict[int, int] = field(default_factory=dict)
    """Mask value → pixels."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Survey:
    """Readings of some splits of a data set, and what follows from them."""

    dataset: DataSet
    """With classes and channels; without a class where no mask shows one."""
    readings: tuple[Reading, ...]
    classes_described: bool
    """Whether dataset.yaml names the classes; else they are those the masks hold."""

    def class_pixels(self, samples: Iterable[Sample]) -> Array:
        """(N, K) int64: pixels of each class in each of N samples."""
        classes = self.dataset.classes
        assert classes is not None
        by_sample = {r.sample: r.values for r in self.readings}
        wanted = list(samples)
        counts = np.zeros((len(wanted), len(classes.names)), np.int64)
        for row, sample in zip(counts, wanted, strict=True):
            for value, pixels in by_sample[sample].items():
                if value in classes.label_mapping:
                    row[classes.label_mapping[value]] += pixels
        return counts

    def normalization(self, samples: Iterable[Sample]) -> tuple[list[float], list[float]]:
        """Mean and standard deviation per channel over all pixels of `samples`, in raw units."""
        wanted, channels = set(samples), self.dataset.channels or 0
        used = [r for r in self.readings if r.sample in wanted and r.size]
        weights = [r.size[0] * r.size[1] for r in used if r.size]
        # resize repeats the one channel of gray images among RGB ones
        means = [np.resize(r.mean, channels) for r in used]
        squares = [np.resize(r.square_mean, channels) for r in used]
        mean = np.average(means, axis=0, weights=weights)
        square = np.average(squares, axis=0, weights=weights)
        deviation = np.sqrt(np.maximum(square - mean**2, 1e-6))
        return [round(float(m), 4) for m in mean], [round(float(d), 4) for d in deviation]


def survey(dataset: DataSet, samples: Iterable[Sample]) -> Survey:
    """Reads every pair of `samples`. What dataset.yaml leaves open is settled from what is found."""
    with ThreadPoolExecutor(max_workers=4) as pool:
        readings = tuple(pool.map(lambda sample: _read(dataset, sample), samples))
    classes = dataset.classes or _found_classes(readings)
    channels = dataset.channels or _found_channels(readings)
    return Survey(
        dataset=dataset.with_classes(classes, channels),
        readings=readings,
        classes_described=dataset.classes is not None,
    )


def _read(dataset: DataSet, sample: Sample) -> Reading:
    reading = Reading(sample=sample)
    try:
        reading = _with_image(reading, dataset)
    except DataError as error:
        reading = replace(reading, image_error=str(error))
    try:
        return _with_mask(reading, dataset)
    except DataError as error:
        return replace(reading, mask_error=str(error))


def _with_image(reading: Reading, dataset: DataSet) -> Reading:
    path = reading.sample.image_path
    decoded = dataset.decode_image(reading.sample)
    try:
        pixels = decoded.without_alpha(dataset.channels)
    except DataError as error:
        raise DataError(f"{path}: {error}") from error
    mean, deviation = _moments(pixels)
    return replace(
        reading,
        size=pixels.shape[:2],
        channels=pixels.shape[2],
        dtype=str(pixels.dtype),
        alpha_dropped=pixels.shape[2] < decoded.pixels.shape[2],
        constant=bool((pixels == pixels[0, 0]).all()),
        mean=mean,
        square_mean=deviation**2 + mean**2,
        digest=pixel_digest(pixels),
    )


def _with_mask(reading: Reading, dataset: DataSet) -> Reading:
    path = reading.sample.label_path
    mask = dataset.read_mask(reading.sample)
    try:
        values = mask_values(mask, dataset.classes.coding if dataset.classes else "index")
    except DataError as error:
        raise DataError(f"{path}: {error}") from error
    found, counts = np.unique(values, return_counts=True)
    counted = dict(zip(found.tolist(), counts.tolist(), strict=True))
    return replace(reading, mask_size=mask.shape[:2], values=counted)


def _moments(pixels: Array) -> tuple[Array, Array]:
    """(C,) mean and standard deviation; OpenCV is faster, but stops at 4 channels."""
    if pixels.shape[2] > 4:
        return pixels.mean((0, 1)), pixels.std((0, 1))
    mean, deviation = cv2.meanStdDev(pixels)
    return mean.ravel(), deviation.ravel()


def _found_classes(readings: Iterable[Reading]) -> Classes:
    values = {value for r in readings for value in r.values}
    return classes_from_values(values if len(values) <= MAX_FOUND_CLASSES else ())


def _found_channels(readings: Iterable[Reading]) -> int:
    """What most images have, gray ones counted as the RGB ones they stand among."""
    counts = Counter(r.channels for r in readings if r.size)
    if set(counts) == {1, 3}:
        return 3
    return max(sorted(counts), key=counts.__getitem__, default=0)
