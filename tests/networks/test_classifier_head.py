import pytest
import torch
from torch import Tensor, fx, nn

from pixelwise.errors import InvalidArgumentError
from pixelwise.networks.classifier_head import (
    Head,
    double_width,
    draw_normal,
    find_head,
    is_identity,
    is_pointwise,
    trace_classifier,
)


def traced(*layers: nn.Module) -> fx.GraphModule:
    """Return the graph of stages that keep the size, and of the layers after them."""
    network = nn.Sequential(nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU()), *layers).eval()
    with torch.no_grad():
        return trace_classifier(network, torch.randn(1, 3, 6, 6))[0]


def head_of(*layers: nn.Module) -> tuple[Head, list[list[str]]]:
    """Return the head and the names of its nodes."""
    head = find_head(traced(*layers))
    return head, [[n.name for n in nodes] for nodes in (head.pool, head.on_map, head.flatten, head.on_vector)]


class Mean(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.mean((2, 3))


def test_pool_then_flatten():
    head, names = head_of(nn.AdaptiveAvgPool2d(2), nn.Tanh(), nn.Flatten(), nn.Dropout(), nn.Linear(16, 3))
    assert names == [["_1"], ["_2"], ["_3"], ["_4", "_5"]]
    assert (head.before, head.after) == ((6, 6), (2, 2))


def test_pool_that_is_also_the_flattening():
    head, names = head_of(Mean(), nn.Linear(4, 3))
    assert names == [["mean"], [], [], ["_2"]]
    assert (head.before, head.after) == ((6, 6), (1, 1))


def test_no_pool():
    head, names = head_of(nn.MaxPool2d(2), nn.ReLU(), nn.Flatten(), nn.Linear(36, 3))
    assert names == [[], [], ["_3"], ["_4"]]
    assert head.before == head.after == (3, 3)


def test_modules_that_grow_with_the_image_stay_whole():
    graph = traced(nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten()), nn.Linear(4, 3)).graph
    assert [str(n.target) for n in graph.nodes if n.op == "call_module"] == ["0", "1.0", "1.1", "2"]


@pytest.mark.parametrize(
    ("layer", "answer"),
    [
        (nn.Conv2d(4, 4, 1), True),
        (nn.BatchNorm2d(4), True),
        (nn.Softmax(1), True),
        (nn.Conv2d(4, 4, 3, padding=1), False),
        (nn.GroupNorm(1, 4), False),
        (nn.Softmax(3), False),
        (nn.Upsample(size=6), False),
    ],
)
def test_is_pointwise(layer, answer):
    torch.manual_seed(0)
    graph = traced(layer, nn.Flatten(), nn.Linear(144, 2))
    (node,) = (n for n in graph.graph.nodes if n.target == "1")
    assert is_pointwise(graph, node) is answer


@pytest.mark.parametrize(
    ("layer", "answer"),
    [(nn.Dropout(0.9), True), (nn.Identity(), True), (nn.ReLU(inplace=True), False), (nn.Linear(36, 36), False)],
)
def test_is_identity(layer, answer):
    graph = traced(layer, nn.Flatten(), nn.Linear(144, 2)) if not isinstance(layer, nn.Linear) else None
    graph = graph or traced(nn.MaxPool2d(2), nn.Flatten(), layer)
    (node,) = (n for n in graph.graph.nodes if n.op == "call_module" and graph.get_submodule(n.target) is layer)
    assert is_identity(graph, node) is answer


def test_noise_is_constant_and_keeps_the_random_state():
    network, state = nn.Conv2d(1, 1, 1).double(), torch.get_rng_state()
    assert torch.equal(draw_normal(network, 2, 3), draw_normal(network, 2, 3))
    assert draw_normal(network, 2).dtype == torch.float64
    assert torch.equal(torch.get_rng_state(), state)


def test_double_width_images_lie_side_by_side():
    image = torch.arange(4.0).reshape(1, 1, 2, 2)
    assert double_width(image)[0, 0].tolist() == [[0, 1, 0, 1], [2, 3, 2, 3]]


def test_no_map_is_an_error():
    graph = fx.symbolic_trace(nn.Sequential(nn.Linear(4, 2)))
    for node in graph.graph.nodes:
        node.meta["shape"] = torch.Size((1, 2))
    with pytest.raises(InvalidArgumentError, match="not computed from one map of features"):
        find_head(graph)
