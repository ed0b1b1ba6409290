"""A graph in int8: the layers of its network in whole numbers, with scales found on images.

Weights are int8, symmetric, with one scale a channel; what passes between layers is uint8, whose scale
and zero are fixed by the smallest and largest value that the images gave (static quantization; Jacob et
al., "Quantization and Training of Neural Networks", CVPR 2018). The file says so by pairs of the standard
operators QuantizeLinear and DequantizeLinear, which ONNX Runtime and OpenVINO both read as int8 layers.
"""

import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, cast

from pixelwise.data.io.images import Array
from pixelwise.errors import InvalidArgumentError, missing_extra
from pixelwise.lowering.graph import INPUT

LAYERS = ("Conv", "ConvTranspose", "Gemm", "MatMul")
"""Operators with weights, where nearly all the time goes."""
BETWEEN = ("Add", "Concat", "MaxPool", "Relu", "Resize")
"""Operators that take and give int8 where they stand between layers that do."""


def get_quantizer_versions() -> Mapping[str, str]:
    """InvalidArgumentError where ONNX Runtime, which holds the quantizer, is not installed."""
    try:
        import onnx
        import onnxruntime
    except ImportError as error:
        raise missing_extra("int8", "onnx and onnxruntime", "onnx") from error
    return {module.__name__: module.__version__ for module in (onnx, onnxruntime)}


def quantize_graph(onnx_file: bytes, inputs: Iterable[Array]) -> bytes:
    """The same graph with its inner layers in int8.

    The first layers and the last stay in float32, and so does all before and after them: normalization
    and the choice of the class. They cost little, and the image and the scores suffer most from steps.

    Args:
        onnx_file: a graph of `images`, its batch normalizations folded.
        inputs: arrays of any sizes, as the graph takes them; each is run alone.

    Raises:
        InvalidArgumentError: no layer lies between the first and the last.
    """
    import onnx
    from onnxruntime import quantization
    from onnxruntime.quantization import quant_utils

    proto = onnx.load_model_from_string(onnx_file)
    nodes = nodes_to_quantize(proto.graph)
    # The quantizer warns of graphs that were not prepared; ours is folded and has its shapes.
    quant_utils.add_pre_process_metadata(proto)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "int8.onnx"
        quantization.quantize_static(
            proto,
            path,
            _reader(inputs),
            quant_format=quantization.QuantFormat.QDQ,
            op_types_to_quantize=[*LAYERS, *BETWEEN],
            nodes_to_quantize=nodes,
            per_channel=True,
            activation_type=quantization.QuantType.QUInt8,
            weight_type=quantization.QuantType.QInt8,
        )
        made = onnx.load(path)
    made.ClearField("metadata_props")
    return cast(bytes, made.SerializeToString(deterministic=True))


def nodes_to_quantize(graph: Any) -> list[str]:
    """Names of the layers that are neither first nor last, and of what stands between them.

    Of an ONNX graph, whose nodes are in the order of their computation. First is a layer on which no
    other one's output arrives, last one whose output arrives at no other.
    """
    weights = {tensor.name for tensor in graph.initializer}
    layers = {node.name for node in graph.node if _is_layer(node, weights)}
    after = _reached(graph.node, layers)
    before = _reached(reversed(graph.node), layers, backwards=True)
    inner = [node for node in graph.node if node.name in after & before]
    if not any(node.name in layers for node in inner):
        raise InvalidArgumentError(
            "the network has no layer between its first and its last, which stay in float32, so there is "
            "nothing to compute in int8; choose another precision."
        )
    return [node.name for node in inner if node.name in layers or node.op_type in BETWEEN]


def _is_layer(node: Any, weights: set[str]) -> bool:
    """Its weights are in the file, and not those of a transposed convolution by groups, which has no one scale
    for each channel it gives."""
    if node.op_type not in LAYERS or node.input[1] not in weights:
        return False
    groups = next((attribute.i for attribute in node.attribute if attribute.name == "group"), 1)
    return node.op_type != "ConvTranspose" or groups == 1


def _reached(nodes: Iterable[Any], layers: set[str], *, backwards: bool = False) -> set[str]:
    """Names of the nodes that depend on a layer; `backwards`, of those that a layer depends on."""
    found: set[str] = set()
    tensors: set[str] = set()
    for node in nodes:
        arriving, leaving = (node.output, node.input) if backwards else (node.input, node.output)
        if not tensors.isdisjoint(arriving):
            found.add(node.name)
        if node.name in found or node.name in layers:
            tensors.update(leaving)
    return found


def _reader(inputs: Iterable[Array]) -> Any:
    """Inputs as the quantizer asks for them."""
    from onnxruntime.quantization import CalibrationDataReader

    class Reader(CalibrationDataReader):  # type: ignore[misc]  # it ships no types
        def __init__(self, upcoming: Iterator[Array]) -> None:
            self._upcoming = upcoming

        def get_next(self) -> dict[str, Array] | None:
            one = next(self._upcoming, None)
            return None if one is None else {INPUT: one}

    return Reader(iter(inputs))
