"""One pass over the files of a dataset: what the doctor, the planner and the model need to know.

Everything is read once, in threads; faults are recorded, not raised.
"""

from collections import Counter
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace

import cv2
import numpy as np

from pixelwise.data.classes import Classes, classes_from_values, mask_values
from pixelwise.data.dataset import Dataset
from pixelwise.data.io.file_info import FileInfo, inspect_entry, inspect_file
from pixelwise.data.io.images import Array
from pixelwise.data.sample import Sample
from pixelwise.data.sample_stats import ImageTraits, MaskTraits, count_values, image_traits, mask_traits
from pixelwise.errors import DataError
from pixelwise.files import READ_ERRORS
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
    num_values: Array = field(default_factory=lambda: np.zeros(0))
    """(C,) float64, the values that are not missing."""
    mean: Array = field(default_factory=lambda: np.zeros(0))
    """(C,) float64, raw units, over the values that are not missing; 0 where all are."""
    square_mean: Array = field(default_factory=lambda: np.zeros(0))
    """(C,) float64, mean of the squared raw values, likewise."""
    values: dict[int, int] = field(default_factory=dict)
    """Mask value → pixels, less those where the image holds no data."""
    image_content: FileInfo = field(default_factory=FileInfo)
    mask_content: FileInfo = field(default_factory=FileInfo)
    image_traits: ImageTraits = field(default_factory=ImageTraits)
    mask_traits: MaskTraits = field(default_factory=MaskTraits)


@dataclass(frozen=True, slots=True, kw_only=True)
class Survey:
    """Readings of some splits of a dataset, and what follows from them."""

    dataset: Dataset
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
        """Mean and standard deviation per channel over all pixels of `samples`, in raw units.

        Values that are missing do not count. Raises DataError for a channel that is missing in all.
        """
        wanted, channels = set(samples), self.dataset.channels or 0
        used = [r for r in self.readings if r.sample in wanted and r.size]
        # resize repeats the one channel of gray images among RGB ones
        weights = np.array([np.resize(r.num_values, channels) for r in used])
        if empty := np.flatnonzero(weights.sum(0) == 0).tolist():
            raise DataError(
                f"channel {empty[0] + 1} of the images holds no data (nodata everywhere); leave the channel out, "
                f"or correct the nodata value."
            )
        mean = np.average([np.resize(r.mean, channels) for r in used], axis=0, weights=weights)
        square = np.average([np.resize(r.square_mean, channels) for r in used], axis=0, weights=weights)
        std = np.sqrt(np.maximum(square - mean**2, _least_variance(square)))
        return [_rounded(m) for m in mean], [_rounded(d) for d in std]


def _least_variance(square: Array) -> Array:
    """Of a constant channel, to be divided by; small beside the values, whatever their unit is."""
    return np.where(square > 0, np.minimum(1e-6, 1e-8 * square), 1e-6)


def _rounded(value: float) -> float:
    return float(f"{value:.9g}")


def survey(dataset: Dataset, samples: Iterable[Sample]) -> Survey:
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


def _read(dataset: Dataset, sample: Sample) -> Reading:
    image_content = inspect_entry(sample.image_entry) if sample.image_entry else inspect_file(sample.image_path)
    mask_content = inspect_entry(sample.label_entry) if sample.label_entry else inspect_file(sample.label_path)
    reading = Reading(sample=sample, image_content=image_content, mask_content=mask_content)
    image = missing = None
    try:
        reading, image, missing = _with_image(reading, dataset)
    except READ_ERRORS as error:
        reading = replace(reading, image_error=str(error))
    try:
        return _with_mask(reading, dataset, image, missing)
    except READ_ERRORS as error:
        return replace(reading, mask_error=str(error))


def _with_image(reading: Reading, dataset: Dataset) -> tuple[Reading, Array, Array | None]:
    """The reading, the image, and where it holds no data in any channel, (H, W) bool or None."""
    place = reading.sample.image_place
    _require_whole(reading.image_content, place)
    decoded = dataset.decode_image(reading.sample)
    try:
        pixels, missing = decoded.fill_missing(dataset.channels, allow_nonfinite=True)
    except DataError as error:
        raise DataError(f"{place}: {error}") from error
    traits = image_traits(pixels)
    finite = np.nan_to_num(pixels, posinf=0, neginf=0) if traits.not_finite else pixels
    num_values, mean, square_mean = _moments(finite, missing)
    seen = replace(
        reading,
        size=pixels.shape[:2],
        channels=pixels.shape[2],
        dtype=str(pixels.dtype),
        alpha_dropped=pixels.shape[2] < decoded.pixels.shape[2],
        constant=_is_constant(pixels, square_mean - mean**2),
        num_values=num_values,
        mean=mean,
        square_mean=square_mean,
        image_traits=traits,
    )
    return seen, pixels, None if missing is None else np.asarray(missing.all(2))


def _with_mask(reading: Reading, dataset: Dataset, image: Array | None, missing: Array | None) -> Reading:
    place = reading.sample.label_place
    _require_whole(reading.mask_content, place)
    mask = dataset.read_mask(reading.sample)
    try:
        values = mask_values(mask, dataset.classes.coding if dataset.classes else "index")
    except DataError as error:
        colors = count_values(mask_values(mask, "rgb"))
        return replace(reading, mask_error=f"{place}: {error}", mask_traits=MaskTraits(colors=colors))
    counted = count_values(values)
    if image is not None and image.shape[:2] != values.shape:
        image = missing = None
    traits = mask_traits(mask, values, counted, image)
    if missing is not None:
        # Values that occur nowhere else stay, with 0 pixels: they must be listed all the same.
        for value, pixels in count_values(values[missing]).items():
            counted[value] -= pixels
    return replace(reading, mask_size=mask.shape[:2], values=counted, mask_traits=traits)


def _require_whole(content: FileInfo, place: str) -> None:
    """Decoders may fill in what is missing at the end of a file, and say nothing."""
    if content.is_truncated:
        raise DataError(f"{place}: the file is cut short; copy or download it again, or remove it.")


def _is_constant(pixels: Array, variance: Array) -> bool:
    """The exact comparison takes longer than all else here, and few images of whole numbers need it."""
    may_be = pixels.dtype.kind == "f" or variance.max() < 0.25
    return may_be and bool((pixels == pixels[0, 0]).all())


def _moments(pixels: Array, missing: Array | None) -> tuple[Array, Array, Array]:
    """(C,) number of values that are there, their mean and the mean of their squares."""
    height, width, channels = pixels.shape
    if missing is None and channels <= 4:  # OpenCV is faster, but stops at 4 channels
        mean, std = (part.ravel() for part in cv2.meanStdDev(pixels))
        return np.full(channels, float(height * width)), mean, std**2 + mean**2
    there = np.ones(pixels.shape, bool) if missing is None else ~missing
    num_values = there.sum((0, 1), dtype=np.float64)
    wide = pixels.astype(np.float64)
    sums = [np.sum(part, (0, 1), where=there) for part in (wide, wide**2)]
    mean, square_mean = (total / np.maximum(num_values, 1) for total in sums)
    return num_values, mean, square_mean


def _found_classes(readings: Iterable[Reading]) -> Classes:
    values = {value for r in readings for value in r.values}
    return classes_from_values(values if len(values) <= MAX_FOUND_CLASSES else ())


def _found_channels(readings: Iterable[Reading]) -> int:
    """What most images have, gray ones counted as the RGB ones they stand among."""
    counts = Counter(r.channels for r in readings if r.size)
    if set(counts) == {1, 3}:
        return 3
    return max(sorted(counts), key=counts.__getitem__, default=0)
