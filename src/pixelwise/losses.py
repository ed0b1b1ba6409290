"""Losses per pixel, all with one signature, and the class weights of median frequency balancing.

    loss(logits, labels, *, ignore_label, class_weights=None, pixel_weights=None) -> scalar tensor

- ``logits``: (B, K, H, W), any floating dtype. The arithmetic is float32 (float64 stays float64),
  also under autocast.
- ``labels``: (B, H, W), any integer dtype: 0..K-1, or ``ignore_label``, where the loss and its
  gradient are 0.
- ``class_weights``: (K,), one factor per class. ``pixel_weights``: (B, H, W), one factor per pixel,
  not negative.

Weights multiply the loss and nothing divides by their sum: twice the weights, twice the loss, as in
the Caffe of FCN and SegNet. (PyTorch's ``CrossEntropyLoss(weight=...)`` divides by it, so that the
learning rate would silently depend on the weights: with SegNet's weights on CamVid by a factor of
1.96.) Losses are divided by the number of pixels that are not ignored; where there is none the loss
is 0, and so are the gradients. A run over several ranks scales each rank's loss by its own number
of such pixels × ranks / the number over all ranks.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from pixelwise.errors import RequestError

# 1.4 MB of float32 logits at 11 classes.
_CACHED_PIXELS = 2**15


class Loss(Protocol):
    """What every entry of ``LOSSES`` can be called with."""

    def __call__(
        self,
        logits: Tensor,
        labels: Tensor,
        *,
        ignore_label: int,
        class_weights: Tensor | None = None,
        pixel_weights: Tensor | None = None,
    ) -> Tensor: ...


def cross_entropy(
    logits: Tensor,
    labels: Tensor,
    *,
    ignore_label: int,
    class_weights: Tensor | None = None,
    pixel_weights: Tensor | None = None,
) -> Tensor:
    """Mean over the pixels that are not ignored of ``-w_class * w_pixel * log p(true class)``, in nats."""
    _check_shapes(logits, labels, class_weights, pixel_weights)
    counts = _soft_counts(logits, labels, ignore_label, pixel_weights)
    return _cross_entropy(counts, class_weights)


def dice(
    logits: Tensor,
    labels: Tensor,
    *,
    ignore_label: int,
    class_weights: Tensor | None = None,
    pixel_weights: Tensor | None = None,
) -> Tensor:
    """One minus soft Dice, averaged over the classes that occur in the labels of the batch.

    Soft Dice of class c is ``2 sum(p_c y_c) / sum(p_c + y_c)``, the sums over all pixels of the
    batch that are not ignored (V-Net, Milletari et al. 2016, without the squares; over the batch as
    in nnU-Net). ``pixel_weights`` multiply the summands; ``class_weights`` multiply each class's
    share of the mean.

    A class that does not occur has no share: its Dice is 0 whatever is predicted, a constant
    without gradient (or, with the usual smoothing term, a gradient that only appears once hardly a
    pixel is left). Its false positives still cost, because the background is a class like any other
    here: each one is probability that the true class of its pixel lacks, whose own Dice falls. An
    image of background alone is therefore not free of charge.
    """
    _check_shapes(logits, labels, class_weights, pixel_weights)
    return _dice(_soft_counts(logits, labels, ignore_label, pixel_weights), class_weights)


def cross_entropy_and_dice(
    logits: Tensor,
    labels: Tensor,
    *,
    ignore_label: int,
    class_weights: Tensor | None = None,
    pixel_weights: Tensor | None = None,
    dice_weight: float = 1.0,
) -> Tensor:
    """``cross_entropy + dice_weight * dice``, from one softmax and one gradient."""
    _check_shapes(logits, labels, class_weights, pixel_weights)
    counts = _soft_counts(logits, labels, ignore_label, pixel_weights)
    return _cross_entropy(counts, class_weights) + dice_weight * _dice(counts, class_weights)


LOSSES: dict[str, Loss] = {
    "cross-entropy": cross_entropy,
    "dice": dice,
    "cross-entropy-dice": cross_entropy_and_dice,
}


def median_frequency_weights(
    class_pixels: npt.ArrayLike, image_pixels: npt.ArrayLike, power: float = 1.0
) -> npt.NDArray[np.float64]:
    """Class weights ``(median f / f_c) ** power`` (median frequency balancing, Eigen & Fergus 2015).

    ``f_c = class_pixels[c] / image_pixels[c]``: the pixels of class c over all pixels (ignored ones
    too) of the images in which c occurs, so that a class is not called rare for occurring in few
    images. The median is over the classes that occur. A class that never occurs gets weight 1: no
    pixel of it will ever be weighted.

    Args:
        class_pixels: (K,) pixels of each class in the training set.
        image_pixels: (K,) total pixels of the training images in which each class occurs.
        power: 1 balances fully, 0 not at all, 0.5 is a common middle.

    Raises:
        RequestError: unequal lengths, or a class with more pixels than its images have.
    """
    pixels, totals = np.asarray(class_pixels, np.float64), np.asarray(image_pixels, np.float64)
    if pixels.shape != totals.shape or pixels.ndim != 1:
        raise RequestError(f"class_pixels {pixels.shape} and image_pixels {totals.shape} must both be (K,).")
    if np.any(pixels > totals):
        raise RequestError(
            f"class {int(np.argmax(pixels > totals))} has more pixels than the images it occurs in; "
            "image_pixels counts all pixels of those images."
        )
    weights, occurs = np.ones_like(pixels), pixels > 0
    if occurs.any():
        frequencies = pixels[occurs] / totals[occurs]
        weights[occurs] = (np.median(frequencies) / frequencies) ** power
    return weights


class SoftCounts(NamedTuple):
    """Sums over the pixels that are not ignored, each times the weight of its pixel: a soft confusion matrix."""

    surprise: Tensor
    """(K,) of -log p(true class), by true class."""
    hit: Tensor
    """(K,) of p(true class), by true class."""
    predicted: Tensor
    """(K,) of p of each class."""
    true: Tensor
    """(K,) of 1, by true class."""
    pixels: Tensor
    """() number of these pixels, without weights."""


def _cross_entropy(counts: SoftCounts, class_weights: Tensor | None) -> Tensor:
    return _weighted(counts.surprise, class_weights).sum() / counts.pixels.clamp(min=1)


def _dice(counts: SoftCounts, class_weights: Tensor | None) -> Tensor:
    occurs = counts.true > 0
    size = torch.where(occurs, counts.predicted + counts.true, 1)
    losses = torch.where(occurs, 1 - 2 * counts.hit / size, 0)
    return _weighted(losses, class_weights).sum() / occurs.sum().clamp(min=1)


def _soft_counts(logits: Tensor, labels: Tensor, ignore_label: int, pixel_weights: Tensor | None) -> SoftCounts:
    classes = labels.long()
    valid = classes != ignore_label
    classes = classes.masked_fill(~valid, 0)
    weights = valid.to(torch.promote_types(logits.dtype, torch.float32))
    if pixel_weights is not None:
        weights = weights * pixel_weights.to(weights)
    surprise, hit, predicted, true = _SoftCounts.apply(logits, classes.unsqueeze(1), weights.unsqueeze(1))
    return SoftCounts(surprise, hit, predicted, true, pixels=valid.sum())


class _SoftCounts(torch.autograd.Function):
    """``SoftCounts`` with its gradient in closed form, block by block.

    With g the gradients of the sums, y the true class and w the weight of a pixel, the chain rule
    through the softmax is ``w * (p_c * (gP_c - r) + [c = y] * t)``, where ``t = gH_y * p_y - gS_y``
    and ``r = t + sum_k gP_k * p_k``.

    Only the logits are kept and the softmax is taken again on the way back: blocks stay in the
    cache, and no array of the size of the logits is ever allocated but their gradient, which has
    their dtype and memory format.
    """

    @staticmethod
    def forward(ctx: Any, logits: Tensor, classes: Tensor, weights: Tensor) -> tuple[Tensor, ...]:
        ctx.save_for_backward(logits, classes, weights)
        surprise, hit, predicted, true = (weights.new_zeros(logits.shape[1]) for _ in range(4))
        for scores, labels, weight in _blocks(logits, classes, weights):
            log_p = F.log_softmax(scores.to(weight.dtype).contiguous(), dim=0)
            log_p_true = log_p.gather(0, labels)
            _add_by_class(surprise, labels, -log_p_true * weight)
            _add_by_class(hit, labels, log_p_true.exp() * weight)
            _add_by_class(true, labels, weight)
            predicted += log_p.exp_().mul_(weight).sum((1, 2))
        ctx.mark_non_differentiable(true)
        return surprise, hit, predicted, true

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, surprise: Tensor, hit: Tensor, predicted: Tensor, _: Tensor) -> tuple[Tensor, None, None]:
        logits, classes, weights = ctx.saved_tensors
        of_class = predicted.view(-1, 1, 1)
        gradient = torch.empty_like(logits)
        for scores, labels, weight, out in _blocks(logits, classes, weights, gradient):
            p = F.softmax(scores.to(weight.dtype).contiguous(), dim=0)
            of_true = _at(labels, hit) * p.gather(0, labels) - _at(labels, surprise)
            rest = of_true + (p * of_class).sum(0, keepdim=True)
            p.mul_(of_class - rest).scatter_add_(0, labels, of_true)
            out.copy_(p.mul_(weight))
        return gradient, None, None


def _blocks(*tensors: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """Cut (B, ?, H, W) tensors alike into (?, rows, W): small enough for a CPU's cache, whole images elsewhere."""
    height, width = tensors[0].shape[2:]
    rows = max(1, _CACHED_PIXELS // width) if tensors[0].is_cpu else height
    for image in zip(*tensors, strict=True):
        yield from zip(*(part.split(rows, dim=1) for part in image), strict=True)


def _at(classes: Tensor, values: Tensor) -> Tensor:
    """``values[classes]``, which takes several times as long on a CPU."""
    return values.index_select(0, classes.flatten()).view_as(classes)


def _add_by_class(sums: Tensor, classes: Tensor, values: Tensor) -> None:
    sums.scatter_add_(0, classes.flatten(), values.flatten())


def _weighted(losses: Tensor, class_weights: Tensor | None) -> Tensor:
    return losses if class_weights is None else losses * class_weights.to(losses)


def _check_shapes(logits: Tensor, labels: Tensor, class_weights: Tensor | None, pixel_weights: Tensor | None) -> None:
    if logits.ndim != 4 or not logits.is_floating_point():
        raise RequestError(f"logits must be (B, K, H, W) and floating, not {tuple(logits.shape)} {logits.dtype}.")
    batch, num_classes, *size = logits.shape
    expected = (batch, *size)
    if labels.shape != expected:
        raise RequestError(f"labels must be (B, H, W) = {expected} to go with the logits, not {tuple(labels.shape)}.")
    if class_weights is not None and class_weights.shape != (num_classes,):
        raise RequestError(f"class_weights must be (K,) = ({num_classes},), not {tuple(class_weights.shape)}.")
    if pixel_weights is not None and pixel_weights.shape != expected:
        raise RequestError(f"pixel_weights must be (B, H, W) = {expected}, not {tuple(pixel_weights.shape)}.")
