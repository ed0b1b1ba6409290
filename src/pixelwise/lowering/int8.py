"""Quantize ONNX graphs to int8, with activation ranges from example inputs.

Weights are int8, symmetric, with one scale per channel. Activations are uint8 with a fixed scale and zero point, from
the smallest and largest value on the inputs (static quantization; Jacob et al., "Quantization and Training of Neural
Networks", CVPR 2018). The graph holds pairs of the standard operators QuantizeLinear and DequantizeLinear, which ONNX
Runtime and OpenVINO both turn into int8 layers.
"""

import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, cast

from pixelwise.data.io.images import Array
from pixelwise.errors import InvalidArgumentError
from pixelwise.lowering.graph import INPUT

WEIGHTED_OPS = ("Conv", "ConvTranspose", "Gemm", "MatMul")
"""Operators with weights, which take nearly all of the time."""
CONNECTING_OPS = ("Add", "Concat", "MaxPool", "Relu", "Resize")
"""Operators that can stay in int8 between two layers."""


def quantize_graph(onnx_file: bytes, inputs: Iterable[Array]) -> bytes:
    """Return the graph with its inner layers in int8.

    The first and last layers stay in float32: they cost little, and rounding the image and the logits hurts most.

    Args:
        onnx_file: a graph with one input `images` and batch normalization folded.
        inputs: example inputs of any sizes, run one at a time.

    Raises:
        InvalidArgumentError: no layer is between the first and the last.
    """
    import onnx
    from onnxruntime import quantization
    from onnxruntime.quantization import quant_utils

    class ExampleReader(quantization.CalibrationDataReader):  # type: ignore[misc]  # it has no types
        def __init__(self, examples: Iterator[Array]) -> None:
            self._examples = examples

        def get_next(self) -> dict[str, Array] | None:
            example = next(self._examples, None)
            return None if example is None else {INPUT: example}

    proto = onnx.load_model_from_string(onnx_file)
    nodes = select_nodes(proto.graph)
    # The quantizer warns about graphs without its own preprocessing; this graph is folded and has its shapes.
    quant_utils.add_pre_process_metadata(proto)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "int8.onnx"
        quantization.quantize_static(
            proto,
            path,
            ExampleReader(iter(inputs)),
            quant_format=quantization.QuantFormat.QDQ,
            op_types_to_quantize=[*WEIGHTED_OPS, *CONNECTING_OPS],
            nodes_to_quantize=nodes,
            per_channel=True,
            activation_type=quantization.QuantType.QUInt8,
            weight_type=quantization.QuantType.QInt8,
        )
        quantized = onnx.load(path)
    quantized.ClearField("metadata_props")
    return cast(bytes, quantized.SerializeToString(deterministic=True))


def select_nodes(graph: Any) -> list[str]:
    """Return the names of the layers that are neither first nor last, and of the operators between them.

    No other layer precedes a first layer, none follows a last one. Nodes of the graph are in topological order.
    """
    weights = {tensor.name for tensor in graph.initializer}
    layers = {node.name for node in graph.node if _is_layer(node, weights)}
    after = _find_connected(graph.node, layers)
    before = _find_connected(reversed(graph.node), layers, backward=True)
    inner = [node for node in graph.node if node.name in after & before]
    if not any(node.name in layers for node in inner):
        raise InvalidArgumentError(
            "The network has no layer between its first and its last one, which stay in float32, so nothing can be "
            "quantized. Use another precision."
        )
    return [node.name for node in inner if node.name in layers or node.op_type in CONNECTING_OPS]


def _is_layer(node: Any, weights: set[str]) -> bool:
    """Return whether the node has weights with one scale per output channel; a grouped ConvTranspose has not."""
    if node.op_type not in WEIGHTED_OPS or node.input[1] not in weights:
        return False
    groups = next((attribute.i for attribute in node.attribute if attribute.name == "group"), 1)
    return node.op_type != "ConvTranspose" or groups == 1


def _find_connected(nodes: Iterable[Any], layers: set[str], *, backward: bool = False) -> set[str]:
    """Return the names of the nodes after a layer, or with `backward` before one."""
    connected: set[str] = set()
    tensors: set[str] = set()
    for node in nodes:
        arriving, leaving = (node.output, node.input) if backward else (node.input, node.output)
        if not tensors.isdisjoint(arriving):
            connected.add(node.name)
        if node.name in connected or node.name in layers:
            tensors.update(leaving)
    return connected
