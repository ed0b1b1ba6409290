import copy

import pytest
import timm
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Tensor, fx, nn
from torchvision import models
from torchvision.models.vision_transformer import VisionTransformer

from pixelwise.errors import InvalidArgumentError
from pixelwise.networks.convolutionalize import (
    ChannelNorm,
    Head,
    compute_sliding_window,
    convolutionalize,
    double_width,
    draw_normal,
    find_head,
    is_identity,
    is_pointwise,
    trace_classifier,
)

# name, map at the native size. A map of 1x1 is the second form.
SMALL = [
    ("resnet18", 64, (2, 2)),
    ("squeezenet1_1", 64, (3, 3)),
    ("mobilenet_v2", 64, (2, 2)),
    ("mobilenet_v3_small", 64, (1, 1)),
    ("efficientnet_b0", 64, (2, 2)),
    ("timm:resnet18", 64, (2, 2)),
    ("timm:convnext_atto", 64, (1, 1)),
    ("timm:mobilenetv3_small_050", 64, (1, 1)),
]
LARGE = [
    *[(name, 224, (1, 1)) for name in ("alexnet", "vgg11", "vgg16", "vgg11_bn", "vgg16_bn")],
    *[(name, 224, (1, 1)) for name in ("mobilenet_v3_large", "convnext_tiny")],
    *[(name, 224, (13, 13)) for name in ("squeezenet1_0", "squeezenet1_1")],
    *[(name, 224, (7, 7)) for name in ("resnet18", "resnet50", "densenet121", "googlenet", "mobilenet_v2")],
    *[(name, 224, (7, 7)) for name in ("efficientnet_b0", "regnet_y_400mf", "mnasnet1_0", "swin_t")],
    ("inception_v3", 299, (8, 8)),
    *[(f"timm:{name}", 224, (1, 1)) for name in ("vgg11", "mobilenetv3_large_100", "convnext_tiny", "ghostnet_100")],
    *[(f"timm:{name}", 224, (7, 7)) for name in ("resnet18", "resnetv2_50", "densenet121", "efficientnet_b0")],
    *[(f"timm:{name}", 224, (7, 7)) for name in ("regnety_004", "mobilenetv2_100", "dla34", "hrnet_w18_small")],
]


def build(name: str) -> nn.Module:
    if name.startswith("timm:"):
        return timm.create_model(name.removeprefix("timm:"))
    with_aux = {"init_weights": True} if name in ("googlenet", "inception_v3") else {}
    return models.get_model(name, weights=None, **with_aux)


def with_statistics(network: nn.Module, size: int) -> nn.Module:
    """Set batch normalization to the statistics of real images, as after training.

    With those of its start, the signal fades from layer to layer, and logits would be biases alone.
    """
    for module in network.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            module.momentum = None  # the plain average of the batches
    network.train()
    with torch.no_grad():
        for _ in range(2):
            network(torch.randn(4, 3, size, size) * 2 + 0.5)
    return network.eval()


def relative_difference(a: Tensor, b: Tensor) -> float:
    assert a.shape == b.shape
    return ((a - b).abs().max() / b.abs().max()).item()


def assert_same_logits(classifier: nn.Module, size: int, map_size: tuple[int, int]) -> nn.Module:
    network = convolutionalize(classifier, input_size=size)
    images = torch.randn(2, 3, size, size) * torch.tensor([1.0, 3.0]).reshape(2, 1, 1, 1)
    with torch.no_grad():
        logits, maps = classifier(images), network(images)
    assert maps.shape[2:] == map_size
    assert relative_difference(maps.mean((2, 3)), logits) < 1e-4
    # Logits that come from biases alone would be equal too.
    assert (logits[0] - logits[1]).abs().max() > 0.01 * logits.abs().max()
    return network


@pytest.mark.parametrize(("name", "size", "map_size"), SMALL)
def test_known_classifiers_keep_their_logits(name, size, map_size):
    torch.manual_seed(0)
    classifier = with_statistics(build(name), size)
    network = assert_same_logits(classifier, size, map_size)
    images = torch.randn(1, 3, 96, 160)
    with torch.no_grad():
        maps = network(images)
        if map_size != (1, 1):
            assert relative_difference(maps.mean((2, 3)), classifier(images)) < 1e-4
    # Both forms give a map that grows with the image.
    assert maps.shape[3] > maps.shape[2] >= 2


@pytest.mark.slow
@pytest.mark.parametrize(("name", "size", "map_size"), LARGE)
def test_known_classifiers_keep_their_logits_at_full_size(name, size, map_size):
    torch.manual_seed(0)
    classifier = with_statistics(build(name), size)
    network = assert_same_logits(classifier, size, map_size)
    images = torch.randn(1, 3, 320, 256)
    with torch.no_grad():
        maps = network(images)
        # timm's VGG slides its own fully connected layers, and averages at the end.
        if map_size != (1, 1) or name.startswith("timm:vgg"):
            assert relative_difference(maps.mean((2, 3)), classifier(images)) < 1e-4
    assert maps.shape[2] > maps.shape[3] > 1


def unpadded_stages(width: int) -> list[nn.Module]:
    """A map of stride 4 in which each value depends on its own pixels only."""
    return [
        nn.Conv2d(3, width, 4, stride=2),
        nn.BatchNorm2d(width),
        nn.ReLU(inplace=True),
        nn.Conv2d(width, width, 2, stride=2),
        nn.ReLU(inplace=True),
    ]


def fully_connected(pooled: int, width: int, classes: int) -> list[nn.Module]:
    """The head of AlexNet and VGG."""
    hidden = width + 1
    layers: list[nn.Module] = [nn.AdaptiveAvgPool2d(pooled), nn.Flatten(), nn.Dropout()]
    return [*layers, nn.Linear(width * pooled**2, hidden), nn.ReLU(inplace=True), nn.Linear(hidden, classes)]


@given(
    width=st.integers(1, 6),
    classes=st.integers(1, 5),
    pooled=st.integers(1, 4),
    window=st.integers(1, 3),
    extra=st.tuples(st.integers(0, 3), st.integers(0, 3)),
)
@example(width=4, classes=3, pooled=3, window=2, extra=(2, 1))
@settings(max_examples=25)
def test_sliding_form_equals_classifier_on_every_crop(width, classes, pooled, window, extra):
    torch.manual_seed(width)
    size = 4 * pooled * window + 2
    classifier = with_statistics(nn.Sequential(*unpadded_stages(width), *fully_connected(pooled, width, classes)), size)
    network = convolutionalize(classifier, input_size=size)
    image = torch.randn(1, 3, size + 4 * extra[0], size + 4 * extra[1])
    rows, columns = (range(0, 4 * n + 1, 4) for n in extra)
    crops = torch.cat([image[:, :, y : y + size, x : x + size] for y in rows for x in columns])
    with torch.no_grad():
        expected = classifier(crops).T.reshape(1, classes, len(rows), len(columns))
        torch.testing.assert_close(network(image), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["mobilenet_v3_small", "timm:convnext_atto"])
def test_sliding_form_equals_head_on_every_window(name):
    torch.manual_seed(0)
    classifier = with_statistics(build(name), 64)
    network = convolutionalize(classifier, input_size=64)
    images = torch.randn(1, 3, 96, 128)
    foreign = name.startswith("timm:")
    with torch.no_grad():
        features = classifier.forward_features(images) if foreign else classifier.features(images)
        maps = network(images)
        assert maps.shape[2:] == (features.shape[2] - 1, features.shape[3] - 1) == (2, 3)
        window = features[:, :, 1:3, 2:4]
        head = classifier.forward_head if foreign else lambda x: classifier.classifier(x.mean((2, 3)))
        torch.testing.assert_close(maps[:, :, 1, 2], head(window), rtol=1e-4, atol=1e-6)


@given(width=st.integers(1, 6), height=st.integers(6, 40), columns=st.integers(6, 40))
@settings(max_examples=25)
def test_mean_of_fine_form_equals_logits_at_any_size(width, height, columns):
    torch.manual_seed(width)
    pool: list[nn.Module] = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(), nn.Linear(width, 3)]
    classifier = with_statistics(nn.Sequential(*unpadded_stages(width), *pool), 30)
    network = convolutionalize(classifier, input_size=30)
    image = torch.randn(1, 3, height, columns)
    with torch.no_grad():
        maps, logits = network(image), classifier(image)
    assert maps.shape[2:] == ((height - 2) // 4, (columns - 2) // 4)
    torch.testing.assert_close(maps.mean((2, 3)), logits, rtol=1e-4, atol=1e-5)


class Pooled(nn.Module):
    """A classifier with stages of stride 4 and any head."""

    def __init__(self, to_vector, head: nn.Module) -> None:
        super().__init__()
        self.stages = nn.Sequential(*unpadded_stages(4))
        self.to_vector = to_vector
        self.head = head

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.to_vector(self.stages(images)))


def after_one_layer() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 5), nn.Hardswish(inplace=True), nn.Dropout(), nn.Linear(5, 3, bias=False))


HEADS = {
    "mean": lambda: (lambda x: x.mean([2, 3]), nn.Linear(4, 3), (4, 4)),
    "two means": lambda: (lambda x: x.mean(3).mean(2), nn.Linear(4, 3), (4, 4)),
    "view": lambda: (lambda x: nn.functional.avg_pool2d(x, 4).view(x.size(0), -1), nn.Linear(4, 3), (4, 4)),
    "fixed average": lambda: (nn.Sequential(nn.AvgPool2d(4), nn.Flatten()), nn.Linear(4, 3, bias=False), (4, 4)),
    "two layers": lambda: (lambda x: x.mean([2, 3]), after_one_layer(), (1, 1)),
    "two linear layers": lambda: (lambda x: x.mean([2, 3]), nn.Sequential(nn.Linear(4, 5), nn.Linear(5, 3)), (1, 1)),
    "activation alone": lambda: (lambda x: x.mean([2, 3]), nn.Tanh(), (1, 1)),
    "batch norm": lambda: (lambda x: x.mean([2, 3]), nn.Sequential(nn.BatchNorm1d(4), nn.Linear(4, 3)), (1, 1)),
    "layer norm": lambda: (
        lambda x: x.mean([2, 3]),
        nn.Sequential(nn.LayerNorm(4, bias=False), nn.Linear(4, 3)),
        (1, 1),
    ),
    "bare norms": lambda: (
        lambda x: x.mean([2, 3]),
        nn.Sequential(
            nn.BatchNorm1d(4, affine=False),
            nn.LayerNorm(4, elementwise_affine=False),
            nn.Linear(4, 3),
            nn.Softmax(1),
            nn.Flatten(),
        ),
        (1, 1),
    ),
    "no pool": lambda: (lambda x: x.flatten(1), nn.Linear(4 * 16, 3), (1, 1)),
    "activation before flattening": lambda: (
        nn.Sequential(nn.AdaptiveAvgPool2d(2), nn.Tanh(), nn.Conv2d(4, 2, 1), nn.Flatten()),
        nn.Linear(8, 3),
        (1, 1),
    ),
    "norm before flattening": lambda: (
        nn.Sequential(nn.AdaptiveAvgPool2d(1), ChannelNorm(4), nn.Flatten()),
        nn.Linear(4, 3),
        (1, 1),
    ),
    "convolution after the pool": lambda: (
        nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(4, 3, 1), nn.Flatten()),
        nn.Identity(),
        (4, 4),
    ),
}


@pytest.mark.parametrize("kind", HEADS)
def test_kinds_of_heads(kind):
    torch.manual_seed(0)
    to_vector, head, map_size = HEADS[kind]()
    classifier = with_statistics(Pooled(to_vector, head), 18)
    network = assert_same_logits(classifier, 18, map_size)
    with torch.no_grad():
        image = torch.randn(1, 3, 26, 22)
        maps = network(image)
        crop = classifier(image[:, :, 8:, 4:]).flatten()
    assert maps.shape[2:] == (map_size[0] + 2, map_size[1] + 1)
    corner = maps[0, :, 2:, 1:].mean((1, 2))
    torch.testing.assert_close(corner, crop, rtol=1e-4, atol=1e-5)
    assert not any(isinstance(m, nn.Linear | nn.BatchNorm1d | nn.Flatten) for m in network.modules())


def test_names_and_values_of_weights_are_kept():
    torch.manual_seed(0)
    classifier = nn.Sequential(*unpadded_stages(4), *fully_connected(3, 4, 3))
    weights = convolutionalize(classifier, input_size=26).state_dict()
    assert weights.keys() == classifier.state_dict().keys()
    for name, values in classifier.state_dict().items():
        assert torch.equal(weights[name].flatten(), values.flatten())
    # fc6: one 3x3 kernel over the grid of the pool, whose windows are 2x2 pixels of the map.
    assert weights["8.weight"].shape == (5, 4, 3, 3)
    assert weights["10.weight"].shape == (3, 5, 1, 1)


def test_stages_stay_whole_and_training_parts_are_removed():
    class WithAuxiliary(Pooled):
        def __init__(self) -> None:
            super().__init__(lambda x: x.mean([2, 3]), nn.Linear(4, 3))
            self.auxiliary = nn.Linear(4, 3)

        def forward(self, images: Tensor) -> Tensor:
            logits = super().forward(images)
            return logits + self.auxiliary(logits) if self.training else logits

    network = convolutionalize(WithAuxiliary(), input_size=18)
    assert isinstance(network.get_submodule("stages"), nn.Sequential)
    assert [name for name, _ in network.named_children()] == ["stages", "head"]


def test_classifier_itself_is_not_changed():
    classifier = nn.Sequential(*unpadded_stages(4), *fully_connected(1, 4, 3)).train()
    classifier[-1].weight.requires_grad_(False)
    before = copy.deepcopy(classifier.state_dict())
    random_state = torch.get_rng_state()
    network = convolutionalize(classifier, input_size=18)
    assert classifier.training
    assert not network.training
    assert all(torch.equal(before[name], values) for name, values in classifier.state_dict().items())
    assert [type(m) for m in classifier][-3:] == [nn.Linear, nn.ReLU, nn.Linear]
    assert torch.equal(torch.get_rng_state(), random_state)
    with torch.no_grad():
        for values in network.parameters():
            values.zero_()
    assert all(torch.equal(before[name], values) for name, values in classifier.state_dict().items())
    frozen = [name for name, values in network.named_parameters() if not values.requires_grad]
    assert frozen == ["10.weight"]


def test_result_compiles_exports_and_learns():
    torch.manual_seed(0)
    network = convolutionalize(nn.Sequential(*unpadded_stages(4), *fully_connected(2, 4, 3)), input_size=18)
    images = torch.randn(2, 3, 34, 26)
    with torch.no_grad():
        expected = network(images)
        compiled = torch.compile(network, backend="aot_eager")(images)
        exported = torch.export.export(network, (images,)).module()(images)
    torch.testing.assert_close(compiled, expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(exported, expected, rtol=1e-4, atol=1e-5)
    network.train()(images).square().sum().backward()
    assert all(values.grad.abs().sum() > 0 for values in network.parameters())


def test_channel_norm_by_hand():
    x = torch.tensor([[1.0, 5.0], [3.0, 5.0]]).reshape(1, 2, 1, 2)
    expected = torch.tensor([[-1.0, 0.0], [1.0, 0.0]]).reshape(1, 2, 1, 2)
    torch.testing.assert_close(ChannelNorm(2, eps=1e-9)(x), expected)


@pytest.mark.parametrize(
    ("size", "pooled", "window"),
    [(7, 1, (7, 1)), (7, 7, (1, 1)), (14, 7, (2, 2)), (8, 7, (2, 1)), (6, 3, (2, 2)), (1, 1, (1, 1))],
)
def test_sliding_window(size, pooled, window):
    assert compute_sliding_window(size, pooled) == window


@pytest.mark.parametrize(("size", "pooled"), [(9, 7), (5, 3), (1, 7), (3, 7)])
def test_uneven_windows_raise(size, pooled):
    with pytest.raises(
        InvalidArgumentError, match=f"reduces {size} rows or columns to {pooled} .* multiple of {pooled}"
    ):
        compute_sliding_window(size, pooled)


class Branching(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x if x.sum() > 0 else -x


def averaged(*head: nn.Module) -> nn.Module:
    return Pooled(lambda x: x.mean([2, 3]), nn.Sequential(*head))


REFUSED = {
    r"has no weights": lambda: nn.Identity(),
    r"has no convolution": lambda: nn.Sequential(nn.Flatten(), nn.Linear(972, 2)),
    r"does not take 18x18 images \(.*\). Set input_size to its native size": lambda: Pooled(
        lambda x: x.flatten(1), nn.Linear(9, 2)
    ),
    r"returns \(1, 4, 4, 4\), not logits \(B, K\)": lambda: Pooled(lambda x: x, nn.Identity()),
    r"returns tuple, not logits": lambda: Pooled(lambda x: (x, x), nn.Identity()),
    r"not computed from one map .*vision transformer": lambda: VisionTransformer(18, 6, 1, 1, 4, 4, num_classes=2),
    r"'amax' does not compute the vector as the average of the map": lambda: Pooled(
        lambda x: x.amax([2, 3]), nn.Linear(4, 2)
    ),
    r"its map is 1x1, and 1x1 for an image twice as wide": lambda: Pooled(
        nn.Sequential(nn.AdaptiveMaxPool2d(1), nn.Flatten()), nn.Linear(4, 2)
    ),
    # On the 1x1 map of the native size, the maximum is the average.
    r"its map is 1x1, and 1x1 for an image twice": lambda: Pooled(
        nn.Sequential(nn.Conv2d(4, 4, 4), nn.AdaptiveMaxPool2d(1), nn.Flatten()), nn.Linear(4, 2)
    ),
    r"its map is 1x1, and 1x1 for an image": lambda: Pooled(
        lambda x: (nn.functional.adaptive_avg_pool2d(x, 1) + nn.functional.adaptive_max_pool2d(x, 1)).flatten(1),
        nn.Linear(4, 2),
    ),
    r"and 5x1 for an image twice as wide": lambda: Pooled(lambda x: x.permute(0, 2, 3, 1).flatten(1), nn.Linear(64, 2)),
    r"reduces 4 rows or columns to 6": lambda: Pooled(
        nn.Sequential(nn.AdaptiveAvgPool2d(6), nn.Flatten()), nn.Linear(144, 2)
    ),
    r"'head.0' after its pool does not act on each position": lambda: averaged(nn.Softmax(-1), nn.Linear(4, 2)),
    r"flattens a 4x4 map, but no linear layer takes it": lambda: Pooled(lambda x: x.flatten(1), nn.Identity()),
    r"logits that differ by": lambda: Pooled(lambda x: x.flatten(1), nn.Sequential(nn.Softmax(1), nn.Linear(64, 2))),
    r"takes only images of \(18, 18\) \(.*invalid for input": lambda: Pooled(
        lambda x: x.reshape(1, 4, 16).reshape(1, 4, 4, 4).mean([2, 3]), nn.Linear(4, 2)
    ),
    r"torch\.fx cannot trace the layers after its last map": lambda: averaged(Branching(), nn.Linear(4, 2)),
}


@pytest.mark.parametrize("reason", REFUSED)
def test_unsupported_classifier_raises_with_reason(reason, capfd):
    torch.manual_seed(0)
    with pytest.raises(InvalidArgumentError, match=f"cannot be converted to a fully convolutional network: .*{reason}"):
        convolutionalize(REFUSED[reason](), input_size=18)
    assert capfd.readouterr().err == ""


# The head


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
