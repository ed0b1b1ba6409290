"""What computes a network: PyTorch, as it is or compiled, OpenVINO or ONNX Runtime, behind one seam.

An engine makes a module of a network: normalized frames (B, C, H, W) float32 of a legal size → the
network's own output. It stands in the network's place in a `Segmenter`, so normalization, padding,
tiles and batches are the same for all engines.
"""

import copy
import importlib
import importlib.metadata
import io
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from importlib.util import find_spec
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from pixelwise.devices import Precision
from pixelwise.errors import InvalidArgumentError, missing_extra, unknown_name
from pixelwise.inference.fuse_batchnorm import optimize_for_inference
from pixelwise.lowering.compile_errors import explain_compile_errors
from pixelwise.lowering.graph import INPUT, NetworkGraph
from pixelwise.lowering.onnx import to_onnx
from pixelwise.networks import Segmenter
from pixelwise.shapes import Size

EngineName = Literal["torch", "torch-compile", "openvino", "onnxruntime"]


@dataclass(frozen=True, kw_only=True)
class Source:
    """A trained network, and what several engines are made from."""

    module: Segmenter
    channels: int
    int8: bytes | None = None
    """The network in int8, as ONNX; see `int8.py`."""

    def graph(self, precision: Precision) -> bytes:
        """The network as ONNX, of which an engine makes what it computes."""
        if precision != "int8":
            return self.onnx
        assert self.int8 is not None
        return self.int8

    def optimize(self, precision: Precision) -> nn.Module:
        return optimize_for_inference(
            self.module.network, self._frame(512, 512), channels=self.channels, precision=precision
        )

    @cached_property
    def onnx(self) -> bytes:
        """The folded network in float32 for frames of any number and size; seconds of work."""
        network = self.optimize("fp32").to("cpu", memory_format=torch.contiguous_format)  # type: ignore[call-overload]
        # Sides that differ, so that neither is taken for the other, nor for the number of images.
        example = torch.zeros(2, self.channels, *self._frame(40, 40 + self.module.multiple))
        return to_onnx(NetworkGraph(network), example, outputs=("logits",), dynamic=(0, 2, 3))

    def _frame(self, height: int, width: int) -> Size:
        return len(self.module.compute_padded_indices(height)), len(self.module.compute_padded_indices(width))


class CompiledNetwork(nn.Module):
    """A network compiled by torch.compile for the first size of batch, then once for all sizes; on a GPU its kernels
    are launched as one CUDA graph.
    """

    def __init__(self, network: nn.Module, device: torch.device) -> None:
        super().__init__()
        on_gpu = device.type == "cuda"
        self._compiled = torch.compile(network, options={"triton.cudagraphs": on_gpu, "freezing": True})
        # A graph answers in memory of its own, which the next answer overwrites.
        self._copied = on_gpu
        self._turn = threading.Lock()

    def forward(self, frames: Tensor) -> Tensor:
        with self._turn, explain_compile_errors():
            answer: Tensor = self._compiled(frames)
            return answer.clone() if self._copied else answer


class OpenVinoNetwork(nn.Module):
    """A network compiled by OpenVINO for this CPU, for as many threads as PyTorch has."""

    def __init__(self, onnx: bytes, precision: Precision) -> None:
        super().__init__()
        import openvino

        core = openvino.Core()
        has_bf16 = "BF16" in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        if precision == "bf16" and not has_bf16:
            raise InvalidArgumentError("OpenVINO does not compute in bf16 on this CPU; choose precision fp32 or auto.")
        settings = {
            # Of int8 this is for the layers that are not: the first and the last, where the maps are largest.
            "INFERENCE_PRECISION_HINT": "bf16" if has_bf16 and precision != "fp32" else "f32",
            "INFERENCE_NUM_THREADS": torch.get_num_threads(),
        }
        self._compiled = core.compile_model(core.read_model(io.BytesIO(onnx)), "CPU", settings)
        # It refuses a call while another is in progress, and probabilities may be asked for in threads.
        self._turn = threading.Lock()

    def forward(self, frames: Tensor) -> Tensor:
        with self._turn:
            return torch.from_numpy(self._compiled([frames.contiguous().numpy()])[0])


class OnnxRuntimeNetwork(nn.Module):
    """A network in a session of ONNX Runtime. On a GPU, frames and logits pass through the CPU's memory."""

    def __init__(self, onnx: bytes, device: torch.device) -> None:
        super().__init__()
        import onnxruntime

        settings = onnxruntime.SessionOptions()
        settings.intra_op_num_threads = torch.get_num_threads()
        providers: list[Any] = ["CPUExecutionProvider"]
        if device.type == "cuda":
            providers.insert(0, ("CUDAExecutionProvider", {"device_id": device.index or 0}))
        self._session = onnxruntime.InferenceSession(onnx, settings, providers=providers)

    def forward(self, frames: Tensor) -> Tensor:
        (logits,) = self._session.run(None, {INPUT: frames.contiguous().cpu().numpy()})
        return torch.from_numpy(logits).to(frames.device)


@dataclass(frozen=True, slots=True, kw_only=True)
class Engine:
    """One row of ENGINES."""

    title: str
    build: Callable[[Source, torch.device, Precision], nn.Module]
    precisions: tuple[Precision, ...]
    runs_on: Callable[[torch.device], bool]
    """Whether it computes on this device; asked only where its packages are installed."""
    packages: tuple[str, ...] = ()
    """Beyond what Pixelwise always needs; the first is the engine itself."""
    extra: str = ""
    slow_start: bool = False
    """Whether it starts so slowly that only who names it gets it."""

    @property
    def installed(self) -> bool:
        return all(find_spec(package) for package in self.packages)


def _has_cuda_provider(device: torch.device) -> bool:
    if device.type != "cuda":
        return device.type == "cpu"
    import onnxruntime

    return "CUDAExecutionProvider" in onnxruntime.get_available_providers()


ENGINES: Mapping[EngineName, Engine] = {
    "torch": Engine(
        title="PyTorch",
        build=lambda source, device, precision: source.optimize(precision),
        precisions=("fp32", "bf16"),
        runs_on=lambda device: True,
    ),
    "torch-compile": Engine(
        title="torch.compile",
        build=lambda source, device, precision: CompiledNetwork(source.optimize(precision), device),
        precisions=("fp32", "bf16"),
        runs_on=lambda device: device.type in ("cpu", "cuda"),
        slow_start=True,
    ),
    "openvino": Engine(
        title="OpenVINO",
        build=lambda source, device, precision: OpenVinoNetwork(source.graph(precision), precision),
        precisions=("fp32", "bf16", "int8"),
        runs_on=lambda device: device.type == "cpu",
        packages=("openvino", "onnx", "onnxscript"),
        extra="openvino",
    ),
    "onnxruntime": Engine(
        title="ONNX Runtime",
        build=lambda source, device, precision: OnnxRuntimeNetwork(source.graph(precision), device),
        precisions=("fp32", "int8"),
        runs_on=_has_cuda_provider,
        packages=("onnxruntime", "onnx", "onnxscript"),
        extra="onnx",
    ),
}


def choose_engine(name: str, precision: str = "auto") -> EngineName:
    """The engine of this name; `auto` is torch until `engine_choice` has measured the others, and in int8, which
    torch does not have, OpenVINO, else ONNX Runtime.

    Raises:
        InvalidArgumentError: an unknown name, or packages that are not installed.
    """
    for known in get_args(EngineName):
        if name == known:
            row = ENGINES[known]
            if not row.installed:
                *others, last = row.packages
                raise missing_extra(f"the engine {name}", f"{', '.join(others)} and {last}", row.extra)
            return known  # type: ignore[no-any-return]
    if name != "auto":
        raise unknown_name("engine", name, ("auto", *ENGINES))
    if precision != "int8":
        return "torch"
    able: list[EngineName] = [key for key, row in ENGINES.items() if "int8" in row.precisions]
    # Where none is installed, the first one is missed by its name.
    return next((key for key in able if ENGINES[key].installed), None) or choose_engine(able[0])


def require_engine(name: EngineName, device: torch.device, precision: Precision) -> None:
    """InvalidArgumentError where the engine does not compute on the device, or in the precision."""
    row = ENGINES[name]
    if not row.runs_on(device):
        raise InvalidArgumentError(
            f"{row.title} does not compute on {device} here; use --device cpu or --engine torch."
        )
    if precision not in row.precisions:
        able = " or ".join(key for key, other in ENGINES.items() if precision in other.precisions)
        raise InvalidArgumentError(
            f"{row.title} computes in {' and '.join(row.precisions)}, not in {precision}; use --engine {able}."
        )


def with_network(module: Segmenter, network: nn.Module) -> Segmenter:
    """A copy of the module around another network, which is not copied."""
    return copy.deepcopy(module, {id(module.network): network})  # what the memo holds counts as copied


def installed_versions() -> dict[str, str]:
    """Of all packages that engines need and that are installed, PyTorch among them."""
    names = dict.fromkeys(("torch", *(package for row in ENGINES.values() for package in row.packages)))
    return {name: _version(name) for name in names if find_spec(name)}


def _version(package: str) -> str:
    """Of the distribution; ONNX Runtime for GPUs is distributed under another name than it is imported by."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return str(importlib.import_module(package).__version__)
