"""The fingerprint of a dataset: the statistics on which a plan depends."""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from pixelwise.data.dataset import Dataset
from pixelwise.data.io.images import Array
from pixelwise.data.sample import Sample, Splits
from pixelwise.data.sample_stats import SampleStats
from pixelwise.data.scan import compute_normalization, count_class_pixels
from pixelwise.shapes import Size

MAX_LABEL_MAPS = 40
"""Largest number of label maps to read again for connected components and borders."""

MAX_LABEL_PIXELS = 2**24
"""Approximate limit on the pixels of these label maps, so that large images take only seconds."""

MIN_LABEL_MAPS = 4
"""Smallest number of these label maps, if there are as many."""

MIN_COMPONENT_PIXELS = 4
"""Smaller connected components are annotation errors, not objects."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ComponentStats:
    """Statistics of the connected components of one class on the sampled label maps."""

    count: int
    areas: tuple[int, int, int]
    """Area in pixels: the 5, 50 and 95 % quantiles."""
    side: int
    """Median over the pixels of the longer side of their component's bounding box."""
    thickness: float
    """Median of the largest thickness, in pixels."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fingerprint:
    """Statistics of the training images; of the validation images, only their number and largest size."""

    num_train: int
    num_val: int
    median_size: Size
    """Median height and width of the training images, in pixels."""
    smallest_size: Size
    largest_size: Size
    """Size of the training image with the most pixels."""
    largest_val_size: Size
    """Size of the largest validation image, which an evaluation holds in memory at once."""
    channels: int
    dtype: str
    mean: tuple[float, ...]
    std: tuple[float, ...]
    bytes_per_pixel: int
    """Bytes of a decoded pixel and its label."""
    pair_bytes: int
    """Bytes of all decoded training images and label maps."""
    class_pixels: tuple[int, ...]
    """Pixels of each class in the training images."""
    components: tuple[ComponentStats | None, ...]
    """Statistics of each class; None if the sampled label maps do not show it."""
    border_share: float
    """Fraction of the labeled pixels whose right or lower neighbor has another class."""
    is_upright: bool
    """True if the classes of the upper and lower halves differ, as sky and road, unlike cells."""

    @property
    def class_shares(self) -> tuple[float, ...]:
        """Fraction of each class among the labeled training pixels."""
        total = max(sum(self.class_pixels), 1)
        return tuple(pixels / total for pixels in self.class_pixels)


def compute_dataset_fingerprint(dataset: Dataset, splits: Splits) -> Fingerprint:
    """Compute the fingerprint; reads some label maps again."""
    train = _select_stats(dataset, splits["train"])
    mean, std = compute_normalization(dataset, splits["train"])
    sizes = [r.size for r in train if r.size]
    labels = _analyze_labels(dataset, splits["train"], count_label_maps(max(map(_count_pixels, sizes))))
    return Fingerprint(
        num_train=len(splits["train"]),
        num_val=len(splits["val"]),
        median_size=(int(np.median([size[0] for size in sizes])), int(np.median([size[1] for size in sizes]))),
        smallest_size=min(sizes, key=_count_pixels),
        largest_size=max(sizes, key=_count_pixels),
        largest_val_size=max([r.size for r in _select_stats(dataset, splits["val"]) if r.size], key=_count_pixels),
        channels=dataset.channels or 0,
        dtype=train[0].dtype,
        mean=tuple(mean),
        std=tuple(std),
        bytes_per_pixel=(bytes_per_pixel := _count_bytes_per_pixel(train[0].dtype, dataset)),
        pair_bytes=sum(map(_count_pixels, sizes)) * bytes_per_pixel,
        class_pixels=tuple(count_class_pixels(dataset, splits["train"]).sum(0).tolist()),
        components=labels.components,
        border_share=labels.border_share,
        is_upright=labels.is_upright,
    )


def _select_stats(dataset: Dataset, samples: Sequence[Sample]) -> list[SampleStats]:
    wanted = set(samples)
    return [r for r in dataset.stats if r.sample in wanted and r.size]


def _count_pixels(size: Size) -> int:
    return size[0] * size[1]


def _count_bytes_per_pixel(dtype: str, dataset: Dataset) -> int:
    """Return the bytes of a pixel of an image and of its label map together."""
    label_bytes = 1 if len(dataset.classes.names) <= 256 else 2
    return (dataset.channels or 0) * np.dtype(dtype).itemsize + label_bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class _LabelStats:
    """Statistics of the pixels of label maps."""

    components: tuple[ComponentStats | None, ...]
    border_share: float
    is_upright: bool


def count_label_maps(pixels: int) -> int:
    """Return the number of label maps to read if each has `pixels` pixels."""
    return min(MAX_LABEL_MAPS, max(MIN_LABEL_MAPS, MAX_LABEL_PIXELS // pixels))


def _analyze_labels(dataset: Dataset, samples: Sequence[Sample], count: int) -> _LabelStats:
    """Analyze `count` label maps, evenly distributed over the samples."""
    num_classes = len(dataset.classes.names)
    components: list[list[Array]] = [[] for _ in range(num_classes)]
    halves = np.zeros((2, num_classes))
    borders = labeled = 0
    for sample in samples[:: -(-len(samples) // count)]:
        labels = dataset.read_labels(sample)
        halves += count_halves(labels, num_classes)
        border = count_border_pixels(labels, num_classes)
        borders, labeled = borders + border[0], labeled + border[1]
        for index in np.unique(labels[labels < num_classes]):
            components[index].append(measure_components(labels == index))
    return _LabelStats(
        components=tuple(_summarize(np.concatenate(rows)) if rows else None for rows in components),
        border_share=borders / max(labeled, 1),
        is_upright=do_halves_differ(halves),
    )


def measure_components(mask: Array) -> Array:
    """Return area, longer side of the bounding box and thickness (N, 3) of the components of a mask (H, W) bool.

    Pixels that touch at a corner are connected. Lines of one and of two pixels both have thickness 1.
    """
    picture = mask.astype(np.uint8)
    count, labels, stats, _ = cv2.connectedComponentsWithStats(picture, connectivity=8)
    # The image border is not a border of the component: a road that leaves the image is not thin there.
    depths = cv2.distanceTransform(picture, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    deepest = np.zeros(count, np.float32)
    np.maximum.at(deepest, labels[mask].astype(np.intp), depths[mask])
    sides = stats[:, [cv2.CC_STAT_HEIGHT, cv2.CC_STAT_WIDTH]].max(1)
    thickness = np.minimum(2 * deepest - 1, sides)
    components = np.stack([stats[:, cv2.CC_STAT_AREA], sides, thickness], 1)[1:]
    return components[components[:, 0] >= MIN_COMPONENT_PIXELS]


def _summarize(components: Array) -> ComponentStats | None:
    """Return the quantiles of components (N, 3); None if there is none."""
    if not len(components):
        return None
    low, middle, high = np.quantile(components[:, 0], (0.05, 0.5, 0.95))
    by_side = components[np.argsort(components[:, 1])]
    half = np.searchsorted(by_side[:, 0].cumsum(), by_side[:, 0].sum() / 2)
    return ComponentStats(
        count=len(components),
        areas=(round(low), round(middle), round(high)),
        side=int(by_side[half, 1]),
        thickness=round(float(np.median(components[:, 2])), 1),
    )


def count_border_pixels(labels: Array, num_classes: int) -> tuple[int, int]:
    """Return the labeled pixels of (H, W) whose right or lower neighbor has another class, and all labeled pixels."""
    valid = labels < num_classes
    on_border = np.zeros_like(valid)
    on_border[:, :-1] |= (labels[:, :-1] != labels[:, 1:]) & valid[:, :-1] & valid[:, 1:]
    on_border[:-1] |= (labels[:-1] != labels[1:]) & valid[:-1] & valid[1:]
    return int(on_border.sum()), int(valid.sum())


def count_halves(labels: Array, num_classes: int) -> Array:
    """Return the pixels (2, K) of each class in the upper and the lower half of a label map (H, W)."""
    middle = labels.shape[0] // 2
    halves = (labels[:middle], labels[middle:])
    return np.stack([np.bincount(half[half < num_classes].ravel(), minlength=num_classes) for half in halves])


def do_halves_differ(halves: Array) -> bool:
    """Return whether the class distributions of the halves (2, K) differ: total variation above 1/4.

    Then vertical flips and large rotations would show images that do not occur.
    """
    shares = halves / np.maximum(halves.sum(1, keepdims=True), 1)
    return bool(0.5 * np.abs(shares[0] - shares[1]).sum() > 0.25)
