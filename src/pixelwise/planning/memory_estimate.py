"""How much memory a run will take at its peak, from its parts, and how much there is.

The parts are counted: weights and what belongs to them, the maps kept for the backward pass (on the
meta device, without data), decoded images. What cannot be counted, scratch space of the kernels and
holes in the heap, is a factor on the maps and a constant, both measured (`benchmarks/planning.py`).
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
from pixelwise.training.muon import LARGEST_SIDE, shorter_side

MEMORY_SHARE = 0.75
"""Of the memory there is, for a plan: a forecast that is a quarter too low still fits."""

CACHE_SHARE = 0.25
"""Of that, for decoded images at most."""

WORKSPACE = 0.55
"""Of what the backward pass needs: gradients under way, scratch space of the kernels, holes in the heap. Recomputing
saves none of these."""

STARTED_LATER = 130 * 2**20
"""Bytes of code and compiled kernels that are loaded when training starts."""

LIBRARIES_OF_ENCODERS = 190 * 2**20
"""Bytes of code of torchvision and timm."""

INFERENCE_SHARE = 0.7
"""Of what training would keep of an image, a prediction holds at its peak."""

GIB = 2**30


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryForecast:
    """Bytes by what they are for. On the CPU of the whole process; on a GPU, of what PyTorch's allocator
    holds there.
    """

    process: int
    """Code and data that lie in memory when training starts; 0 on a GPU."""
    images: int
    """Decoded images, and the batches that are ready; 0 on a GPU."""
    model: int
    """Weights, their gradients, the optimizer's state, the averaged weights."""
    step: int
    """Maps kept for the backward pass, with what is needed around them."""
    evaluation: int
    """Predicting the largest validation image, and all label maps together."""
    checkpoint: int
    """The bytes of a checkpoint before they are written; 0 on a GPU."""

    @property
    def peak(self) -> int:
        """Steps, evaluations and checkpoints take turns in the same memory."""
        return self.process + self.images + self.model + max(self.step, self.evaluation, self.checkpoint)


@dataclass(frozen=True, slots=True, kw_only=True)
class Room:
    """The memory that a run may take."""

    resident: int
    """What the process holds already; 0 on a GPU."""
    total: int | None
    """What it holds and what is free; None where the system does not tell."""

    @property
    def allowed(self) -> float:
        """Bytes that a plan may need at its peak."""
        return float("inf") if self.total is None else MEMORY_SHARE * self.total


def look_for_room(device: torch.device) -> Room:
    """On the device that trains."""
    free, resident = measure_free_memory(device), 0 if device.type == "cuda" else measure_resident_memory()
    return Room(resident=resident, total=None if free is None else free + resident)


def forecast_memory(config: Config, seen: Fingerprint, device: torch.device, room: Room) -> MemoryForecast:
    """Of a run of this config; nothing is computed or allocated.

    Raises:
        InvalidArgumentError: a network that cannot be built, or that does not take the config's samples.
    """
    cuda, precision = device.type == "cuda", config.training.precision
    counted = _count(config.network, config.optimizer, seen.channels, len(seen.class_pixels), config.data.crop_size)
    kept = counted.recomputed if config.training.activation_checkpointing else counted.maps
    given = _given_bytes(config, seen)
    image = counted.maps * _pixels(seen.largest_val_size) / _pixels(config.data.crop_size)
    label_maps = 0 if cuda else _num_val(config, seen) * _pixels(seen.largest_val_size)
    return MemoryForecast(
        process=0 if cuda else _process_bytes(config, room),
        images=0 if cuda else _image_bytes(config, seen),
        model=3 * counted.weights + counted.state,
        step=int(step_bytes(kept, counted.maps, given, precision) * _at_once(config)),
        evaluation=int(counted.weights + INFERENCE_SHARE * image + label_maps),
        # The stream grows by copying, so it is there twice for a moment.
        checkpoint=0 if cuda else 2 * (2 * counted.weights + counted.state),
    )


def step_bytes(kept: int, maps: int, given: int, precision: Precision) -> float:
    """Of a step on one sample, at its peak.

    Args:
        kept: bytes of the maps kept for the backward pass, in float32.
        maps: the same without recomputing.
        given: of the image and the logits.
    """
    scale = 0.5 if precision == "bf16" else 1.0
    return scale * kept + given + WORKSPACE * (scale * maps + given)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Counted:
    """Bytes that follow from the network alone, in float32."""

    weights: int
    state: int
    """Of the optimizer."""
    maps: int
    """Kept of one sample for the backward pass."""
    recomputed: int
    """The same with `training.activation_checkpointing`; as large where the network cannot do that."""


@lru_cache(maxsize=64)  # a plan asks for the same networks several times
def _count(
    network: NetworkConfig, optimizer: OptimizerConfig, in_channels: int, num_classes: int, size: Size
) -> _Counted:
    model = segmenter_without_data(network, in_channels, num_classes).train()
    image = torch.empty(1, in_channels, *size, device="meta")
    maps = count_saved_bytes(model, image)
    return _Counted(
        weights=4 * sum(parameter.numel() for parameter in model.parameters()),
        state=_optimizer_bytes(model, optimizer),
        maps=maps,
        recomputed=count_checkpointed_bytes(model, image) if get_encoder_stages(model.network) else maps,
    )


def segmenter_without_data(network: NetworkConfig, in_channels: int, num_classes: int) -> Segmenter:
    """A network as it is trained, on the meta device."""
    with torch.device("meta"):
        built = build_network(network, in_channels=in_channels, num_classes=num_classes)
        return Segmenter(built, mean=[0.0] * in_channels, std=[1.0] * in_channels)


def _process_bytes(config: Config, room: Room) -> int:
    return room.resident + STARTED_LATER + (LIBRARIES_OF_ENCODERS if config.network.encoder else 0)


def _given_bytes(config: Config, seen: Fingerprint) -> int:
    """Of one sample: the normalized image and the logits with their gradient, in float32."""
    return 4 * _pixels(config.data.crop_size) * (seen.channels + 2 * len(seen.class_pixels))


def _optimizer_bytes(network: nn.Module, config: OptimizerConfig) -> int:
    """AdamW keeps two numbers a weight, SGD one; Muon one where it orthogonalizes, else two."""
    if config.name != "muon":
        return 4 * (2 if config.name == "adamw" else 1) * sum(p.numel() for p in network.parameters())
    orthogonal = [p.ndim >= 2 and shorter_side(p) <= LARGEST_SIDE for p in network.parameters()]
    return 4 * sum((2 - one) * p.numel() for one, p in zip(orthogonal, network.parameters(), strict=True))


def _image_bytes(config: Config, seen: Fingerprint) -> int:
    """The cache as far as it fills, and four batches made ahead."""
    training = config.training
    of_pair = seen.pair_bytes / seen.num_train
    shown = seen.num_train if training.steps is None else min(seen.num_train, training.steps * training.batch_size)
    batches = 4 * training.batch_size * _pixels(config.data.crop_size) * seen.bytes_per_pixel
    return int(min(config.data.cache_gib * GIB, shown * of_pair) + batches)


def _at_once(config: Config) -> int:
    """Images that pass the network together."""
    return -(-config.training.batch_size // config.training.gradient_accumulation_steps)


def _num_val(config: Config, seen: Fingerprint) -> int:
    most = config.data.max_val_images
    return seen.num_val if most is None else min(seen.num_val, most)


def _pixels(size: Size) -> int:
    return size[0] * size[1]


def gib(size: float) -> str:
    """Bytes as `1.25 GiB`."""
    return f"{size / GIB:.2f} GiB"
