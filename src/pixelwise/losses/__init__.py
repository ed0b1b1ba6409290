"""Losses per pixel by one table, all with one signature, and class weights.

    loss(logits, labels, *, ignore_index, class_weights=None, pixel_weights=None) -> scalar tensor

- ``logits``: (B, K, H, W), any floating dtype. The arithmetic is float32 (float64 stays float64),
  also under autocast.
- ``labels``: (B, H, W), any integer dtype: 0..K-1, or ``ignore_index``, where the loss and its
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

from collections.abc import Mapping, Sequence
from functools import partial
from types import MappingProxyType

from torch import Tensor

from pixelwise.config import LossConfig
from pixelwise.losses.class_weights import inverse_log_weights, median_frequency_weights
from pixelwise.losses.confusion_based import cross_entropy, cross_entropy_and_dice, dice, focal, tversky
from pixelwise.losses.lovasz_softmax import lovasz
from pixelwise.losses.signature import Loss

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

LOSSES: Mapping[str, Loss] = MappingProxyType(
    {
        "cross_entropy": cross_entropy,
        "focal": focal,
        "dice": dice,
        "tversky": tversky,
        "lovasz": lovasz,
    }
)
"""The names of `loss.name` in a config."""


def build_loss(config: LossConfig) -> Loss:
    """The loss that a config names, and the terms beside it."""
    if config.name == "cross_entropy" and config.dice_weight and not config.lovasz_weight:
        return partial(cross_entropy_and_dice, dice_weight=config.dice_weight)
    main = LOSSES[config.name]
    if config.name == "focal":
        main = partial(focal, gamma=config.focal_gamma)
    elif config.name == "tversky":
        main = partial(tversky, beta=config.tversky_beta)
    beside = [(weight, loss) for weight, loss in ((config.dice_weight, dice), (config.lovasz_weight, lovasz)) if weight]
    return partial(_sum, [(1.0, main), *beside]) if beside else main


def _sum(
    terms: Sequence[tuple[float, Loss]],
    logits: Tensor,
    labels: Tensor,
    *,
    ignore_index: int,
    class_weights: Tensor | None = None,
    pixel_weights: Tensor | None = None,
) -> Tensor:
    losses = [
        weight
        * loss(logits, labels, ignore_index=ignore_index, class_weights=class_weights, pixel_weights=pixel_weights)
        for weight, loss in terms
    ]
    return sum(losses[1:], losses[0])
