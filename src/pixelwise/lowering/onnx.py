"""Convert captured graphs to ONNX and join ONNX graphs."""

from typing import Any, cast

import torch
from torch import Tensor, nn

from pixelwise.errors import InvalidArgumentError
from pixelwise.lowering.graph import INPUT, capture

MAX_ONNX_BYTES = 2**31 - 1
"""Size limit of one ONNX file with its weights inside."""


def to_onnx(module: nn.Module, example: Tensor, *, outputs: tuple[str, ...], dynamic: tuple[int, ...]) -> bytes:
    """Convert a module to an ONNX file of opset 20 with weights inside and standard operators only.

    Args:
        module: takes one tensor, as the graphs of `lowering.graph` do.
        example: example input, see `graph.capture`.
        outputs: names of the outputs in the file; the input is named `images`.
        dynamic: dimensions of the input that may change, see `graph.capture`.

    Raises:
        InvalidArgumentError: the weights exceed 2 GB.
    """
    program = capture(module, example, dynamic=dynamic)
    if sum(t.numel() * t.element_size() for t in program.state_dict.values()) > MAX_ONNX_BYTES:
        raise InvalidArgumentError(
            "The weights exceed 2 GB, the limit of one ONNX file. Use the format torch-export or the engine torch."
        )
    converted = torch.onnx.export(program, (), dynamo=True, input_names=[INPUT], output_names=outputs, verbose=False)
    assert converted is not None
    proto = converted.model_proto
    _drop_origins(proto)
    return cast(bytes, proto.SerializeToString(deterministic=True))


def join_graphs(frame_graph: bytes, network_graph: bytes, *, num_classes: int) -> bytes:
    """Join ONNX graphs to one that gives the outputs of `LabelGraph`: labels and logits.

    Args:
        frame_graph: from pixels (B, H, W, C) to frames, see `FrameGraph`.
        network_graph: from frames to the network's output, see `NetworkGraph`.
    """
    import onnx

    before, network = onnx.load_model_from_string(frame_graph), onnx.load_model_from_string(network_graph)
    before.ir_version = network.ir_version
    joined = onnx.compose.merge_models(
        before, network, io_map=[(before.graph.output[0].name, INPUT)], prefix2="network_"
    )
    batch, height, width = (dim.dim_param for dim in joined.graph.input[0].type.tensor_type.shape.dim[:3])
    label_type, type_number = ("uint8", 2) if num_classes <= 256 else ("uint16", 4)
    tail = onnx.parser.parse_graph(f"""
        answer (float[B, K, h, w] output) => (
            {label_type}[{batch}, {height}, {width}] labels, float[{batch}, {num_classes}, {height}, {width}] logits
        ) <int64[2] answer_zeros = {{0, 0}}, int64[2] answer_axes = {{2, 3}}> {{
            answer_size = Shape <start = 1, end = 3> ({INPUT})
            logits = Slice ({joined.graph.output[0].name}, answer_zeros, answer_size, answer_axes)
            answer_classes = ArgMax <axis = 1, keepdims = 0> (logits)
            labels = Cast <to = {type_number}> (answer_classes)
        }}
    """)
    joined.graph.initializer.extend(tail.initializer)
    joined.graph.node.extend(tail.node)
    del joined.graph.output[:]
    joined.graph.output.extend(tail.output)
    return cast(bytes, joined.SerializeToString(deterministic=True))


def drop_logits(content: bytes) -> bytes:
    """Return a graph of labels and logits without the logits; converting the model again takes seconds."""
    import onnx

    proto = onnx.load_model_from_string(content)
    del proto.graph.output[1:]
    return cast(bytes, proto.SerializeToString(deterministic=True))


def _drop_origins(proto: Any) -> None:
    """Remove where in our source each node came from: local file names, half of a small file."""
    for part in (proto.graph, *proto.graph.node, *proto.graph.value_info, *proto.graph.input, *proto.graph.output):
        part.ClearField("metadata_props")
        part.ClearField("doc_string")
