"""Find the head of a classifier: the layers that compute logits from its last map of features.

The file has tests of single layers, the search for the head, and the tracing of the graph. A layer is recognized by its
results on random maps, not by its name or class, so one method works for the classifiers of torchvision, timm and
users.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn import functional

from pixelwise.errors import InvalidArgumentError
from pixelwise.shapes import Size


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


def refuse(reason: str) -> InvalidArgumentError:
    """Return the error for a classifier that cannot be converted."""
    return InvalidArgumentError(f"this classifier cannot be converted to a fully convolutional network: {reason}")


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
    return all(
        _equals_average(traced, nodes, draw_normal(traced, 1, channels, height * scale, width * scale))
        for scale in (1, 2)
    )


def _equals_average(traced: fx.GraphModule, nodes: Sequence[fx.Node], maps: Tensor) -> bool:
    try:
        pooled = _run(traced, nodes, maps)
    except Exception:  # a layer that takes no other size can raise anything
        return False
    rows, columns = pooled.shape[2:] if pooled.ndim == 4 else (1, 1)
    return _is_close(pooled.flatten(1), functional.adaptive_avg_pool2d(maps, (rows, columns)).flatten(1))


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
    chain = _find_chain(traced)
    ranks = [len(get_shape(node)) for node in chain]
    if 4 not in ranks:
        raise refuse(
            "its logits are not computed from one map of features by one layer after another "
            "(as in a vision transformer, or with two kinds of pooling)."
        )
    last_map = len(ranks) - 1 - ranks[::-1].index(4)
    first_vector = ranks.index(2, last_map)
    on_map, flatten = chain[: last_map + 1], chain[last_map + 1 : first_vector + 1]
    on_vector = chain[first_vector + 1 :]
    if get_shape(flatten[-1]).numel() < get_shape(on_map[-1]).numel():
        return _find_head_with_mean(traced, flatten, on_vector)
    return _find_head_with_map(traced, on_map, flatten, on_vector)


def _find_chain(traced: fx.GraphModule) -> list[fx.Node]:
    """Return the nodes before the output in order, back to a node that takes more than one tensor."""
    chain = traced.graph.output_node().all_input_nodes
    while len(sources := get_sources(chain[0])) == 1:
        chain = [*sources, *chain]
    return chain


def _find_head_with_mean(traced: fx.GraphModule, mean: Sequence[fx.Node], on_vector: Sequence[fx.Node]) -> Head:
    """Return the head of a network that computes the vector by a mean over height and width."""
    if not _is_average(traced, mean):
        raise refuse(f"'{mean[-1].name}' does not compute the vector as the average of the map.")
    before = _get_size(get_sources(mean[0])[0])
    return Head(pool=mean, on_map=[], flatten=[], on_vector=on_vector, before=before, after=(1, 1))


def _find_head_with_map(
    traced: fx.GraphModule, chain: Sequence[fx.Node], flatten: Sequence[fx.Node], on_vector: Sequence[fx.Node]
) -> Head:
    """Return the head of a network that flattens a map, with or without pooling."""
    i = len(chain) - 1
    while i > 0 and is_pointwise(traced, chain[i]):
        i -= 1
    after = _get_size(chain[-1])
    if i == 0 or not _is_average(traced, chain[i : i + 1]):
        return Head(pool=[], on_map=[], flatten=flatten, on_vector=on_vector, before=after, after=after)
    pool, on_map, before = chain[i : i + 1], chain[i + 1 :], _get_size(chain[i - 1])
    return Head(pool=pool, on_map=on_map, flatten=flatten, on_vector=on_vector, before=before, after=after)


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
            f"{name} does not take {side}x{side} images ({error}); set input_size to its native size."
        ) from error
    wider = _measure_maps(network, double_width(images), partial=True)
    try:
        tracer = _HeadTracer({module for module, size in sizes.items() if wider.get(module, 0) > size})
        traced = fx.GraphModule(network, tracer.trace(network), class_name=name)
        logits = _ShapeRecorder(traced).run(images)
    except Exception as error:
        raise refuse(f"torch.fx cannot trace the layers after its last map ({error}).") from error
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
