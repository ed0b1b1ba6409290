"""A recorded graph as the bytes of an ONNX file."""

from typing import Any, cast

import torch
from torch import Tensor, nn

from pixelwise.errors import InvalidArgumentError, missing_extra
from pixelwise.lowering.graph import INPUT, capture

MAX_ONNX_BYTES = 2**31 - 1
"""What one ONNX file can hold, weights inside."""


def to_onnx(module: nn.Module, example: Tensor, *, outputs: tuple[str, ...], dynamic: tuple[int, ...]) -> bytes:
    """A module of one image tensor as an ONNX file, weights inside; opset 20, standard operators alone.

    Args:
        module: such as `LogitsGraph` or `AnswerGraph`.
        example: see `graph.capture`, as for `dynamic`.
        outputs: their names in the file; its input is `images`.

    Raises:
        InvalidArgumentError: without the extra `onnx`, or where the weights exceed 2 GB.
    """
    try:
        import onnx  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise missing_extra("writing ONNX", "onnx and onnxscript", "onnx") from error
    program = capture(module, example, dynamic=dynamic)
    if sum(t.numel() * t.element_size() for t in program.state_dict.values()) > MAX_ONNX_BYTES:
        raise InvalidArgumentError(
            "the weights exceed the 2 GB that one ONNX file can hold; choose the format torch-export, or the "
            "engine torch."
        )
    converted = torch.onnx.export(program, (), dynamo=True, input_names=[INPUT], output_names=outputs, verbose=False)
    assert converted is not None
    proto = converted.model_proto
    _drop_origins(proto)
    return cast(bytes, proto.SerializeToString(deterministic=True))


def _drop_origins(proto: Any) -> None:
    """Where in our source each node came from: file names of this machine, half of a small file."""
    for part in (proto.graph, *proto.graph.node, *proto.graph.value_info, *proto.graph.input, *proto.graph.output):
        part.ClearField("metadata_props")
        part.ClearField("doc_string")
