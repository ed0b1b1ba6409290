"""The gradient of a batch that is divided among processes and into parts.

The result is that of the whole batch for every loss, except for rounding and for batch normalization, which sees one
part at a time.
"""

from collections.abc import Callable, Sequence
from contextlib import nullcontext

import torch
from torch import Tensor, nn
from torch.profiler import record_function

from pixelwise.config import LossConfig
from pixelwise.data.loader import Batch
from pixelwise.devices import Precision, autocast
from pixelwise.networks.stages import preserve_buffers
from pixelwise.training.distributed import SINGLE_PROCESS, World, skip_gradient_sync

BatchLoss = Callable[[Tensor, Batch], Tensor]
"""Logits (B, K, H, W) and their batch → a scalar loss."""


def is_mean_over_pixels(config: LossConfig) -> bool:
    """Return whether the loss is the mean over the non-ignored pixels, so that the losses of parts can be added."""
    is_mean = config.name in ("cross_entropy", "focal") and config.function is None
    return is_mean and not (config.dice_weight or config.lovasz_weight)


def accumulate_gradients(
    model: nn.Module,
    parts: Sequence[Batch],
    loss: BatchLoss,
    precision: Precision,
    *,
    ignore_index: int | None,
    world: World = SINGLE_PROCESS,
) -> Tensor:
    """Add the gradient of the whole batch to the model's gradients; return its loss without waiting for it.

    Args:
        model: the network, wrapped for the processes of `world`.
        parts: this process's part of the batch, divided further to save memory.
        loss: loss of logits and their batch.
        precision: arithmetic of the forward pass.
        ignore_index: label of ignored pixels if the loss is a mean over the others; None for other losses, for which
            parts take another forward pass.
        world: the processes among which the batch is divided.
    """
    device = parts[0].images.device

    def compute_logits(part: Batch) -> Tensor:
        with record_function("forward"), autocast(device, precision):
            logits: Tensor = model(part.images)
        return logits

    if len(parts) == 1 and world.size == 1:
        logits = compute_logits(parts[0])
        with record_function("loss"):
            value = loss(logits, parts[0])
        with record_function("backward"):
            value.backward()  # type: ignore[no-untyped-call]
        return value.detach()
    if ignore_index is None:
        return _accumulate_from_all_logits(model, parts, loss, compute_logits, world)
    pixels = torch.stack([(part.labels != ignore_index).sum() for part in parts])
    # Gradients are averaged over the processes, but their sum is needed: hence times `size`.
    fractions = pixels * world.size / world.sum(pixels.sum()).clamp(min=1)
    total = fractions.new_zeros(())
    for i, (part, fraction) in enumerate(zip(parts, fractions, strict=True), start=1):
        with nullcontext() if i == len(parts) else skip_gradient_sync(model):
            value = fraction * loss(compute_logits(part), part)
            value.backward()
        total += value.detach()
    return world.sum(total) / world.size


def _accumulate_from_all_logits(
    model: nn.Module, parts: Sequence[Batch], loss: BatchLoss, compute_logits: Callable[[Batch], Tensor], world: World
) -> Tensor:
    """Compute the logits of the whole batch without activations and the gradient of the loss with respect to them.
    Then backpropagate it part by part. Each process computes the loss of all logits.
    """
    own = _compute_logits_only(model, parts, compute_logits) if len(parts) > 1 else compute_logits(parts[0])
    logits = world.gather_rows(own.detach()).requires_grad_()
    value = loss(logits, _gather_labels(world, parts))
    (gradient,) = torch.autograd.grad(value, logits)
    gradients = torch.split(world.own_rows(gradient) * world.size, [len(part.images) for part in parts])
    if len(parts) == 1:
        own.backward(gradients[0])  # type: ignore[no-untyped-call]
        return value.detach()
    for i, (part, part_gradient) in enumerate(zip(parts, gradients, strict=True), start=1):
        with nullcontext() if i == len(parts) else skip_gradient_sync(model):
            compute_logits(part).backward(part_gradient)  # type: ignore[no-untyped-call]
    return value.detach()


@torch.no_grad()
def _compute_logits_only(model: nn.Module, parts: Sequence[Batch], compute_logits: Callable[[Batch], Tensor]) -> Tensor:
    """Return the logits of all parts; random state and batch statistics stay, so that a second pass is equal."""
    device = parts[0].images.device
    with preserve_buffers(model), torch.random.fork_rng([device] if device.type == "cuda" else []):
        return torch.cat([compute_logits(part) for part in parts])


def _gather_labels(world: World, parts: Sequence[Batch]) -> Batch:
    """Return the labels and pixel weights of the whole batch, with the images of this process's first part."""
    labels = world.gather_rows(torch.cat([part.labels for part in parts]).long())
    weights = [part.pixel_weights for part in parts if part.pixel_weights is not None]
    return Batch(parts[0].images, labels, world.gather_rows(torch.cat(weights)) if weights else None)
