"""Where a classifier's head begins: the layers that make logits out of its last map of features.

Questions put to a layer, the head they find, the graph they are put to. A layer is known by what it
computes on random maps, not by its name or class, so that one mechanism serves the classifiers of
torchvision, of timm and of the user.
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
    """The nodes that make logits out of the last map, in the order of the forward pass."""

    pool: Sequence[fx.Node]
    """An average over windows of the map; none where all of the map goes to the first linear layer."""
    on_map: Sequence[fx.Node]
    """What follows the pool while height and width are there; each acts at every position."""
    flatten: Sequence[fx.Node]
    """Map to vector; none where the pool does that too."""
    on_vector: Sequence[fx.Node]
    before: Size
    """Size of the last map at the native input size."""
    after: Size
    """Size of what the pool leaves of it: the window that the first linear layer sees."""


def refuse(reason: str) -> InvalidArgumentError:
    return InvalidArgumentError(f"this classifier cannot be made fully convolutional: {reason}")


def weights_of(network: nn.Module) -> Tensor:
    """One of the network's tensors, for its type and its device."""
    weights = next(network.parameters(), None)
    if weights is None:
        raise refuse("it has no weights.")
    return weights


def noise(network: nn.Module, *shape: int) -> Tensor:
    """Normally distributed, the same at each call, and apart from the user's random numbers."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(weights_of(network))


def doubled(images: Tensor) -> Tensor:
    """The images twice, side by side."""
    return torch.cat([images, images], dim=3)


# Questions put to the layers of the graph


def shape_of(node: fx.Node) -> torch.Size:
    shape: torch.Size = node.meta["shape"]
    return shape


def sources_of(node: fx.Node) -> list[fx.Node]:
    """The tensors that a node takes, its weights left out."""
    return [n for n in node.all_input_nodes if n.op != "get_attr" and "shape" in n.meta]


def acts_at_each_position(traced: fx.GraphModule, node: fx.Node) -> bool:
    """Makes of a map of 2x3 positions what it makes of each position alone."""
    shape = shape_of(sources_of(node)[0])
    maps = noise(traced, 1, shape[1], 2, 3)
    alone = _positions(maps).reshape(6, shape[1], *[1] * (len(shape) - 2))
    try:
        together, parts = _run(traced, [node], maps), _run(traced, [node], alone)
    except Exception:  # a layer that takes no such map may raise anything
        return False
    return together.shape[2:] == (2, 3) and _close(_positions(together), parts.flatten(1))


def does_nothing(traced: fx.GraphModule, node: fx.Node) -> bool:
    """Gives back what it takes in evaluation mode, as dropout does."""
    value = noise(traced, *shape_of(sources_of(node)[0]))
    return _close(_run(traced, [node], value), value)


def _is_average(traced: fx.GraphModule, nodes: Sequence[fx.Node]) -> bool:
    """Averages over a grid of windows, on the native map and on one twice as large."""
    _, channels, height, width = shape_of(sources_of(nodes[0])[0])
    return all(_averages(traced, nodes, noise(traced, 1, channels, height * scale, width * scale)) for scale in (1, 2))


def _averages(traced: fx.GraphModule, nodes: Sequence[fx.Node], maps: Tensor) -> bool:
    try:
        pooled = _run(traced, nodes, maps)
    except Exception:  # a layer that takes no other size may raise anything
        return False
    rows, columns = pooled.shape[2:] if pooled.ndim == 4 else (1, 1)
    return _close(pooled.flatten(1), functional.adaptive_avg_pool2d(maps, (rows, columns)).flatten(1))


def _run(traced: fx.GraphModule, nodes: Sequence[fx.Node], value: Tensor) -> Tensor:
    """What successive nodes make of another value than the one they were traced with."""
    interpreter = fx.Interpreter(traced, garbage_collect_values=False)
    for node in nodes:
        weights = {n: interpreter.run_node(n) for n in node.all_input_nodes if n.op == "get_attr"}
        # A copy: activations may work in place.
        interpreter.env = {**weights, sources_of(node)[0]: value.clone()}
        value = interpreter.run_node(node)
    return value


def _positions(maps: Tensor) -> Tensor:
    """(1, C, H, W) → (H W, C)."""
    return maps.flatten(2)[0].T


def _close(a: Tensor, b: Tensor) -> bool:
    return a.shape == b.shape and torch.allclose(a, b, rtol=1e-4, atol=1e-5)


# The head, from the logits back to the last map


def find_head(traced: fx.GraphModule) -> Head:
    """The head of a graph of `trace_classifier`. InvalidArgumentError where there is none of this kind."""
    chain = _chain(traced)
    ranks = [len(shape_of(node)) for node in chain]
    if 4 not in ranks:
        raise refuse(
            "its logits are not made from one map of features by one layer after another "
            "(as in a vision transformer, or where two kinds of pooling are joined)."
        )
    last_map = len(ranks) - 1 - ranks[::-1].index(4)
    first_vector = ranks.index(2, last_map)
    on_map, flatten = chain[: last_map + 1], chain[last_map + 1 : first_vector + 1]
    on_vector = chain[first_vector + 1 :]
    if shape_of(flatten[-1]).numel() < shape_of(on_map[-1]).numel():
        return _head_with_mean(traced, flatten, on_vector)
    return _head_with_map(traced, on_map, flatten, on_vector)


def _chain(traced: fx.GraphModule) -> list[fx.Node]:
    """The nodes before the output, in order, back to where more than one tensor comes in."""
    chain = traced.graph.output_node().all_input_nodes
    while len(sources := sources_of(chain[0])) == 1:
        chain = [*sources, *chain]
    return chain


def _head_with_mean(traced: fx.GraphModule, mean: Sequence[fx.Node], on_vector: Sequence[fx.Node]) -> Head:
    """The head of a network that makes the vector by a mean over height and width."""
    if not _is_average(traced, mean):
        raise refuse(f"'{mean[-1].name}' makes a vector of the map in another way than by the average.")
    before = _size(sources_of(mean[0])[0])
    return Head(pool=mean, on_map=[], flatten=[], on_vector=on_vector, before=before, after=(1, 1))


def _head_with_map(
    traced: fx.GraphModule, chain: Sequence[fx.Node], flatten: Sequence[fx.Node], on_vector: Sequence[fx.Node]
) -> Head:
    """The head of a network that flattens a map, pooled before or not."""
    i = len(chain) - 1
    while i > 0 and acts_at_each_position(traced, chain[i]):
        i -= 1
    after = _size(chain[-1])
    if i == 0 or not _is_average(traced, chain[i : i + 1]):
        return Head(pool=[], on_map=[], flatten=flatten, on_vector=on_vector, before=after, after=after)
    pool, on_map, before = chain[i : i + 1], chain[i + 1 :], _size(chain[i - 1])
    return Head(pool=pool, on_map=on_map, flatten=flatten, on_vector=on_vector, before=before, after=after)


def _size(node: fx.Node) -> Size:
    return shape_of(node)[2], shape_of(node)[3]


# From module to graph


class _Tracer(fx.Tracer):
    """Opens only modules whose output keeps its size when the image grows: those of the head.

    The stages of the backbone stay whole, whatever their code does.
    """

    def __init__(self, whole: set[nn.Module]) -> None:
        super().__init__()
        self.whole = whole

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        # A layer with weights of its own, such as a norm, is one step of the head.
        has_weights = next(m.parameters(recurse=False), None) is not None
        return m in self.whole or has_weights or super().is_leaf_module(m, module_qualified_name)


class _Shapes(fx.Interpreter):
    """Runs the graph and notes the shape of each tensor in its node."""

    def run_node(self, n: fx.Node) -> Any:
        result = super().run_node(n)
        if isinstance(result, Tensor):
            n.meta["shape"] = result.shape
        return result


def trace_classifier(network: nn.Module, images: Tensor) -> tuple[fx.GraphModule, Tensor]:
    """The network as a graph with the shape of each result, and its logits (B, K).

    The graph shares the network's modules. Call it in evaluation mode and without gradients.
    """
    name, side = type(network).__name__, images.shape[3]
    try:
        sizes = _map_sizes(network, images)
    except Exception as error:  # a foreign network may raise anything
        raise refuse(f"{name} takes no {side}x{side} images ({error}); give its own input_size.") from error
    wider = _map_sizes(network, doubled(images), partial=True)
    try:
        tracer = _Tracer({module for module, size in sizes.items() if wider.get(module, 0) > size})
        traced = fx.GraphModule(network, tracer.trace(network), class_name=name)
        logits = _Shapes(traced).run(images)
    except Exception as error:
        raise refuse(f"torch.fx cannot trace the layers after its last map ({error}).") from error
    if not isinstance(logits, Tensor) or logits.ndim != 2:
        found = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        raise refuse(f"it gives {found}, not logits (B, K).")
    return traced, logits


def _map_sizes(network: nn.Module, images: Tensor, *, partial: bool = False) -> dict[nn.Module, int]:
    """Number of values of the map that each module gives; `partial`: as far as the images get."""
    sizes: dict[nn.Module, int] = {}

    def note(module: nn.Module, _: Any, output: Any) -> None:
        if isinstance(output, Tensor) and output.ndim == 4:
            sizes[module] = output.numel()

    hooks = [module.register_forward_hook(note) for module in network.modules() if module is not network]
    try:
        network(images)
    except Exception:
        if not partial:
            raise
    finally:
        for hook in hooks:
            hook.remove()
    return sizes
