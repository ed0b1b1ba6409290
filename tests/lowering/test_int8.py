"""Which layers become int8, in the graph and in the runtimes."""

import io

import numpy as np
import pytest
import torch

from pixelwise.config import NetworkConfig
from pixelwise.errors import InvalidArgumentError
from pixelwise.inference.engines import NetworkSource, replace_network
from pixelwise.lowering.graph import OUTPUTS, LabelGraph
from pixelwise.lowering.int8 import quantize_graph, select_nodes
from pixelwise.lowering.onnx import to_onnx
from pixelwise.networks import Segmenter, build_network

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

NETWORKS = [
    pytest.param(("unet", {"base_channels": 4, "depth": 1}, "uint8"), id="unet"),
    # Its export takes seconds.
    pytest.param(("segnet-basic", {"base_channels": 4}, "uint16"), id="segnet", marks=pytest.mark.slow),
]


def build_answer_graph(name, choices, dtype="uint8", channels=3, num_classes=3):
    """Return ONNX of a network with random weights, batch normalization folded."""
    torch.manual_seed(0)
    network = build_network(NetworkConfig(name=name, **choices), in_channels=channels, num_classes=num_classes)
    module = Segmenter(network, mean=[100.0] * channels, std=[50.0] * channels).eval()
    folded = replace_network(module, NetworkSource(module=module, channels=channels).optimize("fp32"))
    example = torch.zeros(2, 77, 93, channels, dtype=getattr(torch, dtype))
    graph = LabelGraph(folded, num_classes=num_classes)
    return to_onnx(graph, example, outputs=OUTPUTS, dynamic=(0, 1, 2))


def make_images(dtype, channels=3):
    """Return images (1, H, W, C) of several sizes, near the mean of the network."""
    rng = np.random.default_rng(0)
    return [rng.integers(0, 200, (1, height, 37, channels)).astype(dtype) for height in (24, 41, 32)]


def run(content, images):
    import onnxruntime

    return onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"]).run(None, {"images": images})


def list_weight_types(proto):
    """Return the stored weight type of each layer; None for float32."""
    scaled = {node.output[0]: node.input[0] for node in proto.graph.node if node.op_type == "DequantizeLinear"}
    stored = {tensor.name: tensor.data_type for tensor in proto.graph.initializer}
    layers = [node for node in proto.graph.node if node.op_type in ("Conv", "ConvTranspose")]
    return [stored.get(scaled.get(node.input[1])) for node in layers]


@pytest.fixture(scope="module", params=NETWORKS)
def quantized(request):
    """Return a graph, the same graph in int8, and the images of its activation ranges."""
    name, choices, dtype = request.param
    content = build_answer_graph(name, choices, dtype)
    return content, quantize_graph(content, make_images(dtype)), make_images(dtype)


def test_inner_layers_are_int8_and_the_first_and_last_are_float(quantized):
    first, *inner, last = list_weight_types(onnx.load_model_from_string(quantized[1]))
    assert (first, last) == (None, None)
    assert inner
    assert set(inner) == {onnx.TensorProto.INT8}


def test_outputs_equal_the_graph_up_to_8_bits(quantized):
    content, int8, images = quantized
    for image in images:
        (_, expected), (labels, logits) = run(content, image), run(int8, image)
        assert labels.shape == image.shape[:3]
        assert 0 < np.abs(logits - expected).mean() < 0.1 * np.abs(expected).max()


def test_equal_images_give_equal_bytes_without_local_paths_and_custom_operators(quantized):
    content, int8, images = quantized
    assert quantize_graph(content, images) == int8
    assert b".py" not in int8
    assert {node.domain for node in onnx.load_model_from_string(int8).graph.node} == {""}


def test_openvino_computes_in_8_bits(quantized):
    openvino = pytest.importorskip("openvino")
    core = openvino.Core()
    compiled = core.compile_model(core.read_model(io.BytesIO(quantized[1])), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    precisions = [
        str(node.get_rt_info()["runtimePrecision"].astype(str))
        for node in compiled.get_runtime_model().get_ops()
        if node.get_rt_info()["layerType"].astype(str) == "Convolution"
    ]
    assert sum(precision in ("u8", "i8") for precision in precisions) >= len(precisions) - 2, precisions


def make_graph(*descriptions, weights=("w",)):
    nodes = [onnx.helper.make_node(op, inputs, [name], name=name, **more) for name, op, inputs, more in descriptions]
    tensors = [onnx.numpy_helper.from_array(np.zeros(1, np.float32), name) for name in weights]
    return onnx.helper.make_graph(nodes, "graph", [], [], tensors)


def test_only_nodes_between_layers_are_selected():
    graph = make_graph(
        ("before", "Add", ["images", "images"], {}),
        ("first", "Conv", ["before", "w"], {}),
        ("relu", "Relu", ["first"], {}),
        ("inner", "Conv", ["relu", "w"], {}),
        ("slice", "Slice", ["inner"], {}),
        ("product", "MatMul", ["slice", "relu"], {}),  # has no weights
        ("last", "Conv", ["product", "w"], {}),
        ("after", "Add", ["last", "last"], {}),
    )
    assert select_nodes(graph) == ["relu", "inner"]


def test_a_grouped_transposed_convolution_stays_float():
    graph = make_graph(
        ("first", "Conv", ["images", "w"], {}),
        ("inner", "Conv", ["first", "w"], {"group": 3}),
        ("up", "ConvTranspose", ["inner", "w"], {"group": 3}),
        ("last", "Conv", ["up", "w"], {}),
    )
    assert select_nodes(graph) == ["inner"]


def test_a_network_without_inner_layers_is_an_error():
    graph = make_graph(("first", "Conv", ["images", "w"], {}), ("last", "Conv", ["first", "w"], {}))
    with pytest.raises(InvalidArgumentError, match=r"no layer between its first and its last.* another precision"):
        select_nodes(graph)


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
    content = build_answer_graph(name, choices, "float32", channels=4)
    int8 = quantize_graph(content, make_images("float32", channels=4))
    assert weight_bytes(int8) < 0.45 * weight_bytes(content)
    (image, *_) = make_images("float32", channels=4)
    (_, expected), (_, logits) = run(content, image), run(int8, image)
    assert np.abs(logits - expected).mean() <= 0.1 * np.abs(expected).max()
