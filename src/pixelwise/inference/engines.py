"""Engines that run a network: PyTorch, torch.compile, OpenVINO and ONNX Runtime.

An engine makes a module that maps normalized frames (B, C, H, W) float32 of a legal size to the output of the network.
The module replaces the network of a `Segmenter`, so normalization, padding, tiles and batches are the same for all.
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
class NetworkSource:
    """A trained network in the forms that engines are built from."""

    module: Segmenter
    channels: int
    int8: bytes | None = None
    """The network in int8, as ONNX; see `int8_file.py`."""

    def get_onnx(self, precision: Precision) -> bytes:
        """Return the network as ONNX."""
        if precision != "int8":
            return self.onnx
        assert self.int8 is not None
        return self.int8

    def optimize(self, precision: Precision) -> nn.Module:
        """Return the network with fused batch normalizations."""
        return optimize_for_inference(
            self.module.network, self._compute_frame_size(512, 512), channels=self.channels, precision=precision
        )

    @cached_property
    def onnx(self) -> bytes:
        """Return the optimized network in float32, for frames of any number and size; takes seconds."""
        network = self.optimize("fp32").to("cpu", memory_format=torch.contiguous_format)  # type: ignore[call-overload]
        # All sizes differ, so that the exporter does not take them for one dimension.
        example = torch.zeros(2, self.channels, *self._compute_frame_size(40, 40 + self.module.multiple))
        return to_onnx(NetworkGraph(network), example, outputs=("logits",), dynamic=(0, 2, 3))

    def _compute_frame_size(self, height: int, width: int) -> Size:
        return len(self.module.compute_padded_indices(height)), len(self.module.compute_padded_indices(width))


class CompiledNetwork(nn.Module):
    """A network compiled by torch.compile, for the first batch size and then once for all sizes.

    On a GPU, its kernels are launched as one CUDA graph.
    """

    def __init__(self, network: nn.Module, device: torch.device) -> None:
        super().__init__()
        on_gpu = device.type == "cuda"
        self._compiled = torch.compile(network, options={"triton.cudagraphs": on_gpu, "freezing": True})
        # The next run of a CUDA graph overwrites its output.
        self._must_clone = on_gpu
        self._lock = threading.Lock()

    def forward(self, frames: Tensor) -> Tensor:
        with self._lock, explain_compile_errors():
            output: Tensor = self._compiled(frames)
            return output.clone() if self._must_clone else output


class OpenVinoNetwork(nn.Module):
    """A network compiled by OpenVINO for this CPU, with the number of threads of PyTorch."""

    def __init__(self, onnx: bytes, precision: Precision) -> None:
        super().__init__()
        import openvino

        core = openvino.Core()
        has_bf16 = "BF16" in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        if precision == "bf16" and not has_bf16:
            raise InvalidArgumentError("OpenVINO does not support bf16 on this CPU. Choose precision fp32 or auto.")
        settings = {
            # In int8, the first and the last layers, with the largest maps, use this precision.
            "INFERENCE_PRECISION_HINT": "bf16" if has_bf16 and precision != "fp32" else "f32",
            "INFERENCE_NUM_THREADS": torch.get_num_threads(),
        }
        self._compiled = core.compile_model(core.read_model(io.BytesIO(onnx)), "CPU", settings)
        # OpenVINO does not allow concurrent calls, and several threads may compute probabilities.
        self._lock = threading.Lock()

    def forward(self, frames: Tensor) -> Tensor:
        with self._lock:
            return torch.from_numpy(self._compiled([frames.contiguous().numpy()])[0])


class OnnxRuntimeNetwork(nn.Module):
    """A network in a session of ONNX Runtime. On a GPU, frames and logits are copied through CPU memory."""

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
    """A row of ENGINES."""

    title: str
    build: Callable[[NetworkSource, torch.device, Precision], nn.Module]
    precisions: tuple[Precision, ...]
    runs_on: Callable[[torch.device], bool]
    """Returns whether the engine supports a device; called only if its packages are installed."""
    packages: tuple[str, ...] = ()
    """Optional packages; the first is the engine itself."""
    extra: str = ""
    is_slow_to_start: bool = False
    """If true, "auto" does not choose the engine."""

    @property
    def is_installed(self) -> bool:
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
        is_slow_to_start=True,
    ),
    "openvino": Engine(
        title="OpenVINO",
        build=lambda source, device, precision: OpenVinoNetwork(source.get_onnx(precision), precision),
        precisions=("fp32", "bf16", "int8"),
        runs_on=lambda device: device.type == "cpu",
        packages=("openvino", "onnx", "onnxscript"),
        extra="openvino",
    ),
    "onnxruntime": Engine(
        title="ONNX Runtime",
        build=lambda source, device, precision: OnnxRuntimeNetwork(source.get_onnx(precision), device),
        precisions=("fp32", "int8"),
        runs_on=_has_cuda_provider,
        packages=("onnxruntime", "onnx", "onnxscript"),
        extra="onnx",
    ),
}


def choose_engine(name: str, precision: str = "auto") -> EngineName:
    """Return the engine of a name; "auto" is torch, or OpenVINO or ONNX Runtime for int8.

    Raises:
        InvalidArgumentError: the name is unknown, or packages of the engine are not installed.
    """
    for known in get_args(EngineName):
        if name == known:
            row = ENGINES[known]
            if not row.is_installed:
                *others, last = row.packages
                raise missing_extra(f"the engine {name}", f"{', '.join(others)} and {last}", row.extra)
            return known  # type: ignore[no-any-return]
    if name != "auto":
        raise unknown_name("engine", name, ("auto", *ENGINES))
    if precision != "int8":
        return "torch"
    supported: list[EngineName] = [key for key, row in ENGINES.items() if "int8" in row.precisions]
    # If none is installed, the error names the first one.
    return next((key for key in supported if ENGINES[key].is_installed), None) or choose_engine(supported[0])


def require_engine(name: EngineName, device: torch.device, precision: Precision) -> None:
    """Raise InvalidArgumentError if the engine does not support the device or the precision."""
    row = ENGINES[name]
    if not row.runs_on(device):
        raise InvalidArgumentError(
            f"{row.title} does not support {device} on this machine. Use --device cpu or --engine torch."
        )
    if precision not in row.precisions:
        supported = " or ".join(key for key, other in ENGINES.items() if precision in other.precisions)
        raise InvalidArgumentError(
            f"{row.title} supports {' and '.join(row.precisions)}, not {precision}. Use --engine {supported}."
        )


def replace_network(module: Segmenter, network: nn.Module) -> Segmenter:
    """Return a copy of a module with another network, which is not copied."""
    return copy.deepcopy(module, {id(module.network): network})  # the memo holds what is already copied


def get_installed_versions() -> dict[str, str]:
    """Return the versions of PyTorch and of the installed packages of all engines."""
    names = dict.fromkeys(("torch", *(package for row in ENGINES.values() for package in row.packages)))
    return {name: _version(name) for name in names if find_spec(name)}


def _version(package: str) -> str:
    """Return the version of a package. The distribution of ONNX Runtime for GPUs has another name."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return str(importlib.import_module(package).__version__)
