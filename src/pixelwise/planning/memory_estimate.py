"""Estimate of the peak memory of a run, and the memory that is available.

Counted are the weights with gradients and optimizer state, the activations saved for the backward pass (on the meta
device, without data) and the decoded images. Scratch space of the kernels and heap fragmentation are a measured factor
on the activations and a measured constant (`benchmarks/planning.py`).
"""

from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import nn

from pixelwise.config import Config, NetworkConfig, OptimizerConfig
from pixelwise.devices import Precision, measure_free_memory, measure_resident_memory
from pixelwise.networks import Segmenter, build_network
from pixelwise.networks.stages import get_encoder_stages
from pixelwise.networks.summary import count_checkpointed_bytes, count_saved_bytes
from pixelwise.planning.fingerprint import Fingerprint
from pixelwise.shapes import Size
from pixelwise.training.muon import MAX_SHORT_SIDE, compute_shorter_side

MEMORY_FRACTION = 0.75
"""Fraction of the memory that a plan may use, so that an estimate that is a quarter too low still fits."""

CACHE_FRACTION = 0.25
"""Largest fraction of a plan's memory for decoded images."""

WORKSPACE = 0.55
"""Additional memory of the backward pass, relative to the activations: gradients, scratch space, fragmentation.
Activation checkpointing does not reduce it."""

LOADED_LATER_BYTES = 130 * 2**20
"""Code and compiled kernels that are loaded when training starts."""

ENCODER_LIBRARY_BYTES = 190 * 2**20
"""Code of torchvision and timm."""

INFERENCE_FRACTION = 0.7
"""Peak of a prediction, relative to the activations that training saves for the same image."""

GIB = 2**30


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryEstimate:
    """Bytes by purpose: of the whole process on the CPU, of PyTorch's allocator on a GPU."""

    process: int
    """Code and data in memory when training starts; 0 on a GPU."""
    images: int
    """Decoded images and prefetched batches; 0 on a GPU."""
    model: int
    """Weights, gradients, optimizer state and averaged weights."""
    step: int
    """Activations saved for the backward pass, with scratch space."""
    evaluation: int
    """Prediction of the largest validation image, and the label maps of all."""
    checkpoint: int
    """A checkpoint before it is written; 0 on a GPU."""

    @property
    def peak(self) -> int:
        """Bytes at the peak: steps, evaluations and checkpoints use the same memory in turn."""
        return self.process + self.images + self.model + max(self.step, self.evaluation, self.checkpoint)


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryBudget:
    """The memory that a run may use."""

    resident: int
    """Bytes that the process uses already; 0 on a GPU."""
    total: int | None
    """Used and free bytes; None if unknown."""

    @property
    def allowed(self) -> float:
        """Bytes that a plan may use at its peak."""
        return float("inf") if self.total is None else MEMORY_FRACTION * self.total


def measure_memory_budget(device: torch.device) -> MemoryBudget:
    """Measure the memory of the device."""
    free, resident = measure_free_memory(device), 0 if device.type == "cuda" else measure_resident_memory()
    return MemoryBudget(resident=resident, total=None if free is None else free + resident)


def estimate_memory(
    config: Config, fingerprint: Fingerprint, device: torch.device, budget: MemoryBudget
) -> MemoryEstimate:
    """Estimate the memory of a run of this config, without computing or allocating anything.

    Raises:
        InvalidArgumentError: the network cannot be built, or does not accept samples of this size.
    """
    is_cuda, precision = device.type == "cuda", config.training.precision
    counts = _count(
        config.network, config.optimizer, fingerprint.channels, len(fingerprint.class_pixels), config.data.crop_size
    )
    saved = counts.checkpointed if config.training.activation_checkpointing else counts.activations
    ends = _input_output_bytes(config, fingerprint)
    image = counts.activations * _pixels(fingerprint.largest_val_size) / _pixels(config.data.crop_size)
    label_maps = 0 if is_cuda else _num_val(config, fingerprint) * _pixels(fingerprint.largest_val_size)
    return MemoryEstimate(
        process=0 if is_cuda else _process_bytes(config, budget),
        images=0 if is_cuda else _image_bytes(config, fingerprint),
        model=3 * counts.weights + counts.state,
        step=int(compute_step_bytes(saved, counts.activations, ends, precision) * _part_size(config)),
        evaluation=int(counts.weights + INFERENCE_FRACTION * image + label_maps),
        # The buffer grows by copying, so there are two of it for a moment.
        checkpoint=0 if is_cuda else 2 * (2 * counts.weights + counts.state),
    )


def compute_step_bytes(saved: int, activations: int, ends: int, precision: Precision) -> float:
    """Return the peak of a step on one sample.

    Args:
        saved: bytes of the activations saved for the backward pass, in float32.
        activations: the same without activation checkpointing.
        ends: bytes of the image and the logits.
        precision: arithmetic of the forward pass.
    """
    scale = 0.5 if precision == "bf16" else 1.0
    return scale * saved + ends + WORKSPACE * (scale * activations + ends)


@dataclass(frozen=True, slots=True, kw_only=True)
class _ByteCounts:
    """Bytes that depend on the network only, in float32."""

    weights: int
    state: int
    """Optimizer state."""
    activations: int
    """Activations of one sample that the backward pass needs."""
    checkpointed: int
    """Activations with activation checkpointing, if the network supports it."""


@lru_cache(maxsize=64)  # a plan compares the same networks several times
def _count(
    network: NetworkConfig, optimizer: OptimizerConfig, in_channels: int, num_classes: int, size: Size
) -> _ByteCounts:
    model = build_meta_segmenter(network, in_channels, num_classes).train()
    image = torch.empty(1, in_channels, *size, device="meta")
    activations = count_saved_bytes(model, image)
    return _ByteCounts(
        weights=4 * sum(parameter.numel() for parameter in model.parameters()),
        state=_optimizer_bytes(model, optimizer),
        activations=activations,
        checkpointed=count_checkpointed_bytes(model, image) if get_encoder_stages(model.network) else activations,
    )


def build_meta_segmenter(network: NetworkConfig, in_channels: int, num_classes: int) -> Segmenter:
    """Build a network for training on the meta device."""
    with torch.device("meta"):
        built = build_network(network, in_channels=in_channels, num_classes=num_classes)
        return Segmenter(built, mean=[0.0] * in_channels, std=[1.0] * in_channels)


def _process_bytes(config: Config, budget: MemoryBudget) -> int:
    return budget.resident + LOADED_LATER_BYTES + (ENCODER_LIBRARY_BYTES if config.network.encoder else 0)


def _input_output_bytes(config: Config, fingerprint: Fingerprint) -> int:
    """Return the bytes of one sample: the normalized image, the logits and their gradient, in float32."""
    return 4 * _pixels(config.data.crop_size) * (fingerprint.channels + 2 * len(fingerprint.class_pixels))


def _optimizer_bytes(network: nn.Module, config: OptimizerConfig) -> int:
    """AdamW stores two values per weight and SGD one; Muon stores one if it orthogonalizes the weight, else two."""
    if config.name != "muon":
        return 4 * (2 if config.name == "adamw" else 1) * sum(p.numel() for p in network.parameters())
    orthogonal = [p.ndim >= 2 and compute_shorter_side(p) <= MAX_SHORT_SIDE for p in network.parameters()]
    return 4 * sum(
        (2 - is_orthogonal) * p.numel() for is_orthogonal, p in zip(orthogonal, network.parameters(), strict=True)
    )


def _image_bytes(config: Config, fingerprint: Fingerprint) -> int:
    """Return the bytes of the cached images and of four prefetched batches."""
    training = config.training
    pair_bytes = fingerprint.pair_bytes / fingerprint.num_train
    shown = (
        fingerprint.num_train
        if training.steps is None
        else min(fingerprint.num_train, training.steps * training.batch_size)
    )
    batches = 4 * training.batch_size * _pixels(config.data.crop_size) * fingerprint.bytes_per_pixel
    return int(min(config.data.cache_gib * GIB, shown * pair_bytes) + batches)


def _part_size(config: Config) -> int:
    """Return the number of images in a forward pass."""
    return -(-config.training.batch_size // config.training.gradient_accumulation_steps)


def _num_val(config: Config, fingerprint: Fingerprint) -> int:
    limit = config.data.max_val_images
    return fingerprint.num_val if limit is None else min(fingerprint.num_val, limit)


def _pixels(size: Size) -> int:
    return size[0] * size[1]


def format_gib(size: float) -> str:
    """Format bytes as `1.25 GiB`."""
    return f"{size / GIB:.2f} GiB"
