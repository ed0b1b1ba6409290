"""Making a plan fit into the memory there is."""

import torch

from pixelwise.config import Config
from pixelwise.errors import InvalidArgumentError
from pixelwise.planning.candidates import Candidate
from pixelwise.planning.fingerprint import Fingerprint
from pixelwise.planning.memory_estimate import MEMORY_SHARE, MemoryForecast, Room, forecast_memory, gib
from pixelwise.planning.plan import Draft
from pixelwise.shapes import round_up

MIN_CROP_SIDE = 64
"""Of a sample that is cut smaller because memory is short."""


def fit_samples(draft: Draft, candidate: Candidate | None, seen: Fingerprint, device: torch.device, room: Room) -> None:
    """Halves the batch, then the crop, until the run of this network (None: the draft's own) fits.

    Raises:
        InvalidArgumentError: it does not fit with the smallest samples.
    """

    def forecast() -> MemoryForecast:
        config = draft.with_network(candidate) if candidate else draft.config
        return forecast_memory(config, seen, device, room)

    while (memory := forecast()).peak > room.allowed:
        batch, crop = draft.config.training.batch_size, draft.config.data.crop_size
        why = f"a larger one would not fit into {gib(room.allowed)} of memory"
        if batch > 1 and "training.batch_size" not in draft.decided:
            draft.put("training.batch_size", batch // 2, why)
        elif min(crop) > MIN_CROP_SIDE and "data.crop_size" not in draft.decided:
            draft.put("data.crop_size", (round_up(crop[0] // 2, 32), round_up(crop[1] // 2, 32)), why)
        else:
            raise _too_little(memory, room, seen, draft.config)


def _too_little(memory: MemoryForecast, room: Room, seen: Fingerprint, config: Config) -> InvalidArgumentError:
    recompute = "" if config.training.activation_checkpointing else "set training.activation_checkpointing=true, "
    advice = (
        f"free some, {recompute}or set smaller values of training.batch_size, data.crop_size and network.base_channels"
    )
    without = memory.process + memory.images + memory.model + max(memory.step, memory.checkpoint)
    if without <= room.allowed:
        height, width = seen.largest_val_size
        advice = f"cut the images into smaller ones: predicting one of {height}x{width} takes {gib(memory.evaluation)}"
    return InvalidArgumentError(
        f"training would take {gib(memory.peak)} of memory at its peak, and a plan may take {gib(room.allowed)}, "
        f"{MEMORY_SHARE:.0%} of what is there; {advice}. A config given with --config is not held to this."
    )
