"""The arguments of all losses, checked, and the soft confusion matrix of a batch with its gradient in closed form."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from pixelwise.arguments import describe_value
from pixelwise.errors import InvalidArgumentError
from pixelwise.ops.kernels import cpu
from pixelwise.tensors import (
    DTYPES,
    INTEGER_DTYPES,
    can_read_values,
    check_int,
    check_tensor,
    get_memory_format,
    is_transforming,
)

# 1.4 MB of float32 logits at 11 classes.
_CACHED_PIXELS = 2**15


class SoftConfusion(NamedTuple):
    """Sums over the pixels that are not ignored, with pixel weights: the margins of a soft confusion matrix."""

    cross_entropy: Tensor
    """(K,) sums of -(1 - p) ** gamma * log p, with p of the true class, by true class."""
    true_positive: Tensor
    """(K,) sums of p of the true class, by true class."""
    predicted: Tensor
    """(K,) sums of p of each class."""
    true: Tensor
    """(K,) sums of 1, by true class."""
    num_pixels: Tensor
    """() number of these pixels, without weights."""


def prepare_labels(
    logits: Tensor, labels: Tensor, ignore_index: int, class_weights: Tensor | None, pixel_weights: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the labels as int64, whether each pixel counts, and the weight of each pixel.

    All three are (B, H, W). Ignored pixels have label 0 and weight 0. Labels out of range are found on the CPU only:
    on a GPU the check would wait for all earlier work.

    Raises:
        InvalidArgumentError: The four tensors do not match, `logits` are not floating point, `labels` are not integers,
            or, on the CPU, a label is neither a class nor `ignore_index`.
    """
    check_tensor("logits", logits, "(B, K, H, W)", DTYPES)
    check_tensor("labels", labels, "(B, H, W)", INTEGER_DTYPES)
    check_int("ignore_index", ignore_index, low=None)
    batch, num_classes, *size = logits.shape
    pixels = (batch, *size)
    expected = {"labels": (labels, pixels, "(B, H, W)"), "class_weights": (class_weights, (num_classes,), "(K,)")}
    expected["pixel_weights"] = (pixel_weights, pixels, "(B, H, W)")
    for name, (given, shape, axes) in expected.items():
        if given is not None and name != "labels":
            check_tensor(name, given, axes, DTYPES)
        if given is not None and (given.shape != shape or given.device != logits.device):
            raise InvalidArgumentError(
                f"{name} is {describe_value(given)}, but must be {axes} = {shape} on {logits.device} like the logits."
            )
    valid = labels != ignore_index
    classes = labels.long().masked_fill(~valid, 0)
    if can_read_values(classes) and classes.numel():
        lowest, highest = (int(extreme) for extreme in classes.aminmax())
        if lowest < 0 or highest >= num_classes:
            raise InvalidArgumentError(
                f"labels has the value {lowest if lowest < 0 else highest}, but must be 0 to {num_classes - 1} for "
                f"{num_classes} classes, or ignore_index, which is {ignore_index}."
            )
    weights = valid.to(torch.promote_types(logits.dtype, torch.float32))
    return classes, valid, weights if pixel_weights is None else weights * pixel_weights.to(weights)


def compute_soft_confusion(
    logits: Tensor,
    labels: Tensor,
    ignore_index: int,
    class_weights: Tensor | None,
    pixel_weights: Tensor | None,
    gamma: float = 0.0,
) -> SoftConfusion:
    """Sum over all pixels of the batch; `gamma` reduces the cross-entropy of pixels that are already correct.

    The class weights are only checked here.
    """
    classes, valid, weights = prepare_labels(logits, labels, ignore_index, class_weights, pixel_weights)
    inputs = logits, classes.unsqueeze(1), weights.unsqueeze(1), gamma
    is_traced = is_transforming() or torch.compiler.is_compiling()
    function = _sum_differentiably if is_traced else _SoftConfusionFunction.apply
    cross_entropy, true_positive, predicted, true = function(*inputs)
    return SoftConfusion(cross_entropy, true_positive, predicted, true, valid.sum())


def _sum_differentiably(logits: Tensor, classes: Tensor, weights: Tensor, gamma: float) -> tuple[Tensor, ...]:
    """Compute the sums by operators that `torch.func` and graphs can take; this takes several times the memory."""
    log_p = F.log_softmax(logits.to(weights.dtype), dim=1)
    log_p_true = log_p.gather(1, classes)
    counted = weights * (classes == torch.arange(logits.shape[1], device=logits.device).view(-1, 1, 1))
    sums = (counted * compute_focal_cross_entropy(log_p_true, gamma), counted * log_p_true.exp(), weights * log_p.exp())
    return tuple(values.sum((0, 2, 3)) for values in (*sums, counted))


class _SoftConfusionFunction(torch.autograd.Function):
    """The sums of `SoftConfusion` with their gradient in closed form, block by block.

    Let gP, gH and gS be the gradients of predicted, true_positive and cross_entropy, y the true class and w the weight
    of a pixel. The chain rule through the softmax gives ``w * (p_c * (gP_c - r) + [c = y] * t)``, where
    ``t = gH_y * p_y + gS_y * s'``, ``s'`` is the derivative of the cross-entropy with respect to log p_y (-1 for
    gamma 0), and ``r = t + sum_k gP_k * p_k``.

    Only the logits are saved, and the backward pass computes the softmax again. Blocks fit into the cache, and no other
    array of the size of the logits is allocated than their gradient, which has their dtype and memory format. On the
    CPU, a compiled kernel reads float32 and bfloat16 logits once in each pass; float16 is converted for it.
    """

    @staticmethod
    def forward(ctx: Any, logits: Tensor, classes: Tensor, weights: Tensor, gamma: float) -> tuple[Tensor, ...]:
        ctx.gamma, ctx.dtype = gamma, logits.dtype
        can_read = all(map(can_read_values, (logits, classes, weights)))  # the labels were checked
        ctx.has_kernel = can_read and logits.dtype != torch.float64 and cpu.load_library() is not None
        if ctx.has_kernel:
            logits = logits.float() if logits.dtype == torch.float16 else logits
            logits = logits.contiguous(memory_format=get_memory_format(logits))
            classes, weights = classes.contiguous(), weights.contiguous()
            ctx.save_for_backward(logits, classes, weights)
            sums = weights.new_empty(4, logits.shape[1])
            cpu.soft_confusion(logits, classes, weights, gamma, sums)
            cross_entropy, true_positive, true, predicted = sums.unbind()
            ctx.mark_non_differentiable(true)
            return cross_entropy, true_positive, predicted, true
        ctx.save_for_backward(logits, classes, weights)
        cross_entropy, true_positive, predicted, true = (weights.new_zeros(logits.shape[1]) for _ in range(4))
        for scores, labels, weight in _split_blocks(logits, classes, weights):
            log_p = F.log_softmax(scores.to(weight.dtype).contiguous(), dim=0)
            log_p_true = log_p.gather(0, labels)
            _add_by_class(cross_entropy, labels, compute_focal_cross_entropy(log_p_true, gamma) * weight)
            _add_by_class(true_positive, labels, log_p_true.exp() * weight)
            _add_by_class(true, labels, weight)
            predicted += log_p.exp_().mul_(weight).sum((1, 2))
        ctx.mark_non_differentiable(true)
        return cross_entropy, true_positive, predicted, true

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(
        ctx: Any, cross_entropy: Tensor, true_positive: Tensor, predicted: Tensor, true: Tensor
    ) -> tuple[Tensor | None, ...]:
        logits, classes, weights = ctx.saved_tensors
        gradient = torch.empty_like(logits)
        if ctx.has_kernel:
            slopes = torch.stack([cross_entropy, true_positive, true, predicted])
            cpu.soft_confusion_backward(logits, classes, weights, ctx.gamma, slopes, gradient)
            return gradient.to(ctx.dtype), None, None, None
        of_class = predicted.view(-1, 1, 1)
        for scores, labels, weight, out in _split_blocks(logits, classes, weights, gradient):
            p = F.softmax(scores.to(weight.dtype).contiguous(), dim=0)
            p_true = p.gather(0, labels)
            slope = compute_focal_slope(p_true, ctx.gamma)
            of_true = _select(labels, true_positive) * p_true + _select(labels, cross_entropy) * slope
            rest = of_true + (p * of_class).sum(0, keepdim=True)
            p.mul_(of_class - rest).scatter_add_(0, labels, of_true)
            out.copy_(p.mul_(weight))
        return gradient, None, None, None


def compute_focal_cross_entropy(log_p: Tensor, gamma: float) -> Tensor:
    """Return ``-(1 - p) ** gamma * log p``."""
    return -log_p if gamma == 0 else -((-torch.expm1(log_p)) ** gamma) * log_p


def compute_focal_slope(p: Tensor, gamma: float) -> Tensor | float:
    """Return the derivative of `compute_focal_cross_entropy` with respect to log p."""
    if gamma == 0:
        return -1.0
    tiny = torch.finfo(p.dtype).tiny
    missing = (1 - p).clamp(min=tiny)  # 0 to a negative power, times log 1, would be NaN
    return gamma * missing ** (gamma - 1) * p * p.clamp(min=tiny).log() - missing**gamma


def _split_blocks(*tensors: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """Split (B, C, H, W) tensors into (C, rows, W): small enough for the cache of a CPU, whole images elsewhere."""
    height, width = tensors[0].shape[2:]
    rows = max(1, _CACHED_PIXELS // width) if tensors[0].is_cpu else height
    for image in zip(*tensors, strict=True):
        yield from zip(*(part.split(rows, dim=1) for part in image), strict=True)


def _select(classes: Tensor, values: Tensor) -> Tensor:
    """Return ``values[classes]``; indexing itself takes several times as long on a CPU."""
    return values.index_select(0, classes.flatten()).view_as(classes)


def _add_by_class(sums: Tensor, classes: Tensor, values: Tensor) -> None:
    sums.scatter_add_(0, classes.flatten(), values.flatten())
