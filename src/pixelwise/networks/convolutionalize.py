"""Convert trained classifiers to fully convolutional networks.

A fully connected layer is a convolution whose kernel covers the whole map that it sees: Long, Shelhamer, Darrell,
"Fully Convolutional Networks for Semantic Segmentation", CVPR 2015, section 3.1.
"""

import copy
import itertools

import torch
from torch import Tensor, fx, nn
from torch.nn import functional

from pixelwise.networks.classifier_head import (
    Head,
    double_width,
    draw_normal,
    find_head,
    get_sources,
    get_weights,
    is_identity,
    is_pointwise,
    refuse,
    trace_classifier,
)
from pixelwise.shapes import Size

TOLERANCE = 1e-4
"""Largest difference of logits relative to the largest logit, because float32 sums have a different order."""


class ChannelNorm(nn.LayerNorm):
    """Layer normalization over the channels of (B, C, H, W), separately at each position."""

    def forward(self, x: Tensor) -> Tensor:
        """Return the normalized map."""
        return super().forward(x.movedim(1, -1)).movedim(-1, 1)


def convolutionalize(classifier: nn.Module, *, input_size: int = 224) -> nn.Module:
    """Convert a trained classifier to a fully convolutional network, with its weights and names.

    Long, Shelhamer, Darrell, "Fully Convolutional Networks for Semantic Segmentation", CVPR 2015, section 3.1. There
    are two exact forms:

    - For an average over the whole map and then at most one linear layer, the pool is removed and the linear layer
      becomes a 1x1 convolution on the fine map. At any input size, the mean of the result over its positions is the
      classifier's logits.
    - For all others (the 7x7 map that fc6 of VGG sees; a norm, an activation or several layers after the pool), the
      pool becomes an average over the window that it has at the native input size, with stride 1, and the layers after
      it act on each position. The result is 1x1 at the native size. On larger images it is the classifier evaluated at
      each window.

    The result is compared with the classifier before it is returned.

    Args:
        classifier: Maps (B, C, H, W) float32 to logits (B, K). It is copied, not changed.
        input_size: Side in pixels of the images that it was trained on; it determines the windows of the second form.

    Returns:
        A module (B, C, H, W) float32 → (B, K, h, w), in evaluation mode. Parts that only serve training, such as
        auxiliary outputs, are left out. It can be trained further.

    Raises:
        InvalidArgumentError: The classifier cannot be converted; the message has the reason.

    Example:
        >>> import torch, torchvision
        >>> from pixelwise.networks import convolutionalize
        >>> network = convolutionalize(torchvision.models.resnet18().eval())
        >>> network(torch.rand(1, 3, 256, 320)).shape
        torch.Size([1, 1000, 8, 10])
    """
    device = get_weights(classifier).device
    # On the CPU, because a GPU can round convolutions, but not linear layers, to TF32.
    network = copy.deepcopy(classifier).cpu().eval()
    images = draw_normal(network, 1, _get_in_channels(network), input_size, input_size)
    with torch.no_grad():
        traced, logits = trace_classifier(network, images)
        _rewrite(traced, find_head(traced))
        _check_equal(traced, images, logits)
    return traced.to(device)


def _get_in_channels(network: nn.Module) -> int:
    first = next((module for module in network.modules() if isinstance(module, nn.Conv2d)), None)
    if first is None:
        raise refuse("it has no convolution.")
    return first.in_channels


# The rewriting: first all new layers, then the change of the graph


def _rewrite(traced: fx.GraphModule, head: Head) -> None:
    """Replace the linear layers by convolutions, and the pool by a sliding average."""
    kernel = dilation = (1, 1)
    if head.pool and not _is_linear(traced, head):
        (rows, down), (columns, right) = (
            compute_sliding_window(*pair) for pair in zip(head.before, head.after, strict=True)
        )
        kernel, dilation = (rows, columns), (down, right)
    new_layers = _build_new_layers(traced, head, dilation)
    if kernel != (1, 1):
        _insert_average(traced, head.pool[0], kernel)
    dropped = [node for node, layer in new_layers.items() if layer is None]
    for node in (*head.pool, *head.flatten, *dropped):
        node.replace_all_uses_with(get_sources(node)[0])
        traced.graph.erase_node(node)
    for node, layer in new_layers.items():
        if layer is not None:
            traced.set_submodule(str(node.target), layer)
    traced.graph.eliminate_dead_code()
    traced.delete_all_unused_submodules()
    traced.recompile()
    traced.eval()


def _is_linear(traced: fx.GraphModule, head: Head) -> bool:
    """Return whether at most one linear layer follows a global pool, so that the two commute."""
    layers = [node for node in (*head.on_map, *head.on_vector) if not is_identity(traced, node)]
    linear = all(isinstance(_get_module(traced, node), nn.Linear | nn.Conv2d) for node in layers)
    return head.after == (1, 1) and len(layers) <= 1 and linear


def compute_sliding_window(size: int, pooled: int) -> tuple[int, int]:
    """Return (length, step) of the windows with which adaptive pooling reduces `size` to `pooled` values.

    >>> compute_sliding_window(7, 1), compute_sliding_window(14, 7), compute_sliding_window(8, 7)
    ((7, 1), (2, 2), (2, 1))
    """
    starts = [i * size // pooled for i in range(pooled)]
    lengths = {-(-(i + 1) * size // pooled) - start for i, start in enumerate(starts)}
    steps = {b - a for a, b in itertools.pairwise(starts)} or {1}
    if len(lengths) > 1 or len(steps) > 1 or 0 in steps:
        raise refuse(
            f"its pool reduces {size} rows or columns to {pooled} with windows of several lengths or steps; "
            f"choose an input_size that gives a multiple of {pooled}."
        )
    return lengths.pop(), steps.pop()


def _insert_average(traced: fx.GraphModule, pool: fx.Node, kernel: Size) -> None:
    (source,) = get_sources(pool)
    with traced.graph.inserting_before(pool):
        slide = traced.graph.call_function(functional.avg_pool2d, (source, kernel, 1))
    slide.meta = dict(source.meta)
    pool.replace_input_with(source, slide)


def _build_new_layers(traced: fx.GraphModule, head: Head, dilation: Size) -> dict[fx.Node, nn.Module | None]:
    """Return the new layers for those that act on vectors, None to remove one. The others stay."""
    layers: dict[fx.Node, nn.Module | None] = {}
    window = head.after
    for node in head.on_vector:
        module = _get_module(traced, node)
        if isinstance(module, nn.Linear):
            layers[node] = _convert_linear(module, window, dilation)
            window = dilation = (1, 1)
        elif isinstance(module, nn.BatchNorm1d | nn.LayerNorm) and window == (1, 1):
            layers[node] = _convert_norm(module)
        elif not is_pointwise(traced, node):
            if not is_identity(traced, node):
                raise refuse(f"'{node.target}' after its pool does not act on each position separately.")
            layers[node] = None
    if window != (1, 1):
        raise refuse(f"it flattens a {window[0]}x{window[1]} map, but no linear layer takes it.")
    return layers


def _get_module(traced: fx.GraphModule, node: fx.Node) -> nn.Module | None:
    return traced.get_submodule(str(node.target)) if node.op == "call_module" else None


def _convert_linear(linear: nn.Linear, window: Size, dilation: Size) -> nn.Conv2d:
    """Return the convolution with the linear layer's own weights: (O, C h w) viewed as (O, C, h, w)."""
    channels = linear.in_features // (window[0] * window[1])
    bias = linear.bias is not None
    # On "meta", because the weights are replaced and need no memory and no random numbers.
    result = nn.Conv2d(channels, linear.out_features, window, dilation=dilation, bias=bias, device="meta")
    weight = linear.weight.detach().reshape(linear.out_features, channels, *window)
    result.weight = nn.Parameter(weight, requires_grad=linear.weight.requires_grad)
    if bias:
        result.bias = linear.bias
    return result


def _convert_norm(norm: nn.BatchNorm1d | nn.LayerNorm) -> nn.Module:
    """Return the norm of vectors as a norm of maps, at each position."""
    result: nn.Module
    if isinstance(norm, nn.LayerNorm):
        result = ChannelNorm(norm.normalized_shape, eps=norm.eps, elementwise_affine=norm.elementwise_affine)
    else:
        settings = (norm.num_features, norm.eps, norm.momentum, norm.affine, norm.track_running_stats)
        result = nn.BatchNorm2d(*settings)
    # LayerNorm can have a weight without a bias, so all existing parameters are set.
    for name, value in (*norm.named_parameters(), *norm.named_buffers()):
        setattr(result, name, value)
    return result


def _check_equal(traced: fx.GraphModule, images: Tensor, logits: Tensor) -> None:
    """Raise unless the result has the classifier's logits at the native size, and a wider map for a wider image."""
    maps = traced(images)
    difference = (maps.mean((2, 3)) - logits).abs().max()
    if not difference <= TOLERANCE * logits.abs().max():
        raise refuse(f"as convolutions, its layers give logits that differ by {difference:.2g}.")
    try:
        # `forward`, because calling the graph would print the code around an error.
        wider = traced.forward(double_width(images)).shape
    except Exception as error:  # a backbone that takes one size only can raise anything
        raise refuse(f"its backbone takes only images of {tuple(images.shape[2:])} ({error}).") from error
    if wider[3] <= maps.shape[3]:
        raise refuse(
            f"its map is {maps.shape[2]}x{maps.shape[3]}, and {wider[2]}x{wider[3]} for an image twice as wide: "
            "a layer fixes its size, or transposes it."
        )
