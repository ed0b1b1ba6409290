"""Batches for training. A batch is a pure function of (seed, step, resolution).

Resuming therefore needs only the step, and the number of threads does not change the batches.
"""

import functools
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from threading import Lock
from typing import Any, TypeVar

import cv2
import numpy as np
import torch

from pixelwise.config import AugmentationConfig
from pixelwise.data.augmentation import Augmentation, apply_augmentation, draw_augmentation, move_crop
from pixelwise.data.dataset import Dataset
from pixelwise.data.io.images import Array
from pixelwise.data.rare_classes import RareClassSampler, find_crop_center
from pixelwise.data.sample import Sample
from pixelwise.errors import DataError, InvalidArgumentError, format_count
from pixelwise.shapes import Size, round_up

Step = TypeVar("Step")

Augment = Callable[[Array, Array, np.random.Generator], tuple[Array, Array]]
"""(image (H, W, C), labels (H, W), rng) → the changed image and labels, equal in shape and dtype."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Raw images (B, C, H, W) uint8, uint16 or float32 in channels-last memory, and labels (B, H, W) integer."""

    images: torch.Tensor
    labels: torch.Tensor
    pixel_weights: torch.Tensor | None = None
    """(B, H, W) float32 weights for the loss; None: all pixels have the same weight."""

    def to(self, device: torch.device) -> "Batch":
        """Copy the batch to a device, without waiting for a CUDA device."""
        weights = self.pixel_weights
        return Batch(
            _copy_to_device(self.images, device),
            _copy_to_device(self.labels, device),
            None if weights is None else _copy_to_device(weights, device),
        )

    def chunk(self, count: int) -> "list[Batch]":
        """Split the batch into `count` batches of nearly equal size; fewer where there are fewer images."""
        images, labels = self.images.chunk(count), self.labels.chunk(count)
        weights = [None] * len(images) if self.pixel_weights is None else self.pixel_weights.chunk(count)
        return [Batch(*chunk) for chunk in zip(images, labels, weights, strict=True)]


def _copy_to_device(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    if device.type != "cuda":
        return tensor.to(device)
    return (tensor if tensor.is_pinned() else tensor.pin_memory()).to(device, non_blocking=True)


@dataclass(slots=True)
class SampleCache:
    """Decoded images and labels, stored while they fit. Samples are drawn uniformly, so none is evicted."""

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
    """Training batches of every step. Each epoch uses every sample once, in an order drawn by seed.

    With `rare_classes`, a fraction of the samples is replaced by samples that contain a rare class.
    """

    cache: SampleCache
    samples: Sequence[Sample]
    augmentation: AugmentationConfig
    crop_size: Size
    batch_size: int
    """Number of samples of a batch, over all ranks."""
    seed: int
    rank: int = 0
    world_size: int = 1
    """Each rank makes an equal part of each batch; together they are the batch of a single process."""
    size_multiple: int = 16
    """Sizes below the full crop are rounded up to a multiple of this, so that the network does not pad."""
    augment: Augment | None = None
    """Function of the user, applied after `augmentation`."""
    rare_classes: RareClassSampler | None = None
    """Replaces samples, by their indices in `samples`, and crops them around a pixel of the class."""
    compute_pixel_weights: Callable[[Array], Array] | None = None
    """Function from augmented, cropped labels (H, W) to the weights of their pixels, (H, W) float32."""
    pin_memory: bool = False
    """Use memory from which a CUDA device copies without the CPU."""

    def make(self, step: int, resolution: float = 1.0) -> Batch:
        """Make the batch of a step, with samples of `resolution` times the crop size."""
        return self.make_sized(step, self.size_at(resolution))

    def make_sized(self, step: int, size: Size) -> Batch:
        """Make the batch of a step, with samples of this (height, width)."""
        count = self.batch_size // self.world_size
        first = step * self.batch_size + self.rank * count
        positions = range(first, first + count)
        draws = [self._draw_sample(position) for position in positions]
        samples = [sample for sample, _ in draws]
        pairs = [self.cache[sample] for sample in samples]
        image, labels = pairs[0]
        images = _allocate((len(pairs), *size, image.shape[2]), image.dtype, self.pin_memory)
        all_labels = _allocate((len(pairs), *size), labels.dtype, self.pin_memory)
        for i, position in enumerate(positions):
            _require_same_format(samples[i], pairs[i][0], samples[0], image)
            rng = np.random.default_rng([self.seed, 1, position])
            plan = draw_augmentation(self.augmentation, rng, size[0] / self.crop_size[0])
            if (index := draws[i][1]) is not None:
                plan = _move_crop_to_class(plan, pairs[i][1], index, size, rng)
            apply_augmentation(plan, *pairs[i], size, (images[i].numpy(), all_labels[i].numpy()))
            if self.augment:
                rng = np.random.default_rng([self.seed, 3, position])
                _apply_user_augmentation(self.augment, images[i].numpy(), all_labels[i].numpy(), rng)
        weights = None
        if self.compute_pixel_weights:
            weights = torch.from_numpy(np.stack([self.compute_pixel_weights(one) for one in all_labels.numpy()]))
        return Batch(images.permute(0, 3, 1, 2), all_labels, weights)

    def size_at(self, resolution: float) -> Size:
        """Return the size of samples at `resolution` times the crop size."""
        if resolution == 1:
            return self.crop_size
        height, width = (
            min(side, round_up(max(1, round(side * resolution)), self.size_multiple)) for side in self.crop_size
        )
        return height, width

    def _draw_sample(self, position: int) -> tuple[Sample, int | None]:
        """Return the sample of a position and the class for which it was drawn, if any."""
        if self.rare_classes and (drawn := self.rare_classes.draw(np.random.default_rng([self.seed, 4, position]))):
            return self.samples[drawn[0]], drawn[1]
        epoch, index = divmod(position, len(self.samples))
        return self.samples[int(_draw_order(self.seed, epoch, len(self.samples))[index])], None


def _move_crop_to_class(
    plan: Augmentation, labels: Array, index: int, size: Size, rng: np.random.Generator
) -> Augmentation:
    """Return the parameters with the crop moved so that a random pixel of the class is in its middle half."""
    center = find_crop_center(labels, index, rng)
    if center is None:
        return plan
    offsets = (np.array(size) / plan.scale * rng.uniform(-0.25, 0.25, 2)).tolist()
    return move_crop(plan, (center[0] + offsets[0], center[1] + offsets[1]), labels.shape, size)


@functools.lru_cache(maxsize=4)
def _draw_order(seed: int, epoch: int, count: int) -> Array:
    """Draw the order of an epoch's samples; cached, because its cost grows with their number."""
    return np.random.default_rng([seed, 0, epoch]).permutation(count)


def _allocate(shape: tuple[int, ...], dtype: np.dtype[Any], pin_memory: bool) -> torch.Tensor:
    return torch.empty_like(torch.from_numpy(np.empty(shape, dtype)), pin_memory=pin_memory)


def _apply_user_augmentation(augment: Augment, image: Array, labels: Array, rng: np.random.Generator) -> None:
    """Apply a function of the user in place."""
    for before, after in zip((image, labels), augment(image.copy(), labels.copy(), rng), strict=True):
        if after.shape != before.shape or after.dtype != before.dtype:
            raise InvalidArgumentError(
                f"The augmentation returned an array of {after.dtype} {after.shape}, but received {before.dtype} "
                f"{before.shape}. Return both with the same shape and dtype."
            )
        before[...] = after


def _require_same_format(sample: Sample, image: Array, first: Sample, expected: Array) -> None:
    """Raise DataError for images of different dtype or number of channels in one batch."""
    if image.dtype != expected.dtype or image.shape[2] != expected.shape[2]:
        raise DataError(
            f"{sample.image_path} has {format_count(image.shape[2], 'channel')} of {image.dtype}, but "
            f"{first.image_path} has {expected.shape[2]} of {expected.dtype}. Convert all images to one format."
        )


def prefetch(
    make: Callable[[Step], Batch], steps: Iterator[Step], *, num_ahead: int = 3, num_threads: int = 2
) -> Iterator[tuple[Step, Batch]]:
    """Yield (step, batch) in the order of `steps`, made in threads up to `num_ahead` batches before their use.

    A step is a number, or a number with the size of the samples.
    """
    # One OpenCV thread each: its own pool would take the cores that compute the network.
    cv2.setNumThreads(1)
    with ThreadPoolExecutor(num_threads, thread_name_prefix="loader") as pool:
        waiting: deque[tuple[Step, Future[Batch]]] = deque()
        try:
            for step in steps:
                waiting.append((step, pool.submit(make, step)))
                if len(waiting) > num_ahead:
                    ready, future = waiting.popleft()
                    yield ready, future.result()
            while waiting:
                ready, future = waiting.popleft()
                yield ready, future.result()
        finally:
            for _, future in waiting:
                future.cancel()
