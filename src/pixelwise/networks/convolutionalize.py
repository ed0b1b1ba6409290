"""A trained classifier turned into a fully convolutional network, its weights kept: Long, Shelhamer,
Darrell, "Fully Convolutional Networks for Semantic Segmentation", CVPR 2015, section 3.1. A fully
connected layer is a convolution whose kernel covers all of the map that it sees.

The result is compared with the classifier before it is returned.
"""

import copy
import itertools
from collections.abc import Sequence

import torch
from torch import Tensor, fx, nn
from torch.nn import functional

from pixelwise.errors import InvalidArgumentError
from pixelwise.networks.classifier_head import (
    Head,
    acts_at_each_position,
    does_nothing,
    doubled,
    find_head,
    noise,
    refuse,
    sources_of,
    trace_classifier,
    weights_of,
)
from pixelwise.shapes import Size

TOLERANCE = 1e-4
"""Largest difference of logits, relative to the largest logit: float32 sums in another order."""


class ChannelNorm(nn.LayerNorm):
    """Layer normalization over the channels of (B, C, H, W), at each position by itself."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.movedim(1, -1)).movedim(-1, 1)


def convolutionalize(classifier: nn.Module, *, input_size: int = 224) -> nn.Module:
    """The same network with its fully connected layers as convolutions, weights and names kept.

    There are two exact forms:

    - An average over the whole map, then one linear layer or none: the pool is left out and the
      linear layer is a 1x1 convolution on the fine map. At any input size, the mean of the result
      over its positions is the classifier's logits.
    - Anything else around the pool (the 7x7 map that fc6 of VGG sees; a norm, an activation or
      several layers after the pool): the pool becomes an average over the window that it has at the
      native input size, with stride 1, and what follows acts at each position. The result is 1x1 at
      the native size, and the classifier slid over the map beyond.

    Args:
        classifier: maps (B, C, H, W) float32 to logits (B, K). It is copied, not changed.
        input_size: side in pixels of the images it was made for; it decides the windows of the
            second form.

    Returns (B, C, H, W) float32 → (B, K, h, w), in evaluation mode. Parts of the classifier that
    serve only its training, such as auxiliary outputs, are left out; it can be trained further.
    Raises InvalidArgumentError where the classifier cannot be converted, with the reason.
    """
    device = weights_of(classifier).device
    # On the CPU: a GPU may round convolutions, and not linear layers, to TF32.
    network = copy.deepcopy(classifier).cpu().eval()
    images = noise(network, 1, _in_channels(network), input_size, input_size)
    with torch.no_grad():
        traced, logits = trace_classifier(network, images)
        _rewrite(traced, find_head(traced))
        _require_same(traced, images, logits)
    return traced.to(device)


def class_activation(network: nn.Module, image: Tensor, classes: Sequence[int]) -> Tensor:
    """Where a classifier sees each class: Zhou et al., "Learning Deep Features for Discriminative
    Localization", CVPR 2016.

    Args:
        network: what `convolutionalize` returns, in evaluation mode. Its first form gives the paper's
            class activation map, plus the class's bias.
        image: (1, C, H, W) float32, normalized as the network expects.
        classes: N class indices.

    Returns (N, H, W) float32 logits, brought to the image's size by bilinear interpolation.
    """
    if image.ndim != 4 or image.shape[0] != 1:
        raise InvalidArgumentError(f"class_activation takes one image (1, C, H, W), not {tuple(image.shape)}.")
    with torch.no_grad():
        maps: Tensor = network(image)
    wrong = [index for index in classes if not 0 <= index < maps.shape[1]]
    if wrong:
        raise InvalidArgumentError(f"class {wrong[0]} is not one of the network's classes 0 to {maps.shape[1] - 1}.")
    size = image.shape[2:]
    return functional.interpolate(maps[:, list(classes)], size, mode="bilinear", align_corners=False)[0]


def _in_channels(network: nn.Module) -> int:
    first = next((module for module in network.modules() if isinstance(module, nn.Conv2d)), None)
    if first is None:
        raise refuse("it has no convolution.")
    return first.in_channels


# The rewriting: first all that is needed, then the graph's change


def _rewrite(traced: fx.GraphModule, head: Head) -> None:
    """Puts convolutions in place of the linear layers, and a sliding average in place of the pool."""
    kernel = dilation = (1, 1)
    if head.pool and not _is_linear(traced, head):
        (rows, down), (columns, right) = (sliding_window(*pair) for pair in zip(head.before, head.after, strict=True))
        kernel, dilation = (rows, columns), (down, right)
    new_layers = _new_layers(traced, head, dilation)
    if kernel != (1, 1):
        _insert_average(traced, head.pool[0], kernel)
    dropped = [node for node, layer in new_layers.items() if layer is None]
    for node in (*head.pool, *head.flatten, *dropped):
        node.replace_all_uses_with(sources_of(node)[0])
        traced.graph.erase_node(node)
    for node, layer in new_layers.items():
        if layer is not None:
            traced.set_submodule(str(node.target), layer)
    traced.graph.eliminate_dead_code()
    traced.delete_all_unused_submodules()
    traced.recompile()
    traced.eval()


def _is_linear(traced: fx.GraphModule, head: Head) -> bool:
    """After a global pool comes one linear layer or none: it may be exchanged with the average."""
    layers = [node for node in (*head.on_map, *head.on_vector) if not does_nothing(traced, node)]
    linear = all(isinstance(_module(traced, node), nn.Linear | nn.Conv2d) for node in layers)
    return head.after == (1, 1) and len(layers) <= 1 and linear


def sliding_window(size: int, pooled: int) -> tuple[int, int]:
    """(length, step) of the windows by which adaptive pooling brings `size` to `pooled` values.

    >>> sliding_window(7, 1), sliding_window(14, 7), sliding_window(8, 7)
    ((7, 1), (2, 2), (2, 1))
    """
    starts = [i * size // pooled for i in range(pooled)]
    lengths = {-(-(i + 1) * size // pooled) - start for i, start in enumerate(starts)}
    steps = {b - a for a, b in itertools.pairwise(starts)} or {1}
    if len(lengths) > 1 or len(steps) > 1 or 0 in steps:
        raise refuse(
            f"its pool brings {size} rows or columns to {pooled} by windows of several lengths or steps; "
            f"choose an input_size that gives a multiple of {pooled}."
        )
    return lengths.pop(), steps.pop()


def _insert_average(traced: fx.GraphModule, pool: fx.Node, kernel: Size) -> None:
    (source,) = sources_of(pool)
    with traced.graph.inserting_before(pool):
        slide = traced.graph.call_function(functional.avg_pool2d, (source, kernel, 1))
    slide.meta = dict(source.meta)
    pool.replace_input_with(source, slide)


def _new_layers(traced: fx.GraphModule, head: Head, dilation: Size) -> dict[fx.Node, nn.Module | None]:
    """What takes the place of the layers that act on vectors: None for nothing. The others stay."""
    layers: dict[fx.Node, nn.Module | None] = {}
    window = head.after
    for node in head.on_vector:
        module = _module(traced, node)
        if isinstance(module, nn.Linear):
            layers[node] = _convolution(module, window, dilation)
            window = dilation = (1, 1)
        elif isinstance(module, nn.BatchNorm1d | nn.LayerNorm) and window == (1, 1):
            layers[node] = _norm(module)
        elif not acts_at_each_position(traced, node):
            if not does_nothing(traced, node):
                raise refuse(f"'{node.target}' after its pool does not act on each position by itself.")
            layers[node] = None
    if window != (1, 1):
        raise refuse(f"no linear layer takes the {window[0]}x{window[1]} map that it flattens.")
    return layers


def _module(traced: fx.GraphModule, node: fx.Node) -> nn.Module | None:
    return traced.get_submodule(str(node.target)) if node.op == "call_module" else None


def _convolution(linear: nn.Linear, window: Size, dilation: Size) -> nn.Conv2d:
    """The convolution with the linear layer's own weights: (O, C h w) seen as (O, C, h, w)."""
    channels = linear.in_features // (window[0] * window[1])
    bias = linear.bias is not None
    # On "meta": weights that are replaced at once need no memory and no random numbers.
    result = nn.Conv2d(channels, linear.out_features, window, dilation=dilation, bias=bias, device="meta")
    weight = linear.weight.detach().reshape(linear.out_features, channels, *window)
    result.weight = nn.Parameter(weight, requires_grad=linear.weight.requires_grad)
    if bias:
        result.bias = linear.bias
    return result


def _norm(norm: nn.BatchNorm1d | nn.LayerNorm) -> nn.Module:
    """The norm of vectors as one of maps, at each position."""
    result: nn.Module
    if isinstance(norm, nn.LayerNorm):
        result = ChannelNorm(norm.normalized_shape, eps=norm.eps, elementwise_affine=norm.elementwise_affine)
    else:
        settings = (norm.num_features, norm.eps, norm.momentum, norm.affine, norm.track_running_stats)
        result = nn.BatchNorm2d(*settings)
    # LayerNorm may have a weight and no bias: the parameters themselves, whichever there are.
    for name, value in (*norm.named_parameters(), *norm.named_buffers()):
        setattr(result, name, value)
    return result


def _require_same(traced: fx.GraphModule, images: Tensor, logits: Tensor) -> None:
    """The proof: the classifier's logits at the native size, and a wider map on a wider image."""
    maps = traced(images)
    difference = (maps.mean((2, 3)) - logits).abs().max()
    if not difference <= TOLERANCE * logits.abs().max():
        raise refuse(f"as convolutions its layers give logits that differ by {difference:.2g}.")
    try:
        # `forward`: calling the graph would print the code around an error.
        wider = traced.forward(doubled(images)).shape
    except Exception as error:  # a backbone that takes one size only may raise anything
        raise refuse(f"its backbone takes no other size than {tuple(images.shape[2:])} ({error}).") from error
    if wider[3] <= maps.shape[3]:
        raise refuse(
            f"on an image twice as wide its map is {wider[2]}x{wider[3]} instead of wider than "
            f"{maps.shape[2]}x{maps.shape[3]}: something fixes its size, or turns it."
        )
