"""The gradient of a batch, whole or from its parts one after the other.

The gradient of the parts is that of the whole batch, whatever the loss, but for two things: rounding, and
batch normalization, which sees one part at a time.
"""

from collections.abc import Callable, Sequence
from contextlib import nullcontext

import torch
from torch import Tensor, nn
from torch.profiler import record_function

from pixelwise.config import LossConfig
from pixelwise.data.loader import Batch
from pixelwise.devices import Precision, autocast
from pixelwise.networks.activation_checkpointing import preserve_buffers
from pixelwise.training.distributed import ALONE, World, keeping_gradients

BatchLoss = Callable[[Tensor, Batch], Tensor]
"""Logits (B, K, H, W) of a batch → its loss."""


def is_mean_over_pixels(config: LossConfig) -> bool:
    """Whether the loss of a batch is the mean over its pixels that are not ignored, so that parts add up."""
    return config.name in ("cross_entropy", "focal") and not (config.dice_weight or config.lovasz_weight)


def add_gradients(
    model: nn.Module,
    parts: Sequence[Batch],
    loss: BatchLoss,
    precision: Precision,
    *,
    mean_over_pixels_but: int | None,
    world: World = ALONE,
) -> Tensor:
    """Adds the gradient of the whole batch to the model's; returns its loss, without waiting for it.

    In a world of several processes the batch is that of all, and `parts` are those of this one.

    `mean_over_pixels_but` is the ignore index where the loss is a mean over the pixels that have another;
    None: it is no such mean, and parts take one more forward pass.
    """
    device = parts[0].images.device

    def logits_of(part: Batch) -> Tensor:
        with record_function("forward"), autocast(device, precision):
            logits: Tensor = model(part.images)
        return logits

    if len(parts) == 1 and world.size == 1:
        logits = logits_of(parts[0])
        with record_function("loss"):
            whole = loss(logits, parts[0])
        with record_function("backward"):
            whole.backward()  # type: ignore[no-untyped-call]
        return whole.detach()
    if mean_over_pixels_but is None:
        return _from_all_logits(model, parts, loss, logits_of, world)
    pixels = torch.stack([(part.labels != mean_over_pixels_but).sum() for part in parts])
    # The mean of the gradients is taken over the processes, their sum is wanted.
    shares = pixels * world.size / world.sum(pixels.sum()).clamp(min=1)
    total = shares.new_zeros(())
    for i, (part, share) in enumerate(zip(parts, shares, strict=True), start=1):
        with nullcontext() if i == len(parts) else keeping_gradients(model):
            one = share * loss(logits_of(part), part)
            one.backward()
        total += one.detach()
    return world.sum(total) / world.size


def _from_all_logits(
    model: nn.Module, parts: Sequence[Batch], loss: BatchLoss, logits_of: Callable[[Batch], Tensor], world: World
) -> Tensor:
    """First the logits of all parts, without the maps behind them, and the gradient of the loss there; then
    part by part the gradient behind the logits. Each process takes the loss of the logits of all.
    """
    own = _without_a_trace(model, parts, logits_of) if len(parts) > 1 else logits_of(parts[0])
    logits = world.gather_rows(own.detach()).requires_grad_()
    value = loss(logits, _of_all(world, _joined(parts)))
    (gradient,) = torch.autograd.grad(value, logits)
    of_parts = torch.split(world.own_rows(gradient) * world.size, [len(part.images) for part in parts])
    if len(parts) == 1:
        own.backward(of_parts[0])  # type: ignore[no-untyped-call]
        return value.detach()
    for i, (part, of_part) in enumerate(zip(parts, of_parts, strict=True), start=1):
        with nullcontext() if i == len(parts) else keeping_gradients(model):
            logits_of(part).backward(of_part)  # type: ignore[no-untyped-call]
    return value.detach()


def _of_all(world: World, batch: Batch) -> Batch:
    """What a loss looks at, of the batches of all processes; the images stay this one's."""
    weights = batch.pixel_weights
    labels = world.gather_rows(batch.labels.long())
    return Batch(batch.images, labels, None if weights is None else world.gather_rows(weights))


@torch.no_grad()
def _without_a_trace(model: nn.Module, parts: Sequence[Batch], logits_of: Callable[[Batch], Tensor]) -> Tensor:
    """Logits of all parts. Random numbers and batch statistics stay as they were, so that a second pass sees
    what this one saw.
    """
    device = parts[0].images.device
    with preserve_buffers(model), torch.random.fork_rng([device] if device.type == "cuda" else []):
        return torch.cat([logits_of(part) for part in parts])


def _joined(parts: Sequence[Batch]) -> Batch:
    """The inverse of `Batch.parts`."""
    weights = [part.pixel_weights for part in parts if part.pixel_weights is not None]
    return Batch(
        torch.cat([part.images for part in parts]),
        torch.cat([part.labels for part in parts]),
        torch.cat(weights) if weights else None,
    )
