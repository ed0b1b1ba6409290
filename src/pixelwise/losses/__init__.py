"""Losses per pixel with one signature, and class weights.

    loss(logits, labels, *, ignore_index, class_weights=None, pixel_weights=None) -> scalar tensor

- ``logits``: (B, K, H, W), any floating dtype. The arithmetic is float32 (float64 for float64 logits), also under
  autocast.
- ``labels``: (B, H, W), any integer dtype: 0..K-1, or ``ignore_index``, where the loss and its gradient are 0.
- ``class_weights``: (K,), one factor per class. ``pixel_weights``: (B, H, W), one factor per pixel, not negative.

Weights multiply the loss, and the loss is not divided by their sum: twice the weights give twice the loss, as in the
Caffe of FCN and SegNet. PyTorch's ``CrossEntropyLoss(weight=...)`` divides by the sum, so that the effective learning
rate depends on the weights: with SegNet's weights on CamVid by a factor of 1.96. Losses are divided by the number of
pixels that are not ignored. Without such a pixel, the loss and the gradients are 0. With several ranks, the training
multiplies the loss of each rank by its number of such pixels × ranks / the number over all ranks.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from types import MappingProxyType
from typing import Any, Protocol

from torch import Tensor

from pixelwise.arguments import check_arguments
from pixelwise.config import LossConfig
from pixelwise.import_paths import load_import_path
from pixelwise.losses.class_weights import inverse_log_weights, median_frequency_weights
from pixelwise.losses.confusion_based import cross_entropy, cross_entropy_and_dice, dice, focal, tversky
from pixelwise.losses.lovasz_softmax import lovasz

__all__ = [
    "LOSSES",
    "Loss",
    "build_loss",
    "cross_entropy",
    "cross_entropy_and_dice",
    "dice",
    "focal",
    "inverse_log_weights",
    "lovasz",
    "median_frequency_weights",
    "tversky",
]


class Loss(Protocol):
    """The signature of every loss in `LOSSES`, and of a user's own loss.

    Args:
        logits: (B, K, H, W) of any floating dtype.
        labels: (B, H, W) of any integer dtype, with classes 0..K-1 or `ignore_index`.
        ignore_index: Label of the pixels to ignore; their loss and gradient are 0.
        class_weights: (K,) factor of each class, or None for 1.
        pixel_weights: (B, H, W) factor of each pixel, not negative, or None for 1.

    Returns:
        The loss as a scalar tensor, float32 (float64 for float64 logits).

    Raises:
        InvalidArgumentError: The shapes do not match, or `logits` are not floating point.

    Example:
        >>> import torch
        >>> from pixelwise.losses import LOSSES, Loss
        >>> loss: Loss = LOSSES["dice"]
        >>> loss(torch.zeros(1, 2, 4, 4), torch.zeros(1, 4, 4, dtype=torch.uint8), ignore_index=255)
        tensor(0.3333)
    """

    def __call__(
        self,
        logits: Tensor,
        labels: Tensor,
        *,
        ignore_index: int,
        class_weights: Tensor | None = None,
        pixel_weights: Tensor | None = None,
    ) -> Tensor: ...


LOSSES: Mapping[str, Loss] = MappingProxyType(
    {"cross_entropy": cross_entropy, "focal": focal, "dice": dice, "tversky": tversky, "lovasz": lovasz}
)
"""The names of `loss.name` in a config, and their functions."""


@check_arguments
def build_loss(config: LossConfig) -> Loss:
    """Build the loss of a config: the main loss plus the weighted Dice and Lovász terms.

    Args:
        config: The `loss` section of a config. Class weights are not applied here; they are an argument of the loss.

    Returns:
        A function with the signature of `Loss`.

    Raises:
        InvalidArgumentError: `config.function` cannot be imported.

    Example:
        >>> import torch
        >>> from pixelwise.config import LossConfig
        >>> from pixelwise.losses import build_loss
        >>> loss = build_loss(LossConfig(name="cross_entropy", dice_weight=1.0))
        >>> loss(torch.zeros(1, 2, 4, 4), torch.zeros(1, 4, 4, dtype=torch.uint8), ignore_index=255)
        tensor(1.0265)
    """
    if config.function is None and config.name == "cross_entropy" and config.dice_weight and not config.lovasz_weight:
        return partial(cross_entropy_and_dice, dice_weight=config.dice_weight)
    main = LOSSES[config.name]
    if config.function is not None:
        main = load_import_path(config.function, "loss.function")
    elif config.name == "focal":
        main = partial(focal, gamma=config.focal_gamma)
    elif config.name == "tversky":
        main = partial(tversky, beta=config.tversky_beta)
    extra = [(weight, loss) for weight, loss in ((config.dice_weight, dice), (config.lovasz_weight, lovasz)) if weight]
    return partial(_sum_losses, [(1.0, main), *extra]) if extra else main


def _sum_losses(terms: Sequence[tuple[float, Loss]], logits: Tensor, labels: Tensor, **arguments: Any) -> Tensor:
    losses = [weight * loss(logits, labels, **arguments) for weight, loss in terms]
    return sum(losses[1:], losses[0])
