"""Convert captured graphs to ONNX and join ONNX graphs."""

from typing import Any, cast

import torch
from torch import Tensor, nn

from pixelwise.errors import InvalidArgumentError, missing_extra
from pixelwise.lowering.graph import INPUT, OUTPUTS, capture

MAX_ONNX_BYTES = 2**31 - 1
"""Size limit of one ONNX file with its weights inside."""


def to_onnx(module: nn.Module, example: Tensor, *, outputs: tuple[str, ...], dynamic: tuple[int, ...]) -> bytes:
    """Convert a module to an ONNX file of opset 20 with weights inside and standard operators only.

    Args:
        module: takes one tensor, as `LogitsGraph` and `AnswerGraph` do.
        example: example input, see `graph.capture`.
        outputs: names of the outputs in the file; the input is named `images`.
        dynamic: dimensions of the input that may change, see `graph.capture`.

    Raises:
        InvalidArgumentError: the extra `onnx` is not installed, or the weights exceed 2 GB.
    """
    try:
        import onnx  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise missing_extra("writing ONNX", "onnx and onnxscript", "onnx") from error
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


def join_answer(frame_graph: bytes, network_graph: bytes, *, num_classes: int) -> bytes:
    """Join ONNX graphs to one that gives the outputs of `AnswerGraph`: labels and logits.

    Args:
        frame_graph: from pixels (B, H, W, C) to frames, see `FrameGraph`.
        network_graph: from frames to the network's output, see `NetworkGraph`.
    """
    import onnx
    from onnx import TensorProto, helper

    before, network = onnx.load_model_from_string(frame_graph), onnx.load_model_from_string(network_graph)
    before.ir_version = network.ir_version
    (output,) = (node.name for node in network.graph.output)
    joined = onnx.compose.merge_models(
        before, network, io_map=[(before.graph.output[0].name, INPUT)], prefix2="network/"
    )
    labels, logits = OUTPUTS
    label_type = TensorProto.UINT8 if num_classes <= 256 else TensorProto.UINT16
    joined.graph.initializer.extend(
        [
            helper.make_tensor("answer/zeros", TensorProto.INT64, [2], [0, 0]),
            helper.make_tensor("answer/axes", TensorProto.INT64, [2], [2, 3]),
        ]
    )
    joined.graph.node.extend(
        [
            helper.make_node("Shape", [INPUT], ["answer/size"], start=1, end=3),
            helper.make_node("Slice", [f"network/{output}", "answer/zeros", "answer/size", "answer/axes"], [logits]),
            helper.make_node("ArgMax", [logits], ["answer/classes"], axis=1, keepdims=0),
            helper.make_node("Cast", ["answer/classes"], [labels], to=label_type),
        ]
    )
    dims = joined.graph.input[0].type.tensor_type.shape.dim
    batch, height, width = (dim.dim_param for dim in dims[:3])
    del joined.graph.output[:]
    joined.graph.output.extend(
        [
            helper.make_tensor_value_info(labels, label_type, [batch, height, width]),
            helper.make_tensor_value_info(logits, TensorProto.FLOAT, [batch, num_classes, height, width]),
        ]
    )
    return cast(bytes, joined.SerializeToString(deterministic=True))


def _drop_origins(proto: Any) -> None:
    """Remove where in our source each node came from: local file names, half of a small file."""
    for part in (proto.graph, *proto.graph.node, *proto.graph.value_info, *proto.graph.input, *proto.graph.output):
        part.ClearField("metadata_props")
        part.ClearField("doc_string")
