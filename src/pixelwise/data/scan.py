"""One pass over the files of a dataset, for the checks, the planner and the model.

Every file is read once, in threads. Errors are recorded instead of raised.
"""

from collections import Counter
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import cv2
import numpy as np

from pixelwise.data.classes import mask_values, require_integers
from pixelwise.data.colors import is_background_name
from pixelwise.data.dataset import Dataset, describe_unlisted_values
from pixelwise.data.io.decoded_image import NO_LABEL
from pixelwise.data.io.file_info import FileInfo, inspect_entry, inspect_file
from pixelwise.data.io.images import Array
from pixelwise.data.io.nodata import ALL_DATA
from pixelwise.data.mask_kinds import infer_classes
from pixelwise.data.sample import Sample
from pixelwise.data.sample_stats import (
    SampleStats,
    compute_fingerprint,
    compute_thumbnail,
    count_values,
    find_suspects,
    measure_appearances,
    measure_shift,
    measure_values,
    sample_mask_grid,
)
from pixelwise.errors import DataError
from pixelwise.files import READ_ERRORS

_MAX_COMPARED_VALUES = 64
"""Masks with more values are not compared with the image: they are pictures, or number objects."""


def scan_dataset(dataset: Dataset, samples: Iterable[Sample] | None = None) -> Dataset:
    """Read every pair of `samples` and return the dataset with their statistics.

    Args:
        dataset: The dataset as loaded.
        samples: The samples to read; None reads all.

    Returns:
        The dataset with `stats`, and with the classes and channels that were found where none are declared.
        Without a readable mask it has no class.
    """
    with ThreadPoolExecutor(max_workers=4) as pool:
        stats = tuple(pool.map(lambda s: _scan_sample(dataset, s), dataset.samples if samples is None else samples))
    scanned = replace(
        dataset,
        resolved_classes=dataset.resolved_classes or infer_classes(stats, dataset.description.mask_type),
        channels=dataset.channels or _find_channels(stats),
        stats=stats,
    )
    return replace(scanned, resolved_classes=replace(scanned.classes, majority=_find_majority(scanned)))


def count_class_pixels(dataset: Dataset, samples: Iterable[Sample]) -> Array:
    """Count the pixels of each of K classes in each of N scanned samples: (N, K) int64."""
    value_counts = {s.sample: s.value_counts for s in dataset.stats}
    samples = list(samples)
    counts = np.zeros((len(samples), len(dataset.classes.names)), np.int64)
    for row, sample in zip(counts, samples, strict=True):
        for value, pixels in value_counts[sample].items():
            if dataset.classes.is_class_value(value):
                row[dataset.classes.get_label(value)] += pixels
    return counts


def _find_majority(dataset: Dataset) -> int | None:
    """Return the class with more than half of the labeled pixels, if its name is that of a background."""
    named = [index for index, name in enumerate(dataset.classes.names) if is_background_name(name)]
    if not named:
        return None
    pixels = count_class_pixels(dataset, (s.sample for s in dataset.stats)).sum(0)
    return next((index for index in named if 2 * pixels[index] > pixels.sum()), None)


def compute_normalization(dataset: Dataset, samples: Iterable[Sample]) -> tuple[list[float], list[float]]:
    """Compute the mean and standard deviation of each channel over all valid pixels of scanned samples.

    Returns:
        Mean and std, in raw units.

    Raises:
        DataError: A channel has no valid value in any of the images.
    """
    wanted, channels = set(samples), dataset.channels or 0
    used = [s for s in dataset.stats if s.sample in wanted and s.size]
    # np.resize repeats the one channel of gray images among RGB ones.
    weights = np.array([np.resize(s.num_valid, channels) for s in used])
    if empty := np.flatnonzero(weights.sum(0) == 0).tolist():
        raise DataError(
            f"Channel {empty[0] + 1} has no valid value in any image: every value is nodata. Remove the channel from "
            f"the images, or correct the nodata value."
        )
    mean = np.average([np.resize(s.mean, channels) for s in used], axis=0, weights=weights)
    square = np.average([np.resize(s.square_mean, channels) for s in used], axis=0, weights=weights)
    # A constant channel needs a std to divide by: small compared with the values in any unit.
    min_variance = np.where(square > 0, np.minimum(1e-6, 1e-8 * square), 1e-6)
    std = np.sqrt(np.maximum(square - mean**2, min_variance))
    return [float(f"{m:.9g}") for m in mean], [float(f"{s:.9g}") for s in std]


def _scan_sample(dataset: Dataset, sample: Sample) -> SampleStats:
    stats = SampleStats(
        sample=sample,
        image_file=inspect_entry(sample.image_entry) if sample.image_entry else inspect_file(sample.image_path),
        # An entry next to an image file is that of a document of shapes, not an encoded mask.
        mask_file=inspect_entry(sample.label_entry) if sample.image_entry else inspect_file(sample.mask_path),
    )
    image = missing = None
    try:
        image, missing = _scan_image(dataset, stats)
    except READ_ERRORS as error:
        stats.image_error = str(error)
    try:
        _scan_mask(dataset, stats, image, missing)
    except READ_ERRORS as error:
        stats.mask_error = str(error)
    return stats


def _scan_image(dataset: Dataset, stats: SampleStats) -> tuple[Array, Array | None]:
    """Measure the image. Return its finite values and where all channels are missing, (H, W) bool or None."""
    location = stats.sample.image_location
    _require_complete(stats.image_file, location)
    decoded = dataset.decode_image(stats.sample)
    try:
        pixels, missing = decoded.fill_missing(dataset.channels, dataset.nodata or ALL_DATA, allow_nonfinite=True)
    except DataError as error:
        raise DataError(f"{location}: {error}") from error
    finite = ordinary = pixels
    if pixels.dtype.kind == "f":
        is_finite = np.isfinite(pixels)
        if not is_finite.all():
            values, counts = np.unique(pixels[~is_finite], return_counts=True)
            stats.nonfinite_counts = dict(zip(map(str, values.tolist()), counts.tolist(), strict=True))
            finite = np.where(is_finite, pixels, 0)
        stats.suspects, stats.low, stats.high, ordinary = find_suspects(pixels, missing)
    stats.size, stats.channels, stats.dtype = pixels.shape[:2], pixels.shape[2], str(pixels.dtype)
    stats.alpha_dropped = pixels.shape[2] < decoded.pixels.shape[2] and not (dataset.nodata or ALL_DATA).alpha
    stats.num_valid, stats.mean, stats.square_mean = _compute_moments(finite, missing)
    variance = stats.square_mean - stats.mean**2
    if pixels.dtype.kind == "f" or variance.max() < 0.25:  # the comparison takes longer than the other statistics
        stats.is_constant = bool((pixels == pixels[0, 0]).all())
    stats.image_fingerprint = compute_fingerprint(pixels)
    stats.thumbnail = compute_thumbnail(ordinary)
    return ordinary, None if missing is None else np.asarray(missing.all(2))


def _scan_mask(dataset: Dataset, stats: SampleStats, image: Array | None, missing: Array | None) -> None:
    location = stats.sample.mask_location
    _require_complete(stats.mask_file, location)
    for path in stats.sample.more_mask_paths:
        _require_complete(inspect_file(path), str(path))
    mask = dataset.read_mask(stats.sample)
    try:
        values = mask_values(mask, dataset.resolved_classes.coding if dataset.resolved_classes else "index")
    except READ_ERRORS as error:
        stats.color_counts = count_values(mask_values(mask, "rgb"))
        raise DataError(f"{location}: {error}") from error
    if values.dtype.kind == "f":
        values = mask = _round_fractions(dataset, values, location)
    if image is not None and image.shape[:2] != values.shape:
        image = missing = None
    measure_values(stats, mask, values, dataset.resolved_classes)
    counts = stats.value_counts
    stats.mask_fingerprint = compute_fingerprint(values)
    stats.mask_grid = sample_mask_grid(values)
    if 2 <= len(counts) <= _MAX_COMPARED_VALUES and image is not None:
        stats.appearances, stats.shift = measure_appearances(values, image), measure_shift(values, image)
    if missing is not None:
        # Values that occur nowhere else keep 0 pixels: they must be listed in dataset.yaml all the same.
        for value, pixels in count_values(values[missing]).items():
            counts[value] -= pixels


def _round_fractions(dataset: Dataset, values: Array, location: str) -> Array:
    """Replace the values of a mask of fractions by those that its classes are written with."""
    try:
        if dataset.resolved_classes is None:
            require_integers(values)
        labels, unlisted = dataset.classes.to_labels(values)
        if unlisted:
            raise DataError(
                "The mask contains {}, which no class has. {}".format(
                    *describe_unlisted_values(unlisted, dataset.classes)
                )
            )
    except DataError as error:
        raise DataError(f"{location}: {error}") from error
    ignored = labels == dataset.classes.ignore_index
    return np.where(ignored, NO_LABEL, dataset.classes.to_mask(np.where(ignored, 0, labels)).astype(np.int32))


def _require_complete(file: FileInfo, location: str) -> None:
    """Raise DataError for a truncated file: decoders may fill in its end without an error."""
    if file.is_truncated:
        raise DataError(f"{location}: The file is truncated. Copy or download it again, or remove it.")


def _compute_moments(pixels: Array, missing: Array | None) -> tuple[Array, Array, Array]:
    """Compute the number of valid values, their mean and their mean square, each (C,)."""
    height, width, channels = pixels.shape
    if missing is None and channels <= 4:  # OpenCV is faster, but takes at most 4 channels
        mean, std = (part.ravel() for part in cv2.meanStdDev(pixels))
        return np.full(channels, float(height * width)), mean, std**2 + mean**2
    valid = np.ones(pixels.shape, bool) if missing is None else ~missing
    num_valid = valid.sum((0, 1), dtype=np.float64)
    wide = pixels.astype(np.float64)
    sums = [np.sum(part, (0, 1), where=valid) for part in (wide, wide**2)]
    mean, square_mean = (total / np.maximum(num_valid, 1) for total in sums)
    return num_valid, mean, square_mean


def _find_channels(stats: Iterable[SampleStats]) -> int:
    """Return the most frequent number of channels; 3 where gray images occur among RGB ones."""
    counts = Counter(s.channels for s in stats if s.size)
    if set(counts) == {1, 3}:
        return 3
    return max(sorted(counts), key=counts.__getitem__, default=0)
