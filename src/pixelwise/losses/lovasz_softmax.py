"""Lovász-Softmax, the mean IoU as a loss: Berman, Triki, Blaschko, CVPR 2018 (arXiv:1705.08790)."""

from typing import Any

import torch
from torch import Tensor

from pixelwise.losses.soft_confusion import prepare_labels


def lovasz(
    logits: Tensor,
    labels: Tensor,
    *,
    ignore_index: int,
    class_weights: Tensor | None = None,
    pixel_weights: Tensor | None = None,
) -> Tensor:
    """Compute the Lovász extension of one minus IoU, averaged over the classes in the labels of the batch.

    It equals one minus IoU where all probabilities are 0 or 1, and is piecewise linear in between. A class that is not
    in the labels does not contribute, as in `dice`; its false positives increase the loss of their true classes. The
    loss sorts all pixels once for each class in the labels, so it takes several times as long as the other losses.
    Berman, Triki, Blaschko, "The Lovász-Softmax loss", CVPR 2018 (arXiv:1705.08790).

    Args:
        logits: (B, K, H, W) of any floating dtype.
        labels: (B, H, W) of any integer dtype, with classes 0..K-1 or `ignore_index`.
        ignore_index: Label of the pixels to ignore.
        class_weights: (K,) factor of the contribution of each class to the mean, or None for 1.
        pixel_weights: (B, H, W) weights, not negative: a pixel of weight w counts as w pixels. None for 1.

    Returns:
        The loss as a scalar tensor, float32 (float64 for float64 logits), in [0, 1] without class weights.

    Raises:
        InvalidArgumentError: The shapes do not match, or `logits` are not floating point.

    Example:
        >>> import torch
        >>> from pixelwise.losses import lovasz
        >>> labels = torch.tensor([[[0, 1], [1, 0]]])
        >>> lovasz(torch.zeros(1, 2, 2, 2), labels, ignore_index=255)
        tensor(0.5000)
    """
    classes, valid, weights = prepare_labels(logits, labels, ignore_index, class_weights, pixel_weights)
    shares = weights.new_ones(logits.shape[1]) if class_weights is None else class_weights.to(weights)
    loss: Tensor = _Lovasz.apply(logits, classes, weights, valid, shares)[0]
    return loss


class _Lovasz(torch.autograd.Function):
    """The loss with its gradient: the loss is linear in the sorted errors, so both are known together."""

    @staticmethod
    def forward(
        logits: Tensor, classes: Tensor, weights: Tensor, valid: Tensor, shares: Tensor
    ) -> tuple[Tensor, Tensor]:
        scores = logits.movedim(1, 0)[:, valid].to(weights.dtype)  # (K, N)
        p, truth, weight = scores.softmax(0), classes[valid], weights[valid]
        slopes, loss = torch.zeros_like(p), weights.new_zeros(())
        occurring = torch.unique(truth[weight > 0]).tolist()
        count = max(len(occurring), 1)
        for c in occurring:
            loss += shares[c] * _compute_class_loss(p[c], truth == c, weight, slopes[c])
            slopes[c] *= shares[c]
        slopes = p * (slopes - (slopes * p).sum(0)) / count  # through the softmax
        gradient = torch.zeros_like(logits)
        gradient.movedim(1, 0)[:, valid] = slopes.to(logits.dtype)
        return loss / count, gradient

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, ...], output: tuple[Tensor, Tensor]) -> None:
        ctx.mark_non_differentiable(output[1])
        ctx.save_for_backward(output[1])
        ctx.save_for_forward(output[1])

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, outer: Tensor, _: Tensor) -> tuple[Tensor, None, None, None, None]:
        (gradient,) = ctx.saved_tensors
        return gradient * outer.to(gradient.dtype), None, None, None, None

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor, *_: None) -> tuple[Tensor, None]:
        (gradient,) = ctx.saved_tensors
        return (gradient * tangent).sum(dtype=torch.promote_types(gradient.dtype, torch.float32)), None

    @staticmethod
    def vmap(info: Any, dims: tuple[int | None, ...], *inputs: Tensor) -> tuple[tuple[Tensor, ...], tuple[int, int]]:
        """Compute one after the other: the classes that occur differ."""
        pairs = zip(inputs, dims, strict=True)
        batched = [x.expand(info.batch_size, *x.shape) if dim is None else x.movedim(dim, 0) for x, dim in pairs]
        results = [_Lovasz.apply(*each) for each in zip(*batched, strict=True)]
        return tuple(map(torch.stack, zip(*results, strict=True))), (0, 0)


def _compute_class_loss(p: Tensor, is_class: Tensor, weight: Tensor, slope: Tensor) -> Tensor:
    """Return the loss of one class, and write its derivative with respect to `p` (N,) to `slope` (N,)."""
    errors, order = torch.where(is_class, 1 - p, p).sort(descending=True, stable=True)
    steps = compute_jaccard_steps(is_class[order], weight[order])
    slope[order] = torch.where(is_class[order], -steps, steps)
    return (errors * steps).sum()  # not a dot product, which autocast computes in bfloat16


def compute_jaccard_steps(is_class: Tensor, weight: Tensor) -> Tensor:
    """Return the increase of one minus IoU for each pixel that becomes wrong, in order.

    With pixels 0..i wrong, the intersection is the remaining pixels of the class, and the union is the class and all
    wrong pixels of other classes. Example: three equal pixels, the first two of the class. The first error leaves 1 of
    2, the second 0 of 2, so the steps are 1/2, 1/2 and 0.

    Args:
        is_class: (N,) bool, whether the pixel is of the class, in the order of decreasing error.
        weight: (N,) weight of each pixel.

    Returns:
        (N,) steps, which sum to 1 where the class has pixels.
    """
    inside = weight * is_class
    total = inside.sum()
    intersection = total - inside.cumsum(0)
    union = total + (weight - inside).cumsum(0)
    loss = 1 - intersection / union
    return torch.diff(loss, prepend=loss.new_zeros(1))
