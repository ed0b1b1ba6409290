"""Smaller samples, if the memory is too small for the planned ones."""

from collections.abc import Set

import torch

from pixelwise.config import Config
from pixelwise.errors import InvalidArgumentError
from pixelwise.planning.candidates import NetworkCandidate
from pixelwise.planning.fingerprint import Fingerprint
from pixelwise.planning.heuristics import Choices
from pixelwise.planning.memory_estimate import (
    MEMORY_FRACTION,
    MemoryBudget,
    MemoryEstimate,
    estimate_memory,
    format_gib,
)
from pixelwise.shapes import round_up

MIN_CROP_SIDE = 64
"""Smallest side to which crops are reduced."""


def fit_samples(
    config: Config,
    fixed: Set[str],
    candidate: NetworkCandidate | None,
    fingerprint: Fingerprint,
    device: torch.device,
    budget: MemoryBudget,
) -> Choices:
    """Halve the batch, then the crop, until the run of this network (None: that of the config) fits into memory.

    Raises:
        InvalidArgumentError: the run does not fit with the smallest samples, or keys that the user fixed prevent it.
    """
    choices: Choices = {}
    reason = f"larger samples do not fit into {format_gib(budget.allowed)} of memory"
    while True:
        network = candidate.apply_to(config, fixed) if candidate else config
        memory = estimate_memory(network, fingerprint, device, budget)
        if memory.peak <= budget.allowed:
            return choices
        batch, crop = config.training.batch_size, config.data.crop_size
        if batch > 1 and "training.batch_size" not in fixed:
            choices["training.batch_size"] = (batch // 2, reason)
        elif min(crop) > MIN_CROP_SIDE and "data.crop_size" not in fixed:
            choices["data.crop_size"] = ((round_up(crop[0] // 2, 32), round_up(crop[1] // 2, 32)), reason)
        else:
            raise _explain_shortage(memory, budget, fingerprint, config)
        config = config.replace({key: value for key, (value, _) in choices.items()})


def _explain_shortage(
    memory: MemoryEstimate, budget: MemoryBudget, fingerprint: Fingerprint, config: Config
) -> InvalidArgumentError:
    checkpointing = config.training.activation_checkpointing
    advice = "" if checkpointing else "set training.activation_checkpointing=true, "
    advice = (
        f"Free memory, {advice}or set smaller values of training.batch_size, data.crop_size and network.base_channels"
    )
    without_evaluation = memory.process + memory.images + memory.model + max(memory.step, memory.checkpoint)
    if without_evaluation <= budget.allowed:
        height, width = fingerprint.largest_val_size
        size = format_gib(memory.evaluation)
        advice = f"Cut the images into smaller ones: predicting one of {height}x{width} takes {size}"
    return InvalidArgumentError(
        f"training would take {format_gib(memory.peak)} of memory at its peak, but a plan may use "
        f"{format_gib(budget.allowed)}, {MEMORY_FRACTION:.0%} of the memory. {advice}. A config given with --config is "
        f"not limited."
    )
