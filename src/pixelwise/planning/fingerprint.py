"""What a dataset is, in the few numbers that a plan depends on."""

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

SAMPLED_LABELS = 40
"""Label maps that are read again for what only their pixels tell, at most."""

SAMPLED_PIXELS = 2**24
"""Of all of them together, or about that: seconds, whatever the size of the images."""

MIN_SAMPLED_LABELS = 4
"""At least as many, or all."""

MIN_REGION_PIXELS = 4
"""Connected regions of fewer pixels are slips of the pen, not objects."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Objects:
    """Connected regions of one class, on the label maps that were looked at."""

    count: int
    areas: tuple[int, int, int]
    """Pixels of a region: the 5, 50 and 95 % quantiles."""
    side: int
    """Of the longer sides of their bounding boxes, the median over the pixels: where a pixel of this class
    is, so large is what it belongs to."""
    thickness: float
    """Pixels across a region at its thickest, the median over the regions."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fingerprint:
    num_train: int
    num_val: int
    median_size: Size
    """Height and width in pixels, over the training images."""
    smallest_size: Size
    largest_size: Size
    """Of a training image, by pixels."""
    largest_val_size: Size
    """Of a validation image: what an evaluation must hold at once."""
    channels: int
    dtype: str
    mean: tuple[float, ...]
    std: tuple[float, ...]
    bytes_per_pixel: int
    """Of a decoded image and its labels."""
    pair_bytes: int
    """All training images and labels decoded."""
    class_pixels: tuple[int, ...]
    """Pixels of each class in the training images."""
    class_weights: tuple[float, ...]
    """Median-frequency weights, to the first power."""
    objects: tuple[Objects | None, ...]
    """Of each class; None where no label map that was looked at shows it."""
    border_share: float
    """Share of the labeled pixels whose right or lower neighbor is of another class."""
    upright: bool
    """Whether the rows of the labels differ: sky above road, and not cells any way up."""

    @property
    def class_shares(self) -> tuple[float, ...]:
        """Share of each class among the training pixels that count."""
        total = max(sum(self.class_pixels), 1)
        return tuple(pixels / total for pixels in self.class_pixels)


def fingerprint(dataset: Dataset, splits: Splits, weights: tuple[float, ...]) -> Fingerprint:
    """Of the training images; of the validation images, number and largest size alone."""
    train = _readings(dataset, splits["train"])
    mean, std = compute_normalization(dataset, splits["train"])
    sizes = [r.size for r in train if r.size]
    seen = _look_at_labels(dataset, splits["train"], labels_to_read(max(map(_pixels, sizes))))
    return Fingerprint(
        num_train=len(splits["train"]),
        num_val=len(splits["val"]),
        median_size=(int(np.median([size[0] for size in sizes])), int(np.median([size[1] for size in sizes]))),
        smallest_size=min(sizes, key=_pixels),
        largest_size=max(sizes, key=_pixels),
        largest_val_size=max([r.size for r in _readings(dataset, splits["val"]) if r.size], key=_pixels),
        channels=dataset.channels or 0,
        dtype=train[0].dtype,
        mean=tuple(mean),
        std=tuple(std),
        bytes_per_pixel=(of_pixel := _bytes_of_pixel(train[0].dtype, dataset)),
        pair_bytes=sum(map(_pixels, sizes)) * of_pixel,
        class_pixels=tuple(count_class_pixels(dataset, splits["train"]).sum(0).tolist()),
        class_weights=weights,
        objects=seen.objects,
        border_share=seen.border_share,
        upright=seen.upright,
    )


def _readings(dataset: Dataset, samples: Sequence[Sample]) -> list[SampleStats]:
    wanted = set(samples)
    return [r for r in dataset.stats if r.sample in wanted and r.size]


def _pixels(size: Size) -> int:
    return size[0] * size[1]


def _bytes_of_pixel(dtype: str, dataset: Dataset) -> int:
    """Of an image and its labels together."""
    of_label = 1 if len(dataset.classes.names) <= 256 else 2
    return (dataset.channels or 0) * np.dtype(dtype).itemsize + of_label


@dataclass(frozen=True, slots=True, kw_only=True)
class _Seen:
    """What only the pixels of the labels tell."""

    objects: tuple[Objects | None, ...]
    border_share: float
    upright: bool


def labels_to_read(pixels: int) -> int:
    """How many label maps of so many pixels are looked at."""
    return min(SAMPLED_LABELS, max(MIN_SAMPLED_LABELS, SAMPLED_PIXELS // pixels))


def _look_at_labels(dataset: Dataset, samples: Sequence[Sample], count: int) -> _Seen:
    """On some label maps, spread evenly over the training images."""
    num_classes = len(dataset.classes.names)
    regions: list[list[Array]] = [[] for _ in range(num_classes)]
    halves = np.zeros((2, num_classes))
    borders = labeled = 0
    for sample in samples[:: -(-len(samples) // count)]:
        labels = dataset.read_labels(sample)
        halves += half_shares(labels, num_classes)
        on_border = border_pixels(labels, num_classes)
        borders, labeled = borders + on_border[0], labeled + on_border[1]
        for index in np.unique(labels[labels < num_classes]):
            regions[index].append(regions_of(labels == index))
    return _Seen(
        objects=tuple(_objects(np.concatenate(found)) if found else None for found in regions),
        border_share=borders / max(labeled, 1),
        upright=differ(halves),
    )


def regions_of(mask: Array) -> Array:
    """(H, W) bool → (N, 3): area, longer side of the box and thickness of each connected region.

    Pixels that touch at a corner are connected. Lines of one and of two pixels both have thickness 1.
    """
    picture = mask.astype(np.uint8)
    count, places, stats, _ = cv2.connectedComponentsWithStats(picture, connectivity=8)
    # Outside the image is no border of the region: a road that leaves the image is not thin there.
    depths = cv2.distanceTransform(picture, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    deepest = np.zeros(count, np.float32)
    np.maximum.at(deepest, places[mask].astype(np.intp), depths[mask])
    sides = stats[:, [cv2.CC_STAT_HEIGHT, cv2.CC_STAT_WIDTH]].max(1)
    thickness = np.minimum(2 * deepest - 1, sides)
    found = np.stack([stats[:, cv2.CC_STAT_AREA], sides, thickness], 1)[1:]
    return found[found[:, 0] >= MIN_REGION_PIXELS]


def _objects(regions: Array) -> Objects | None:
    """The quantiles of (N, 3) regions; None without a region."""
    if not len(regions):
        return None
    low, middle, high = np.quantile(regions[:, 0], (0.05, 0.5, 0.95))
    by_side = regions[np.argsort(regions[:, 1])]
    half = np.searchsorted(by_side[:, 0].cumsum(), by_side[:, 0].sum() / 2)
    return Objects(
        count=len(regions),
        areas=(round(low), round(middle), round(high)),
        side=int(by_side[half, 1]),
        thickness=round(float(np.median(regions[:, 2])), 1),
    )


def border_pixels(labels: Array, num_classes: int) -> tuple[int, int]:
    """Of an (H, W) label map: labeled pixels whose right or lower neighbor is of another class, and all."""
    valid = labels < num_classes
    on_border = np.zeros_like(valid)
    on_border[:, :-1] |= (labels[:, :-1] != labels[:, 1:]) & valid[:, :-1] & valid[:, 1:]
    on_border[:-1] |= (labels[:-1] != labels[1:]) & valid[:-1] & valid[1:]
    return int(on_border.sum()), int(valid.sum())


def half_shares(labels: Array, num_classes: int) -> Array:
    """(2, K): pixels of each class in the upper and in the lower half of an (H, W) label map."""
    middle = labels.shape[0] // 2
    halves = (labels[:middle], labels[middle:])
    return np.stack([np.bincount(half[half < num_classes].ravel(), minlength=num_classes) for half in halves])


def differ(halves: Array) -> bool:
    """Whether the classes of the upper half are others than those of the lower half, (2, K) pixels.

    The total variation between the two, 0 to 1, exceeds a quarter; then vertical flips and large
    rotations would show what never occurs.
    """
    shares = halves / np.maximum(halves.sum(1, keepdims=True), 1)
    return bool(0.5 * np.abs(shares[0] - shares[1]).sum() > 0.25)
