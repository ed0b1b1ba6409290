"""What all losses have in common: the arguments, and what is wrong with them."""

from typing import Protocol

from torch import Tensor

from pixelwise.errors import InvalidArgumentError


class Loss(Protocol):
    """What every entry of ``LOSSES`` can be called with."""

    def __call__(
        self,
        logits: Tensor,
        labels: Tensor,
        *,
        ignore_index: int,
        class_weights: Tensor | None = None,
        pixel_weights: Tensor | None = None,
    ) -> Tensor: ...


def weighted(losses: Tensor, class_weights: Tensor | None) -> Tensor:
    return losses if class_weights is None else losses * class_weights.to(losses)


def check_shapes(logits: Tensor, labels: Tensor, class_weights: Tensor | None, pixel_weights: Tensor | None) -> None:
    if logits.ndim != 4 or not logits.is_floating_point():
        raise InvalidArgumentError(
            f"logits must be (B, K, H, W) and floating, not {tuple(logits.shape)} {logits.dtype}."
        )
    batch, num_classes, *size = logits.shape
    expected = (batch, *size)
    if labels.shape != expected:
        raise InvalidArgumentError(
            f"labels must be (B, H, W) = {expected} to go with the logits, not {tuple(labels.shape)}."
        )
    if class_weights is not None and class_weights.shape != (num_classes,):
        raise InvalidArgumentError(f"class_weights must be (K,) = ({num_classes},), not {tuple(class_weights.shape)}.")
    if pixel_weights is not None and pixel_weights.shape != expected:
        raise InvalidArgumentError(f"pixel_weights must be (B, H, W) = {expected}, not {tuple(pixel_weights.shape)}.")


def require(condition: bool, name: str, value: object, legal: str) -> None:
    """InvalidArgumentError for a number that no loss is defined for."""
    if not condition:
        raise InvalidArgumentError(f"{name} is {value!r}, but must be {legal}.")
