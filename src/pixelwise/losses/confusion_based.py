"""Losses that are formulas on one soft confusion matrix: cross-entropy, focal, Dice and Tversky."""

import torch
from torch import Tensor

from pixelwise.losses.signature import check_shapes, require, weighted
from pixelwise.losses.soft_confusion import SoftCounts, soft_counts


def cross_entropy(
    logits: Tensor,
    labels: Tensor,
    *,
    ignore_index: int,
    class_weights: Tensor | None = None,
    pixel_weights: Tensor | None = None,
) -> Tensor:
    """Mean over the pixels that are not ignored of ``-w_class * w_pixel * log p(true class)``, in nats."""
    return focal(
        logits,
        labels,
        ignore_index=ignore_index,
        class_weights=class_weights,
        pixel_weights=pixel_weights,
        gamma=0.0,
    )


def focal(
    logits: Tensor,
    labels: Tensor,
    *,
    ignore_index: int,
    class_weights: Tensor | None = None,
    pixel_weights: Tensor | None = None,
    gamma: float = 2.0,
) -> Tensor:
    """Cross-entropy, each pixel times ``(1 - p(true class)) ** gamma`` (Lin et al., ICCV 2017).

    Pixels that are right already count little, so that the many easy ones do not drown the few hard
    ones. The ``alpha`` of the paper are the ``class_weights``. With gamma 0 it is the cross-entropy.

    Raises InvalidArgumentError for a gamma below 0.
    """
    check_shapes(logits, labels, class_weights, pixel_weights)
    require(gamma >= 0, "gamma", gamma, ">= 0")
    return _per_pixel(soft_counts(logits, labels, ignore_index, pixel_weights, gamma), class_weights)


def dice(
    logits: Tensor,
    labels: Tensor,
    *,
    ignore_index: int,
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
    check_shapes(logits, labels, class_weights, pixel_weights)
    return _overlap(soft_counts(logits, labels, ignore_index, pixel_weights), class_weights, beta=0.5)


def tversky(
    logits: Tensor,
    labels: Tensor,
    *,
    ignore_index: int,
    class_weights: Tensor | None = None,
    pixel_weights: Tensor | None = None,
    beta: float = 0.7,
) -> Tensor:
    """One minus the soft Tversky index, averaged over the classes that occur (Salehi et al., MLMI 2017).

    The index of class c is ``hit / (hit + (1 - beta) * false alarms + beta * missed)``, the three
    as sums of probabilities over the batch. Above 0.5, what is missed costs more than what is seen
    too much, for classes of few pixels; the paper found 0.7 best. With 0.5 it is ``dice``, whose words
    on weights and absent classes hold here too.

    Raises InvalidArgumentError for a beta outside [0, 1].
    """
    check_shapes(logits, labels, class_weights, pixel_weights)
    require(0 <= beta <= 1, "beta", beta, "0 <= x <= 1")
    return _overlap(soft_counts(logits, labels, ignore_index, pixel_weights), class_weights, beta)


def cross_entropy_and_dice(
    logits: Tensor,
    labels: Tensor,
    *,
    ignore_index: int,
    class_weights: Tensor | None = None,
    pixel_weights: Tensor | None = None,
    dice_weight: float = 1.0,
) -> Tensor:
    """``cross_entropy + dice_weight * dice``, from one softmax and one gradient."""
    check_shapes(logits, labels, class_weights, pixel_weights)
    counts = soft_counts(logits, labels, ignore_index, pixel_weights)
    return _per_pixel(counts, class_weights) + dice_weight * _overlap(counts, class_weights, beta=0.5)


def _per_pixel(counts: SoftCounts, class_weights: Tensor | None) -> Tensor:
    return weighted(counts.surprise, class_weights).sum() / counts.pixels.clamp(min=1)


def _overlap(counts: SoftCounts, class_weights: Tensor | None, beta: float) -> Tensor:
    occurs = counts.true > 0
    # hit + (1 - beta) * (predicted - hit) + beta * (true - hit)
    size = torch.where(occurs, (1 - beta) * counts.predicted + beta * counts.true, 1)
    losses = torch.where(occurs, 1 - counts.hit / size, 0)
    return weighted(losses, class_weights).sum() / occurs.sum().clamp(min=1)
