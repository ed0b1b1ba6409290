"""The file formats of an export, and how each is run on the CPU to be checked."""

import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from pixelwise.data.io.images import Array
from pixelwise.inference.engines import EngineName
from pixelwise.lowering.graph import INPUT

FormatName = Literal["onnx", "openvino", "torch-export"]

Run = Callable[[Array], tuple[Array, ...]]
"""Images (B, H, W, C) to the outputs of a file, in the order of `OUTPUTS`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportFormat:
    """One row of FORMATS."""

    suffix: str
    read: Callable[[Path], Run]
    engine: EngineName
    """The engine that runs the file; its packages write it."""
    from_onnx: Callable[[bytes, Path], None] | None
    """Write a file from ONNX; None: the format is written by torch.export."""
    weights_suffix: str | None = None
    """Suffix of a separate file with the weights."""


def _write_onnx(content: bytes, path: Path) -> None:
    path.write_bytes(content)


def _read_onnx(path: Path) -> Run:
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return lambda images: tuple(session.run(None, {INPUT: images}))


def _write_openvino(content: bytes, path: Path) -> None:
    import openvino

    openvino.save_model(openvino.Core().read_model(io.BytesIO(content)), path, compress_to_fp16=False)


def _read_openvino(path: Path) -> Run:
    import openvino

    # In float32 on every processor: the file is checked, not the processor's arithmetic.
    model = openvino.Core().compile_model(path, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})

    def run(images: Array) -> tuple[Array, ...]:
        answers = model([images])
        return tuple(answers[output] for output in model.outputs)

    return run


def _read_torch(path: Path) -> Run:
    module = torch.export.load(path).module()

    def run(images: Array) -> tuple[Array, ...]:
        with torch.inference_mode():
            return tuple(answer.numpy() for answer in module(torch.from_numpy(np.ascontiguousarray(images))))

    return run


FORMATS: Mapping[FormatName, ExportFormat] = {
    "onnx": ExportFormat(suffix=".onnx", read=_read_onnx, engine="onnxruntime", from_onnx=_write_onnx),
    "openvino": ExportFormat(
        suffix=".xml", read=_read_openvino, engine="openvino", from_onnx=_write_openvino, weights_suffix=".bin"
    ),
    "torch-export": ExportFormat(suffix=".pt2", read=_read_torch, engine="torch", from_onnx=None),
}
