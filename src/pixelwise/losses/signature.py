"""The signature of all losses, and the checks of their arguments."""

from typing import Protocol

from torch import Tensor

from pixelwise.errors import InvalidArgumentError


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


def apply_class_weights(losses: Tensor, class_weights: Tensor | None) -> Tensor:
    """Multiply the losses (K,) of the classes by their weights."""
    return losses if class_weights is None else losses * class_weights.to(losses)


def check_shapes(logits: Tensor, labels: Tensor, class_weights: Tensor | None, pixel_weights: Tensor | None) -> None:
    """Raise InvalidArgumentError unless the four tensors match."""
    if logits.ndim != 4 or not logits.is_floating_point():
        raise InvalidArgumentError(f"logits must be (B, K, H, W) of floats, not {tuple(logits.shape)} {logits.dtype}.")
    batch, num_classes, *size = logits.shape
    expected = (batch, *size)
    if labels.shape != expected:
        raise InvalidArgumentError(f"labels must be (B, H, W) = {expected} like the logits, not {tuple(labels.shape)}.")
    if class_weights is not None and class_weights.shape != (num_classes,):
        raise InvalidArgumentError(f"class_weights must be (K,) = ({num_classes},), not {tuple(class_weights.shape)}.")
    if pixel_weights is not None and pixel_weights.shape != expected:
        raise InvalidArgumentError(f"pixel_weights must be (B, H, W) = {expected}, not {tuple(pixel_weights.shape)}.")
