"""Convert trained classifiers to fully convolutional networks.

A fully connected layer is a convolution whose kernel covers the whole map that it sees: Long, Shelhamer, Darrell,
"Fully Convolutional Networks for Semantic Segmentation", CVPR 2015, section 3.1.

The file reads top-down: the conversion, the rewriting of the graph, the search for the head (the layers that compute
logits from the last map of features), and the tracing of the graph. A layer is recognized by its results on random
maps, not by its name or class, so one method works for the classifiers of torchvision, timm and users.
"""

import copy
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn import functional

from pixelwise.arguments import Count, check_arguments
from pixelwise.errors import InvalidArgumentError, describe_cause
from pixelwise.shapes import Size

TOLERANCE = 1e-4
"""Largest difference of logits relative to the largest logit, because float32 sums have a different order."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """The nodes that compute logits from the last map, in the order of the forward pass."""

    pool: Sequence[fx.Node]
    """An average over windows of the map; empty if the whole map is flattened."""
    on_map: Sequence[fx.Node]
    """Layers after the pool that still have height and width; each acts on every position separately."""
    flatten: Sequence[fx.Node]
    """Map to vector; empty if the pool does this."""
    on_vector: Sequence[fx.Node]
    before: Size
    """Size of the last map at the native input size."""
    after: Size
    """Size of the map after the pool: the window that the first linear layer sees."""


class ChannelNorm(nn.LayerNorm):
    """Layer normalization over the channels of (B, C, H, W), separately at each position."""

    def forward(self, x: Tensor) -> Tensor:
        """Return the normalized map."""
        return super().forward(x.movedim(1, -1)).movedim(-1, 1)


@check_arguments
def convolutionalize(classifier: nn.Module, *, input_size: Count = 224) -> nn.Module:
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
    first = next((module for module in network.modules() if isinstance(module, nn.Conv2d)), None)
    if first is None:
        raise refuse("it has no convolution.")
    images = draw_normal(network, 1, first.in_channels, input_size, input_size)
    with torch.no_grad():
        traced, logits = trace_classifier(network, images)
        _rewrite(traced, find_head(traced))
        _check_equal(traced, images, logits)
    return traced.to(device)


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
        (source,) = get_sources(head.pool[0])
        with traced.graph.inserting_before(head.pool[0]):
            average = traced.graph.call_function(functional.avg_pool2d, (source, kernel, 1))
        average.meta = dict(source.meta)
        head.pool[0].replace_input_with(source, average)
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
        raise refuse(
            f"its backbone takes only images of {tuple(images.shape[2:])} ({describe_cause(error)})."
        ) from error
    if wider[3] <= maps.shape[3]:
        raise refuse(
            f"its map is {maps.shape[2]}x{maps.shape[3]}, and {wider[2]}x{wider[3]} for an image twice as wide: "
            "a layer fixes its size, or transposes it."
        )


def refuse(reason: str) -> InvalidArgumentError:
    """Return the error for a classifier that cannot be converted."""
    return InvalidArgumentError(f"This classifier cannot be converted to a fully convolutional network: {reason}")


def get_weights(network: nn.Module) -> Tensor:
    """Return one parameter of the network, for its dtype and device."""
    weights = next(network.parameters(), None)
    if weights is None:
        raise refuse("it has no weights.")
    return weights


def draw_normal(network: nn.Module, *shape: int) -> Tensor:
    """Return normally distributed values, equal in every call and independent of the global random state."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(get_weights(network))


def double_width(images: Tensor) -> Tensor:
    """Return the images repeated twice along the width."""
    return torch.cat([images, images], dim=3)


# Tests of single layers


def get_shape(node: fx.Node) -> torch.Size:
    """Return the shape of a node's result."""
    shape: torch.Size = node.meta["shape"]
    return shape


def get_sources(node: fx.Node) -> list[fx.Node]:
    """Return the nodes of the tensors that a node takes, without its weights."""
    return [n for n in node.all_input_nodes if n.op != "get_attr" and "shape" in n.meta]


def is_pointwise(traced: fx.GraphModule, node: fx.Node) -> bool:
    """Return whether the node computes each position of a 2x3 map separately."""
    shape = get_shape(get_sources(node)[0])
    maps = draw_normal(traced, 1, shape[1], 2, 3)
    separate = _flatten_positions(maps).reshape(6, shape[1], *[1] * (len(shape) - 2))
    try:
        together, parts = _run(traced, [node], maps), _run(traced, [node], separate)
    except Exception:  # a layer that takes no such map can raise anything
        return False
    return together.shape[2:] == (2, 3) and _is_close(_flatten_positions(together), parts.flatten(1))


def is_identity(traced: fx.GraphModule, node: fx.Node) -> bool:
    """Return whether the node returns its input in evaluation mode, as dropout does."""
    value = draw_normal(traced, *get_shape(get_sources(node)[0]))
    return _is_close(_run(traced, [node], value), value)


def _is_average(traced: fx.GraphModule, nodes: Sequence[fx.Node]) -> bool:
    """Return whether the nodes average over a grid of windows, on the native map and on one twice as large."""
    _, channels, height, width = get_shape(get_sources(nodes[0])[0])
    for scale in (1, 2):
        maps = draw_normal(traced, 1, channels, height * scale, width * scale)
        try:
            pooled = _run(traced, nodes, maps)
        except Exception:  # a layer that takes no other size can raise anything
            return False
        rows, columns = pooled.shape[2:] if pooled.ndim == 4 else (1, 1)
        if not _is_close(pooled.flatten(1), functional.adaptive_avg_pool2d(maps, (rows, columns)).flatten(1)):
            return False
    return True


def _run(traced: fx.GraphModule, nodes: Sequence[fx.Node], value: Tensor) -> Tensor:
    """Return the result of successive nodes for a value that differs from the traced one."""
    interpreter = fx.Interpreter(traced, garbage_collect_values=False)
    for node in nodes:
        weights = {n: interpreter.run_node(n) for n in node.all_input_nodes if n.op == "get_attr"}
        # A copy, because activations can work in place.
        interpreter.env = {**weights, get_sources(node)[0]: value.clone()}
        value = interpreter.run_node(node)
    return value


def _flatten_positions(maps: Tensor) -> Tensor:
    """Return (H W, C) for (1, C, H, W)."""
    return maps.flatten(2)[0].T


def _is_close(a: Tensor, b: Tensor) -> bool:
    return a.shape == b.shape and torch.allclose(a, b, rtol=1e-4, atol=1e-5)


# The head, searched from the logits back to the last map


def find_head(traced: fx.GraphModule) -> Head:
    """Return the head of a graph from `trace_classifier`, or raise InvalidArgumentError if it has a different form."""
    # The nodes before the output in order, back to a node that takes more than one tensor.
    chain = traced.graph.output_node().all_input_nodes
    while len(sources := get_sources(chain[0])) == 1:
        chain = [*sources, *chain]
    ranks = [len(get_shape(node)) for node in chain]
    if 4 not in ranks:
        raise refuse(
            "its logits are not computed from one map of features by one layer after another "
            "(as in a vision transformer, or with two kinds of pooling)."
        )
    last_map = len(ranks) - 1 - ranks[::-1].index(4)
    first_vector = ranks.index(2, last_map)
    maps, flatten = chain[: last_map + 1], chain[last_map + 1 : first_vector + 1]
    head = partial(Head, on_vector=chain[first_vector + 1 :])
    after = _get_size(maps[-1])
    if get_shape(flatten[-1]).numel() < get_shape(maps[-1]).numel():  # a mean over height and width
        if not _is_average(traced, flatten):
            raise refuse(f"'{flatten[-1].name}' does not compute the vector as the average of the map.")
        return head(pool=flatten, on_map=[], flatten=[], before=_get_size(get_sources(flatten[0])[0]), after=(1, 1))
    i = last_map
    while i > 0 and is_pointwise(traced, maps[i]):
        i -= 1
    if i == 0 or not _is_average(traced, maps[i : i + 1]):
        return head(pool=[], on_map=[], flatten=flatten, before=after, after=after)
    before = _get_size(maps[i - 1])
    return head(pool=maps[i : i + 1], on_map=maps[i + 1 :], flatten=flatten, before=before, after=after)


def _get_size(node: fx.Node) -> Size:
    return get_shape(node)[2], get_shape(node)[3]


# From the module to the graph


class _HeadTracer(fx.Tracer):
    """A tracer that opens only modules whose output size does not depend on the image: those of the head.

    The stages of the backbone stay whole, so their code need not be traceable.
    """

    def __init__(self, whole: set[nn.Module]) -> None:
        super().__init__()
        self.whole = whole

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        # A layer with its own weights, such as a norm, is one step of the head.
        has_weights = next(m.parameters(recurse=False), None) is not None
        return m in self.whole or has_weights or super().is_leaf_module(m, module_qualified_name)


class _ShapeRecorder(fx.Interpreter):
    """An interpreter that stores the shape of each result in its node."""

    def run_node(self, n: fx.Node) -> Any:
        result = super().run_node(n)
        if isinstance(result, Tensor):
            n.meta["shape"] = result.shape
        return result


def trace_classifier(network: nn.Module, images: Tensor) -> tuple[fx.GraphModule, Tensor]:
    """Return the network as a graph with the shape of each result, and its logits (B, K).

    The graph shares the modules of the network. Call this in evaluation mode and without gradients.
    """
    name, side = type(network).__name__, images.shape[3]
    try:
        sizes = _measure_maps(network, images)
    except Exception as error:  # the code of a user can raise anything
        raise refuse(
            f"{name} does not take {side}x{side} images ({describe_cause(error)}). Set input_size to its native size."
        ) from error
    wider = _measure_maps(network, double_width(images), partial=True)
    try:
        tracer = _HeadTracer({module for module, size in sizes.items() if wider.get(module, 0) > size})
        traced = fx.GraphModule(network, tracer.trace(network), class_name=name)
        logits = _ShapeRecorder(traced).run(images)
    except Exception as error:
        raise refuse(f"torch.fx cannot trace the layers after its last map ({describe_cause(error)}).") from error
    if not isinstance(logits, Tensor) or logits.ndim != 2:
        result = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        raise refuse(f"it returns {result}, not logits (B, K).")
    return traced, logits


def _measure_maps(network: nn.Module, images: Tensor, *, partial: bool = False) -> dict[nn.Module, int]:
    """Return the number of values of each module's map; with `partial`, of the modules before an error."""
    sizes: dict[nn.Module, int] = {}

    def record(module: nn.Module, _: Any, output: Any) -> None:
        if isinstance(output, Tensor) and output.ndim == 4:
            sizes[module] = output.numel()

    hooks = [module.register_forward_hook(record) for module in network.modules() if module is not network]
    try:
        network(images)
    except Exception:
        if not partial:
            raise
    finally:
        for hook in hooks:
            hook.remove()
    return sizes
