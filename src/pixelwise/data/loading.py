"""Batches for training. A batch is a pure function of (seed, step, resolution).

So nothing but the step needs to be stored to resume, and the number of threads changes nothing.
"""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from threading import Lock

import cv2
import numpy as np
import torch

from pixelwise.data.augment import apply, draw_augmentation
from pixelwise.data.dataset import DataSet
from pixelwise.data.images import Array
from pixelwise.data.sample import Sample
from pixelwise.recipe import AugmentationRecipe
from pixelwise.shapes import Size, round_up


@dataclass(frozen=True, slots=True)
class Batch:
    """Raw images (B, C, H, W) uint8 or uint16 (memory channels last), labels (B, H, W) integer."""

    images: torch.Tensor
    labels: torch.Tensor
    pixel_weights: torch.Tensor | None = None
    """(B, H, W) float32 factors for the loss; None: every pixel counts the same."""

    def to(self, device: torch.device) -> "Batch":
        weights = self.pixel_weights
        return Batch(
            _moved(self.images, device),
            _moved(self.labels, device),
            None if weights is None else _moved(weights, device),
        )


def _moved(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)


@dataclass(slots=True)
class PairCache:
    """Decoded pairs, kept while they fit. Samples are drawn uniformly, so nothing is ever evicted."""

    dataset: DataSet
    max_bytes: float
    _pairs: dict[Sample, tuple[Array, Array]] = field(default_factory=dict)
    _bytes: int = 0
    _lock: Lock = field(default_factory=Lock)

    def __getitem__(self, sample: Sample) -> tuple[Array, Array]:
        if sample in self._pairs:
            return self._pairs[sample]
        pair = self.dataset.read_pair(sample)
        size = sum(part.nbytes for part in pair)
        with self._lock:
            if sample not in self._pairs and self._bytes + size <= self.max_bytes:
                self._pairs[sample] = pair
                self._bytes += size
        return pair


@dataclass(frozen=True, slots=True, kw_only=True)
class Batches:
    """Makes the batch of any step: each epoch shows every sample once, in an order drawn by seed."""

    cache: PairCache
    samples: Sequence[Sample]
    augmentation: AugmentationRecipe
    crop: Size
    batch_size: int
    seed: int
    multiple: int = 16
    """Sizes below the full crop are rounded up to this, so that the network need not pad."""
    weigh: Callable[[Array], Array] | None = None
    """Labels (H, W) as they are trained, augmented and cut → the weights of their pixels, (H, W) float32."""

    def make(self, step: int, resolution: float = 1.0) -> Batch:
        """The batch of `step`, its samples `resolution` times the crop."""
        size = self.size_at(resolution)
        pairs = [self._sample(step * self.batch_size + i, size) for i in range(self.batch_size)]
        images = torch.from_numpy(np.stack([image for image, _ in pairs]))
        labels = np.stack([labels for _, labels in pairs])
        weights = None if self.weigh is None else torch.from_numpy(np.stack([self.weigh(one) for one in labels]))
        return Batch(images.permute(0, 3, 1, 2), torch.from_numpy(labels), weights)

    def size_at(self, resolution: float) -> Size:
        if resolution == 1:
            return self.crop
        height, width = (min(side, round_up(max(1, round(side * resolution)), self.multiple)) for side in self.crop)
        return height, width

    def _sample(self, position: int, size: Size) -> tuple[Array, Array]:
        epoch, index = divmod(position, len(self.samples))
        order = np.random.default_rng([self.seed, 0, epoch]).permutation(len(self.samples))
        image, labels = self.cache[self.samples[order[index]]]
        rng = np.random.default_rng([self.seed, 1, position])
        resolution = size[0] / self.crop[0]
        return apply(draw_augmentation(self.augmentation, rng, resolution), image, labels, size)


def prefetch(
    make: Callable[[int], Batch], steps: Iterator[int], *, ahead: int = 3, threads: int = 2
) -> Iterator[tuple[int, Batch]]:
    """(step, batch) in order, made in threads `ahead` of their use."""
    # One OpenCV thread each: its own pool would take the cores that compute the network.
    cv2.setNumThreads(1)
    with ThreadPoolExecutor(threads, thread_name_prefix="loader") as pool:
        waiting: deque[tuple[int, Future[Batch]]] = deque()
        try:
            for step in steps:
                waiting.append((step, pool.submit(make, step)))
                if len(waiting) > ahead:
                    ready, future = waiting.popleft()
                    yield ready, future.result()
            while waiting:
                ready, future = waiting.popleft()
                yield ready, future.result()
        finally:
            for _, future in waiting:
                future.cancel()
