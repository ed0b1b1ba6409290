"""Convert captured graphs to ONNX and join ONNX graphs."""

from typing import Any, cast

import torch
from torch import Tensor, nn

from pixelwise.errors import InvalidArgumentError, describe_cause
from pixelwise.lowering.capture import capture
from pixelwise.lowering.graph import INPUT
from pixelwise.networks.segmenter import DecisionRule

MAX_ONNX_BYTES = 2**31 - 1
"""Size limit of one ONNX file with its weights inside."""

OLDEST_OPSET = 17
"""Opset of ONNX 1.12 with IR 8, which runtimes have read since 2022."""
_CONVERTED_OPSET = 18
"""The oldest opset that PyTorch writes."""


def to_onnx(module: nn.Module, example: Tensor, *, outputs: tuple[str, ...], dynamic: tuple[int, ...]) -> bytes:
    """Convert a module to an ONNX file of opset 18 with weights inside and standard operators only.

    Args:
        module: takes one tensor, as the graphs of `lowering.graph` do.
        example: example input, see `capture`.
        outputs: names of the outputs in the file; the input is named `images`.
        dynamic: dimensions of the input that may change, see `capture`.

    Raises:
        InvalidArgumentError: the weights exceed 2 GB.
    """
    program = capture(module, example, dynamic=dynamic)
    if sum(t.numel() * t.element_size() for t in program.state_dict.values()) > MAX_ONNX_BYTES:
        raise InvalidArgumentError(
            "The weights exceed 2 GB, the limit of one ONNX file. Use the format torch-export or the engine torch."
        )
    names: dict[str, Any] = {"input_names": [INPUT], "output_names": outputs}
    converted = torch.onnx.export(program, (), dynamo=True, opset_version=_CONVERTED_OPSET, verbose=False, **names)
    assert converted is not None
    proto = converted.model_proto
    _drop_origins(proto)
    return cast(bytes, proto.SerializeToString(deterministic=True))


def join_graphs(
    frame_graph: bytes,
    network_graph: bytes,
    *,
    num_classes: int,
    rule: DecisionRule = DecisionRule(),  # noqa: B008 - immutable
) -> bytes:
    """Join ONNX graphs to one that gives the outputs of `LabelGraph`: labels and logits.

    Args:
        frame_graph: from pixels (B, H, W, C) to frames, see `FrameGraph`.
        network_graph: from frames to the network's output, see `NetworkGraph`.
        rule: how logits become labels.
    """
    import onnx

    before, network = onnx.load_model_from_string(frame_graph), onnx.load_model_from_string(network_graph)
    before.ir_version = network.ir_version
    _get_opset(before).version = _get_opset(network).version
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
            {_format_rule(rule)}
            labels = Cast <to = {type_number}> (answer_classes)
        }}
    """)
    joined.graph.initializer.extend(tail.initializer)
    joined.graph.node.extend(tail.node)
    del joined.graph.output[:]
    joined.graph.output.extend(tail.output)
    return cast(bytes, joined.SerializeToString(deterministic=True))


def _format_rule(rule: DecisionRule) -> str:
    """Return `DecisionRule.assign_labels` in the text form of ONNX, from `logits` to `answer_classes`."""
    if rule.threshold is None:
        return "answer_classes = ArgMax <axis = 1, keepdims = 0> (logits)"
    return f"""
            answer_first = Constant <value_int = {rule.foreground}> ()
            answer_second = Constant <value_int = {1 - rule.foreground}> ()
            answer_limit = Constant <value_float = {rule.min_margin!r}> ()
            answer_foreground = Gather <axis = 1> (logits, answer_first)
            answer_background = Gather <axis = 1> (logits, answer_second)
            answer_margin = Sub (answer_foreground, answer_background)
            answer_above = GreaterOrEqual (answer_margin, answer_limit)
            answer_classes = {"Identity" if rule.foreground else "Not"} (answer_above)"""


def set_opset(content: bytes, opset: int | None = None) -> bytes:
    """Return the same graph in another opset; None: the oldest one, from 17 on, that has all its operators.

    Raises:
        InvalidArgumentError: The graph has an operator, or a form of one, that the opset does not have.
    """
    import onnx

    proto = onnx.load_model_from_string(content)
    reason = ""
    for candidate in (opset,) if opset is not None else range(OLDEST_OPSET, _get_opset(proto).version + 1):
        changed = onnx.ModelProto()
        changed.CopyFrom(proto)
        try:
            _lower_nodes(changed, candidate)
            _get_opset(changed).version = candidate
            changed.ir_version = onnx.helper.find_min_ir_version_for(changed.opset_import)
            onnx.checker.check_model(changed, full_check=True)
            return cast(bytes, changed.SerializeToString(deterministic=True))
        except (
            ValueError,
            onnx.checker.ValidationError,
            onnx.defs.SchemaError,
            onnx.shape_inference.InferenceError,
        ) as error:
            reason = describe_cause(error)
    raise InvalidArgumentError(
        f"The network cannot be written in opset {opset} ({reason}). Omit --opset for the oldest."
    )


def _lower_nodes(proto: Any, opset: int) -> None:
    """Give nodes the form of an older opset: without attributes that change nothing, and axes as an attribute."""
    import onnx

    current = _get_opset(proto).version
    constants = {tensor.name: tensor for tensor in proto.graph.initializer}
    for node in proto.graph.node:
        old, new = (onnx.defs.get_schema(node.op_type, version, node.domain) for version in (opset, current))
        for attribute in list(node.attribute):
            default = new.attributes[attribute.name].default_value
            if attribute.name not in old.attributes and attribute.SerializeToString() == default.SerializeToString():
                node.attribute.remove(attribute)
        if len(node.input) == 2 and old.max_input == 1 and "axes" in old.attributes and node.input[1] in constants:
            axes = onnx.numpy_helper.to_array(constants[node.input[1]]).tolist()
            node.attribute.append(onnx.helper.make_attribute("axes", axes))
            del node.input[1]


def drop_logits(content: bytes) -> bytes:
    """Return a graph of labels and logits without the logits; converting the model again takes seconds."""
    import onnx

    proto = onnx.load_model_from_string(content)
    del proto.graph.output[1:]
    return cast(bytes, proto.SerializeToString(deterministic=True))


def _get_opset(proto: Any) -> Any:
    """Return the entry of the standard operators."""
    return next(entry for entry in proto.opset_import if entry.domain in ("", "ai.onnx"))


def _drop_origins(proto: Any) -> None:
    """Remove where in our source each node came from: local file names, half of a small file."""
    for part in (proto.graph, *proto.graph.node, *proto.graph.value_info, *proto.graph.input, *proto.graph.output):
        part.ClearField("metadata_props")
        part.ClearField("doc_string")
