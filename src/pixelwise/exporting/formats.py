"""The forms of file that a graph is written as, and how each is run on the CPU to be checked."""

import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from pixelwise.data.io.images import Array
from pixelwise.errors import missing_extra
from pixelwise.lowering.graph import INPUT, OUTPUTS, AnswerGraph, capture
from pixelwise.lowering.onnx import to_onnx

FormatName = Literal["onnx", "openvino", "torch-export"]

Run = Callable[[Array], tuple[Array, ...]]
"""(B, H, W, C) → what the graph gives, in the order of `OUTPUTS`."""

Change = Callable[[bytes], bytes]
"""What becomes of a graph as ONNX before it is written, such as int8."""


def unchanged(onnx_file: bytes) -> bytes:
    return onnx_file


@dataclass(frozen=True, slots=True, kw_only=True)
class Format:
    """One row of FORMATS."""

    ending: str
    write: Callable[[AnswerGraph, Tensor, Path, Path, Change], None]
    """A graph and an example of its input → a file that gives labels and logits, and one of labels alone."""
    read: Callable[[Path], Run]
    versions: Callable[[], Mapping[str, str]]
    """Of the packages it needs; InvalidArgumentError where one is absent."""
    beside: tuple[str, ...] = ()
    """Endings of further files that belong to it."""
    through_onnx: bool = True
    """Whether it is made of ONNX, and so can be changed there."""


def _write_onnx(graph: AnswerGraph, example: Tensor, full: Path, labels: Path, change: Change) -> None:
    for path, content in zip((full, labels), _both_onnx(graph, example, change), strict=True):
        path.write_bytes(content)


def _both_onnx(graph: AnswerGraph, example: Tensor, change: Change) -> tuple[bytes, bytes]:
    """With and without the logits: translating takes seconds, leaving an output out does not."""
    full = change(to_onnx(graph, example, outputs=OUTPUTS, dynamic=(0, 1, 2)))
    import onnx

    proto = onnx.load_model_from_string(full)
    del proto.graph.output[1:]
    return full, proto.SerializeToString(deterministic=True)


def _read_onnx(path: Path) -> Run:
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return lambda images: tuple(session.run(None, {INPUT: images}))


def _onnx_versions() -> Mapping[str, str]:
    try:
        import onnx
        import onnxruntime
        import onnxscript
    except ImportError as error:
        raise missing_extra("ONNX", "onnx, onnxscript and onnxruntime", "onnx") from error
    return {module.__name__: module.__version__ for module in (onnx, onnxruntime, onnxscript)}


def _write_openvino(graph: AnswerGraph, example: Tensor, full: Path, labels: Path, change: Change) -> None:
    openvino = _openvino()
    for path, content in zip((full, labels), _both_onnx(graph, example, change), strict=True):
        model = openvino.Core().read_model(io.BytesIO(content))
        openvino.save_model(model, path, compress_to_fp16=False)


def _read_openvino(path: Path) -> Run:
    """In float32 whatever the processor has: what a graph says is checked, not what a machine makes of it."""
    model = _openvino().Core().compile_model(path, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})

    def run(images: Array) -> tuple[Array, ...]:
        found = model([images])
        return tuple(found[output] for output in model.outputs)

    return run


def _openvino() -> Any:
    try:
        import onnx  # noqa: F401
        import onnxscript  # noqa: F401
        import openvino
    except ImportError as error:
        raise missing_extra("OpenVINO", "openvino, onnx and onnxscript", "openvino") from error
    return openvino


def _write_torch(graph: AnswerGraph, example: Tensor, full: Path, labels: Path, change: Change) -> None:
    assert change is unchanged
    for path, graph.with_logits in ((full, True), (labels, False)):
        torch.export.save(capture(graph, example, dynamic=(0, 1, 2)), path)


def _read_torch(path: Path) -> Run:
    module = torch.export.load(path).module()

    def run(images: Array) -> tuple[Array, ...]:
        with torch.inference_mode():
            return tuple(found.numpy() for found in module(torch.from_numpy(np.ascontiguousarray(images))))

    return run


FORMATS: Mapping[FormatName, Format] = {
    "onnx": Format(ending=".onnx", write=_write_onnx, read=_read_onnx, versions=_onnx_versions),
    "openvino": Format(
        ending=".xml",
        write=_write_openvino,
        read=_read_openvino,
        versions=lambda: {"openvino": _openvino().__version__},
        beside=(".bin",),
    ),
    "torch-export": Format(ending=".pt2", write=_write_torch, read=_read_torch, versions=dict, through_onnx=False),
}
