"""Batches for training. A batch is a pure function of (seed, step, resolution).

So nothing but the step needs to be stored to resume, and the number of threads changes nothing.
"""

import functools
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from threading import Lock
from typing import Any

import cv2
import numpy as np
import torch

from pixelwise.config import AugmentationConfig
from pixelwise.data.augmentation import apply, draw_augmentation
from pixelwise.data.dataset import Dataset
from pixelwise.data.io.images import Array
from pixelwise.data.sample import Sample
from pixelwise.errors import DataError
from pixelwise.shapes import Size, round_up


@dataclass(frozen=True, slots=True)
class Batch:
    """Raw images (B, C, H, W) uint8, uint16 or float32 (memory channels last), labels (B, H, W) integer."""

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

    def parts(self, count: int) -> "list[Batch]":
        """Its images in order, in `count` parts of about one size (fewer where there are fewer images)."""
        images, labels = self.images.chunk(count), self.labels.chunk(count)
        weights = [None] * len(images) if self.pixel_weights is None else self.pixel_weights.chunk(count)
        return [Batch(*part) for part in zip(images, labels, weights, strict=True)]


def _moved(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    if device.type != "cuda":
        return tensor.to(device)
    return (tensor if tensor.is_pinned() else tensor.pin_memory()).to(device, non_blocking=True)


@dataclass(slots=True)
class PairCache:
    """Decoded pairs, kept while they fit. Samples are drawn uniformly, so nothing is ever evicted."""

    dataset: Dataset
    max_bytes: float
    _pairs: dict[Sample, tuple[Array, Array]] = field(default_factory=dict)
    _bytes: int = 0
    _lock: Lock = field(default_factory=Lock)

    def __getitem__(self, sample: Sample) -> tuple[Array, Array]:
        if sample in self._pairs:
            return self._pairs[sample]
        pair = self.dataset.read(sample)
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
    augmentation: AugmentationConfig
    crop: Size
    batch_size: int
    seed: int
    share: tuple[int, int] = (0, 1)
    """Which part of each batch is made, of how many equal ones: those of all processes are the batch of one."""
    multiple: int = 16
    """Sizes below the full crop are rounded up to this, so that the network need not pad."""
    weigh: Callable[[Array], Array] | None = None
    """Labels (H, W) as they are trained, augmented and cut → the weights of their pixels, (H, W) float32."""
    pinned: bool = False
    """Written into memory from which a CUDA device copies by itself."""

    def make(self, step: int, resolution: float = 1.0) -> Batch:
        """The batch of `step`, its samples `resolution` times the crop."""
        return self.make_sized(step, self.size_at(resolution))

    def make_sized(self, step: int, size: Size) -> Batch:
        """The batch of `step`, its samples of this (height, width)."""
        part, parts = self.share
        count = self.batch_size // parts
        first = step * self.batch_size + part * count
        positions = range(first, first + count)
        samples = [self._sample(position) for position in positions]
        pairs = [self.cache[sample] for sample in samples]
        image, labels = pairs[0]
        images = _empty((len(pairs), *size, image.shape[2]), image.dtype, self.pinned)
        all_labels = _empty((len(pairs), *size), labels.dtype, self.pinned)
        for i, position in enumerate(positions):
            _require_alike(samples[i], pairs[i][0], samples[0], image)
            rng = np.random.default_rng([self.seed, 1, position])
            plan = draw_augmentation(self.augmentation, rng, size[0] / self.crop[0])
            apply(plan, *pairs[i], size, (images[i].numpy(), all_labels[i].numpy()))
        weights = None
        if self.weigh:
            weights = torch.from_numpy(np.stack([self.weigh(one) for one in all_labels.numpy()]))
        return Batch(images.permute(0, 3, 1, 2), all_labels, weights)

    def size_at(self, resolution: float) -> Size:
        if resolution == 1:
            return self.crop
        height, width = (min(side, round_up(max(1, round(side * resolution)), self.multiple)) for side in self.crop)
        return height, width

    def _sample(self, position: int) -> Sample:
        epoch, index = divmod(position, len(self.samples))
        return self.samples[int(_order(self.seed, epoch, len(self.samples))[index])]


@functools.lru_cache(maxsize=4)
def _order(seed: int, epoch: int, count: int) -> Array:
    """The order of an epoch's samples: kept, as drawing it takes longer the more there are."""
    return np.random.default_rng([seed, 0, epoch]).permutation(count)


def _empty(shape: tuple[int, ...], dtype: np.dtype[Any], pinned: bool) -> torch.Tensor:
    """Memory to be written to."""
    return torch.empty_like(torch.from_numpy(np.empty(shape, dtype)), pin_memory=pinned)


def _require_alike(sample: Sample, image: Array, first: Sample, wanted: Array) -> None:
    """One batch holds images of one kind."""
    if image.dtype != wanted.dtype or image.shape[2] != wanted.shape[2]:
        raise DataError(
            f"{sample.image_path} has {image.shape[2]} channel(s) of {image.dtype}, but {first.image_path} has "
            f"{wanted.shape[2]} of {wanted.dtype}; convert them, so that all are of one kind."
        )


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
