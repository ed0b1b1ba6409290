"""Which layers become int8, and that they do in the runtimes that read them."""

import io
import sys

import numpy as np
import pytest
import torch

from pixelwise.config import NetworkConfig
from pixelwise.errors import InvalidArgumentError
from pixelwise.inference.engines import Source, with_network
from pixelwise.lowering.graph import OUTPUTS, AnswerGraph, LogitsGraph
from pixelwise.lowering.int8 import get_quantizer_versions, quantize_graph, select_nodes
from pixelwise.lowering.onnx import to_onnx
from pixelwise.networks import Segmenter, build_network

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

KINDS = [
    pytest.param(("unet", {"base_channels": 4, "depth": 1}, "uint8"), id="unet"),
    # Translating it takes seconds.
    pytest.param(("segnet-basic", {"base_channels": 4}, "uint16"), id="segnet", marks=pytest.mark.slow),
]


def answer_of(name, choices, dtype="uint8", channels=3, num_classes=3):
    """A folded graph of a network with fresh weights, as ONNX."""
    torch.manual_seed(0)
    network = build_network(NetworkConfig(name=name, **choices), in_channels=channels, num_classes=num_classes)
    module = Segmenter(network, mean=[100.0] * channels, std=[50.0] * channels).eval()
    folded = with_network(module, Source(module=module, channels=channels).folded("fp32"))
    example = torch.zeros(2, 77, 93, channels, dtype=getattr(torch, dtype))
    graph = AnswerGraph(LogitsGraph(folded), num_classes=num_classes)
    return to_onnx(graph, example, outputs=OUTPUTS, dynamic=(0, 1, 2))


def images_of(dtype, channels=3):
    """(1, H, W, C) of several sizes, about the mean that the network takes off."""
    rng = np.random.default_rng(0)
    return [rng.integers(0, 200, (1, height, 37, channels)).astype(dtype) for height in (24, 41, 32)]


def run(content, images):
    import onnxruntime

    return onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"]).run(None, {"images": images})


def types_of(proto):
    """Operator → the integer types of its weights as stored; of a layer in float32 none."""
    scaled = {node.output[0]: node.input[0] for node in proto.graph.node if node.op_type == "DequantizeLinear"}
    stored = {tensor.name: tensor.data_type for tensor in proto.graph.initializer}
    layers = [node for node in proto.graph.node if node.op_type in ("Conv", "ConvTranspose")]
    return [stored.get(scaled.get(node.input[1])) for node in layers]


@pytest.fixture(scope="module", params=KINDS)
def kind(request):
    """A graph, the same in int8, and the images whose values set its scales."""
    name, choices, dtype = request.param
    content = answer_of(name, choices, dtype)
    return content, quantize_graph(content, images_of(dtype)), images_of(dtype)


def test_inner_layers_hold_int8_and_the_first_and_last_stay_float(kind):
    first, *inner, last = types_of(onnx.load_model_from_string(kind[1]))
    assert (first, last) == (None, None)
    assert inner
    assert set(inner) == {onnx.TensorProto.INT8}


def test_it_gives_what_the_graph_gives_up_to_the_steps_of_8_bits(kind):
    content, made, images = kind
    for image in images:
        (_, expected), (labels, logits) = run(content, image), run(made, image)
        assert labels.shape == image.shape[:3]
        assert 0 < np.abs(logits - expected).mean() < 0.1 * np.abs(expected).max()


def test_equal_images_give_equal_bytes_that_name_no_file_and_no_foreign_operator(kind):
    content, made, images = kind
    assert quantize_graph(content, images) == made
    assert b".py" not in made
    assert {node.domain for node in onnx.load_model_from_string(made).graph.node} == {""}


def test_openvino_computes_them_in_8_bits(kind):
    openvino = pytest.importorskip("openvino")
    core = openvino.Core()
    compiled = core.compile_model(core.read_model(io.BytesIO(kind[1])), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    found = [
        str(node.get_rt_info()["runtimePrecision"].astype(str))
        for node in compiled.get_runtime_model().get_ops()
        if node.get_rt_info()["layerType"].astype(str) == "Convolution"
    ]
    assert sum(precision in ("u8", "i8") for precision in found) >= len(found) - 2, found


def graph_of(*nodes, weights=("w",)):
    made = [onnx.helper.make_node(op, inputs, [name], name=name, **more) for name, op, inputs, more in nodes]
    tensors = [onnx.numpy_helper.from_array(np.zeros(1, np.float32), name) for name in weights]
    return onnx.helper.make_graph(made, "graph", [], [], tensors)


def test_only_what_lies_between_layers_is_taken():
    graph = graph_of(
        ("before", "Add", ["images", "images"], {}),
        ("first", "Conv", ["before", "w"], {}),
        ("relu", "Relu", ["first"], {}),
        ("inner", "Conv", ["relu", "w"], {}),
        ("slice", "Slice", ["inner"], {}),
        ("product", "MatMul", ["slice", "relu"], {}),  # of two maps: it has no weights
        ("last", "Conv", ["product", "w"], {}),
        ("after", "Add", ["last", "last"], {}),
    )
    assert select_nodes(graph) == ["relu", "inner"]


def test_a_transposed_convolution_by_groups_stays_float():
    graph = graph_of(
        ("first", "Conv", ["images", "w"], {}),
        ("inner", "Conv", ["first", "w"], {"group": 3}),
        ("up", "ConvTranspose", ["inner", "w"], {"group": 3}),
        ("last", "Conv", ["up", "w"], {}),
    )
    assert select_nodes(graph) == ["inner"]


def test_a_network_without_inner_layers_is_refused():
    graph = graph_of(("first", "Conv", ["images", "w"], {}), ("last", "Conv", ["first", "w"], {}))
    with pytest.raises(InvalidArgumentError, match=r"no layer between its first and its last.* another precision"):
        select_nodes(graph)


@pytest.mark.parametrize("absent", ["onnx", "onnxruntime"])
def test_a_missing_quantizer_is_named(monkeypatch, absent):
    monkeypatch.setitem(sys.modules, absent, None)
    with pytest.raises(InvalidArgumentError, match=r'int8 needs .*pip install "pixelwise\[onnx\]"'):
        get_quantizer_versions()


def weight_bytes(content):
    import onnx

    return sum(len(tensor.raw_data) for tensor in onnx.load_model_from_string(content).graph.initializer)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "choices"),
    [
        ("unet", {"encoder": "resnet18"}),
        ("unet", {"base_channels": 16, "depth": 2, "upsampling": "switches", "skips": "add"}),
        ("unet-paper", {"base_channels": 4}),
        ("segnet", {"base_channels": 4}),
        ("fcn", {"encoder": "resnet18"}),
    ],
)
def test_every_kind_of_network(name, choices):
    content = answer_of(name, choices, "float32", channels=4)
    made = quantize_graph(content, images_of("float32", channels=4))
    assert weight_bytes(made) < 0.45 * weight_bytes(content)
    (image, *_) = images_of("float32", channels=4)
    (_, expected), (_, logits) = run(content, image), run(made, image)
    assert np.abs(logits - expected).mean() <= 0.1 * np.abs(expected).max()
