"""Lovász-Softmax: the mean IoU as a loss. Berman, Triki, Blaschko, CVPR 2018 (arXiv 1705.08790)."""

from typing import Any

import torch
from torch import Tensor

from pixelwise.losses.signature import check_shapes


def lovasz(
    logits: Tensor,
    labels: Tensor,
    *,
    ignore_index: int,
    class_weights: Tensor | None = None,
    pixel_weights: Tensor | None = None,
) -> Tensor:
    """The Lovász extension of one minus IoU, averaged over the classes that occur in the labels of the batch.

    It equals one minus IoU where all probabilities are 0 or 1, and is piecewise linear in between. A
    class that does not occur has no share of the mean, as in ``dice``; its false positives cost their
    true classes. ``class_weights`` multiply each class's share; a pixel of weight w counts as w
    pixels. Sorting all pixels once for each class that occurs takes several times as long as the
    other losses.
    """
    check_shapes(logits, labels, class_weights, pixel_weights)
    classes = labels.long()
    valid = classes != ignore_index
    weights = valid.to(torch.promote_types(logits.dtype, torch.float32))
    if pixel_weights is not None:
        weights = weights * pixel_weights.to(weights)
    shares = weights.new_ones(logits.shape[1]) if class_weights is None else class_weights.to(weights)
    loss: Tensor = _Lovasz.apply(logits, classes, weights, valid, shares)
    return loss


class _Lovasz(torch.autograd.Function):
    """Once the errors are sorted the loss is linear in them, so its gradient is known with its value."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, classes: Tensor, weights: Tensor, valid: Tensor, shares: Tensor) -> Tensor:
        scores = logits.movedim(1, 0)[:, valid].to(weights.dtype)  # (K, N)
        p, truth, weight = scores.softmax(0), classes[valid], weights[valid]
        slopes, loss = torch.zeros_like(p), weights.new_zeros(())
        occurring = torch.unique(truth[weight > 0]).tolist()
        count = max(len(occurring), 1)
        for c in occurring:
            loss += shares[c] * _of_class(p[c], truth == c, weight, slopes[c])
            slopes[c] *= shares[c]
        slopes = p * (slopes - (slopes * p).sum(0)) / count  # through the softmax
        gradient = torch.zeros_like(logits)
        gradient.movedim(1, 0)[:, valid] = slopes.to(logits.dtype)
        ctx.save_for_backward(gradient)
        return loss / count

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, outer: Tensor) -> tuple[Tensor, None, None, None, None]:
        (gradient,) = ctx.saved_tensors
        return gradient * outer.to(gradient.dtype), None, None, None, None


def _of_class(p: Tensor, is_class: Tensor, weight: Tensor, slope: Tensor) -> Tensor:
    """The loss of one class; its derivative by ``p`` (N,) is written to ``slope`` (N,)."""
    errors, order = torch.where(is_class, 1 - p, p).sort(descending=True, stable=True)
    steps = jaccard_steps(is_class[order], weight[order])
    slope[order] = torch.where(is_class[order], -steps, steps)
    return (errors * steps).sum()  # autocast would take a product of vectors in bfloat16


def jaccard_steps(is_class: Tensor, weight: Tensor) -> Tensor:
    """How much one minus IoU rises with each pixel that becomes wrong, one after the other.

    With pixels 0..i wrong, the intersection is what is left of the class, and the union the class
    and all wrong pixels of others. Of three equal pixels, the first two of the class: the first error
    leaves 1 of 2, the second 0 of 2, so that the steps are 1/2, 1/2 and 0.

    Args:
        is_class: (N,) bool, whether a pixel is truly of the class, by falling error.
        weight: (N,) how many pixels each counts as.
    """
    inside = weight * is_class
    total = inside.sum()
    intersection = total - inside.cumsum(0)
    union = total + (weight - inside).cumsum(0)
    loss = 1 - intersection / union
    return torch.diff(loss, prepend=loss.new_zeros(1))
