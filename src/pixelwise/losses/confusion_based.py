"""Losses that are formulas on one soft confusion matrix: cross-entropy, focal, Dice and Tversky."""

import torch
from torch import Tensor

from pixelwise.losses.soft_confusion import SoftConfusion, compute_soft_confusion
from pixelwise.tensors import FRACTION, NON_NEGATIVE, check_number


def cross_entropy(
    logits: Tensor,
    labels: Tensor,
    *,
    ignore_index: int,
    class_weights: Tensor | None = None,
    pixel_weights: Tensor | None = None,
) -> Tensor:
    """Compute the mean of ``-w_class * w_pixel * log p(true class)`` over the pixels that are not ignored, in nats.

    The loss of FCN (Long, Shelhamer, Darrell, CVPR 2015) and SegNet (Badrinarayanan, Kendall, Cipolla, PAMI 2017).

    Args:
        logits: (B, K, H, W) of any floating dtype.
        labels: (B, H, W) of any integer dtype, with classes 0..K-1 or `ignore_index`.
        ignore_index: Label of the pixels to ignore.
        class_weights: (K,) factor of each class, or None for 1.
        pixel_weights: (B, H, W) factor of each pixel, not negative, or None for 1.

    Returns:
        The loss as a scalar tensor, float32 (float64 for float64 logits), at least 0.

    Raises:
        InvalidArgumentError: The shapes do not match, or `logits` are not floating point.

    Example:
        >>> import torch
        >>> from pixelwise.losses import cross_entropy
        >>> labels = torch.tensor([[[0, 1], [1, 255]]])
        >>> cross_entropy(torch.zeros(1, 2, 2, 2), labels, ignore_index=255)  # log 2
        tensor(0.6931)
    """
    confusion = compute_soft_confusion(logits, labels, ignore_index, class_weights, pixel_weights)
    return _average_pixels(confusion, class_weights)


def focal(
    logits: Tensor,
    labels: Tensor,
    *,
    ignore_index: int,
    class_weights: Tensor | None = None,
    pixel_weights: Tensor | None = None,
    gamma: float = 2.0,
) -> Tensor:
    """Compute the cross-entropy with each pixel multiplied by ``(1 - p(true class)) ** gamma``.

    Pixels that are already correct contribute little, and do not dominate the difficult ones by their number. The alpha
    of the paper is `class_weights`. Gamma 0 gives the cross-entropy. Lin, Goyal, Girshick, He, Dollár, "Focal Loss for
    Dense Object Detection", ICCV 2017 (arXiv:1708.02002).

    Args:
        logits: (B, K, H, W) of any floating dtype.
        labels: (B, H, W) of any integer dtype, with classes 0..K-1 or `ignore_index`.
        ignore_index: Label of the pixels to ignore.
        class_weights: (K,) factor of each class, or None for 1.
        pixel_weights: (B, H, W) factor of each pixel, not negative, or None for 1.
        gamma: Exponent, at least 0.

    Returns:
        The loss as a scalar tensor, float32 (float64 for float64 logits), at least 0.

    Raises:
        InvalidArgumentError: The shapes do not match, `logits` are not floating point, or `gamma` is below 0.

    Example:
        >>> import torch
        >>> from pixelwise.losses import focal
        >>> labels = torch.tensor([[[0, 1], [1, 255]]])
        >>> focal(torch.zeros(1, 2, 2, 2), labels, ignore_index=255)  # 0.5² · log 2
        tensor(0.1733)
    """
    gamma = check_number("gamma", gamma, NON_NEGATIVE)
    confusion = compute_soft_confusion(logits, labels, ignore_index, class_weights, pixel_weights, gamma)
    return _average_pixels(confusion, class_weights)


def dice(
    logits: Tensor,
    labels: Tensor,
    *,
    ignore_index: int,
    class_weights: Tensor | None = None,
    pixel_weights: Tensor | None = None,
) -> Tensor:
    """Compute one minus soft Dice, averaged over the classes in the labels of the batch.

    Soft Dice of class c is ``2 sum(p_c y_c) / sum(p_c + y_c)``, with sums over all pixels of the batch that are not
    ignored: V-Net (Milletari, Navab, Ahmadi, 3DV 2016, arXiv:1606.04797) without the squares, over the batch as in
    nnU-Net. `pixel_weights` multiply the summands, `class_weights` the contribution of each class to the mean.

    A class that is not in the labels does not contribute: its Dice is the constant 0, without a gradient. Its false
    positives still increase the loss, because they reduce the probability, and so the Dice, of the true class of their
    pixels. Background is a class like the others here, so an image of background only still has a gradient.

    Args:
        logits: (B, K, H, W) of any floating dtype.
        labels: (B, H, W) of any integer dtype, with classes 0..K-1 or `ignore_index`.
        ignore_index: Label of the pixels to ignore.
        class_weights: (K,) factor of each class, or None for 1.
        pixel_weights: (B, H, W) factor of each pixel, not negative, or None for 1.

    Returns:
        The loss as a scalar tensor, float32 (float64 for float64 logits), in [0, 1] without class weights.

    Raises:
        InvalidArgumentError: The shapes do not match, or `logits` are not floating point.

    Example:
        >>> import torch
        >>> from pixelwise.losses import dice
        >>> labels = torch.tensor([[[0, 1], [1, 0]]])
        >>> dice(torch.zeros(1, 2, 2, 2), labels, ignore_index=255)
        tensor(0.5000)
    """
    confusion = compute_soft_confusion(logits, labels, ignore_index, class_weights, pixel_weights)
    return _average_overlaps(confusion, class_weights, beta=0.5)


def tversky(
    logits: Tensor,
    labels: Tensor,
    *,
    ignore_index: int,
    class_weights: Tensor | None = None,
    pixel_weights: Tensor | None = None,
    beta: float = 0.7,
) -> Tensor:
    """Compute one minus the soft Tversky index, averaged over the classes in the labels of the batch.

    The index of class c is ``TP / (TP + (1 - beta) * FP + beta * FN)`` with sums of probabilities over the batch.
    Above 0.5, false negatives count more than false positives, for classes with few pixels. The paper found 0.7 best;
    0.5 gives `dice`, whose rules for weights and absent classes apply here, too. Salehi, Erdogmus, Gholipour, "Tversky
    Loss Function for Image Segmentation Using 3D Fully Convolutional Deep Networks", MLMI 2017 (arXiv:1706.05721).

    Args:
        logits: (B, K, H, W) of any floating dtype.
        labels: (B, H, W) of any integer dtype, with classes 0..K-1 or `ignore_index`.
        ignore_index: Label of the pixels to ignore.
        class_weights: (K,) factor of each class, or None for 1.
        pixel_weights: (B, H, W) factor of each pixel, not negative, or None for 1.
        beta: Weight of the false negatives, in [0, 1].

    Returns:
        The loss as a scalar tensor, float32 (float64 for float64 logits), in [0, 1] without class weights.

    Raises:
        InvalidArgumentError: The shapes do not match, `logits` are not floating point, or `beta` is not in [0, 1].

    Example:
        >>> import torch
        >>> from pixelwise.losses import tversky
        >>> labels = torch.tensor([[[0, 1], [1, 0]]])
        >>> tversky(torch.zeros(1, 2, 2, 2), labels, ignore_index=255, beta=0.7)
        tensor(0.5000)
    """
    beta = check_number("beta", beta, FRACTION)
    confusion = compute_soft_confusion(logits, labels, ignore_index, class_weights, pixel_weights)
    return _average_overlaps(confusion, class_weights, beta)


def cross_entropy_and_dice(
    logits: Tensor,
    labels: Tensor,
    *,
    ignore_index: int,
    class_weights: Tensor | None = None,
    pixel_weights: Tensor | None = None,
    dice_weight: float = 1.0,
) -> Tensor:
    """Compute ``cross_entropy + dice_weight * dice`` with one softmax and one gradient.

    The sum is the loss of nnU-Net: Isensee et al., Nature Methods 2021 (arXiv:1904.08128).

    Args:
        logits: (B, K, H, W) of any floating dtype.
        labels: (B, H, W) of any integer dtype, with classes 0..K-1 or `ignore_index`.
        ignore_index: Label of the pixels to ignore.
        class_weights: (K,) factor of each class, or None for 1.
        pixel_weights: (B, H, W) factor of each pixel, not negative, or None for 1.
        dice_weight: Factor of the Dice term, at least 0.

    Returns:
        The loss as a scalar tensor, float32 (float64 for float64 logits).

    Raises:
        InvalidArgumentError: The shapes do not match, or `logits` are not floating point.

    Example:
        >>> import torch
        >>> from pixelwise.losses import cross_entropy_and_dice
        >>> labels = torch.tensor([[[0, 1], [1, 0]]])
        >>> cross_entropy_and_dice(torch.zeros(1, 2, 2, 2), labels, ignore_index=255)  # log 2 + 0.5
        tensor(1.1931)
    """
    dice_weight = check_number("dice_weight", dice_weight, NON_NEGATIVE)
    confusion = compute_soft_confusion(logits, labels, ignore_index, class_weights, pixel_weights)
    overlap = _average_overlaps(confusion, class_weights, beta=0.5)
    return _average_pixels(confusion, class_weights) + dice_weight * overlap


def _apply_class_weights(losses: Tensor, class_weights: Tensor | None) -> Tensor:
    """Multiply the losses (K,) of the classes by their weights."""
    return losses if class_weights is None else losses * class_weights.to(losses)


def _average_pixels(confusion: SoftConfusion, class_weights: Tensor | None) -> Tensor:
    return _apply_class_weights(confusion.cross_entropy, class_weights).sum() / confusion.num_pixels.clamp(min=1)


def _average_overlaps(confusion: SoftConfusion, class_weights: Tensor | None, beta: float) -> Tensor:
    occurs = confusion.true > 0
    # TP + (1 - beta) * FP + beta * FN, with FP = predicted - TP and FN = true - TP
    size = torch.where(occurs, (1 - beta) * confusion.predicted + beta * confusion.true, 1)
    losses = torch.where(occurs, 1 - confusion.true_positive / size, 0)
    return _apply_class_weights(losses, class_weights).sum() / occurs.sum().clamp(min=1)
