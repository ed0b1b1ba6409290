"""The gradient of a batch, whole or from its parts one after the other.

The gradient of the parts is that of the whole batch, whatever the loss, but for two things: rounding, and
batch normalization, which sees one part at a time.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.profiler import record_function

from pixelwise.data.loading import Batch
from pixelwise.devices import Precision, autocast
from pixelwise.recipe import LossRecipe

BatchLoss = Callable[[Tensor, Batch], Tensor]
"""Logits (B, K, H, W) of a batch → its loss."""


def is_mean_over_pixels(recipe: LossRecipe) -> bool:
    """Whether the loss of a batch is the mean over its pixels that are not ignored, so that parts add up."""
    return recipe.name in ("cross_entropy", "focal") and not (recipe.dice or recipe.lovasz)


def add_gradients(
    model: nn.Module,
    parts: Sequence[Batch],
    loss: BatchLoss,
    precision: Precision,
    *,
    mean_over_pixels_but: int | None,
) -> Tensor:
    """Adds the gradient of the whole batch to the model's; returns its loss, without waiting for it.

    `mean_over_pixels_but` is the ignore label where the loss is a mean over the pixels that have another;
    None: it is no such mean, and parts take one more forward pass.
    """
    device = parts[0].images.device

    def logits_of(part: Batch) -> Tensor:
        with record_function("forward"), autocast(device, precision):
            logits: Tensor = model(part.images)
        return logits

    if len(parts) == 1:
        logits = logits_of(parts[0])
        with record_function("loss"):
            whole = loss(logits, parts[0])
        with record_function("backward"):
            whole.backward()  # type: ignore[no-untyped-call]
        return whole.detach()
    if mean_over_pixels_but is None:
        return _from_all_logits(model, parts, loss, logits_of)
    pixels = torch.stack([(part.labels != mean_over_pixels_but).sum() for part in parts])
    shares = pixels / pixels.sum().clamp(min=1)
    total = shares.new_zeros(())
    for part, share in zip(parts, shares, strict=True):
        one = share * loss(logits_of(part), part)
        one.backward()
        total += one.detach()
    return total


def _from_all_logits(
    model: nn.Module, parts: Sequence[Batch], loss: BatchLoss, logits_of: Callable[[Batch], Tensor]
) -> Tensor:
    """First the logits of all parts, without the maps behind them, and the gradient of the loss there; then
    part by part the gradient behind the logits.
    """
    logits = _without_a_trace(model, parts, logits_of).requires_grad_()
    value = loss(logits, _joined(parts))
    (gradient,) = torch.autograd.grad(value, logits)
    of_parts = torch.split(gradient, [len(part.images) for part in parts])
    for part, of_part in zip(parts, of_parts, strict=True):
        logits_of(part).backward(of_part)  # type: ignore[no-untyped-call]
    return value.detach()


@torch.no_grad()
def _without_a_trace(model: nn.Module, parts: Sequence[Batch], logits_of: Callable[[Batch], Tensor]) -> Tensor:
    """Logits of all parts. Random numbers and batch statistics stay as they were, so that a second pass sees
    what this one saw.
    """
    device = parts[0].images.device
    statistics = [buffer.clone() for buffer in model.buffers()]
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        logits = torch.cat([logits_of(part) for part in parts])
    for buffer, before in zip(model.buffers(), statistics, strict=True):
        buffer.copy_(before)
    return logits


def _joined(parts: Sequence[Batch]) -> Batch:
    """The inverse of `Batch.parts`."""
    weights = [part.pixel_weights for part in parts if part.pixel_weights is not None]
    return Batch(
        torch.cat([part.images for part in parts]),
        torch.cat([part.labels for part in parts]),
        torch.cat(weights) if weights else None,
    )
