"""Engines that run a network: PyTorch, torch.compile, OpenVINO and ONNX Runtime.

An engine makes a module that maps normalized frames (B, C, H, W) float32 of a legal size to the output of the network.
The module replaces the network of a `Segmenter`, so normalization, padding, tiles and batches are the same for all.

What an engine makes of the network is kept in the user's cache folder (`engine_cache.py`).

`select_engine` chooses the fastest engine that gives the labels of the model. `measure_engines` measures how long each
one takes to start and per image, and whether its labels agree. The result is stored next to the model file, once per
model and machine. `choose_fastest` weighs it for a number of images, and for what is in the cache.
"""

import contextlib
import copy
import importlib
import importlib.metadata
import io
import json
import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from pixelwise.data.io.images import Array
from pixelwise.data.synthetic import street_scene
from pixelwise.devices import Precision, autocast, describe_device, synchronize
from pixelwise.errors import InvalidArgumentError, describe_cause, find_name, format_count, missing_extra
from pixelwise.files import compute_sha256, write_atomically
from pixelwise.inference.engine_cache import has_entry, read_entry, write_entry
from pixelwise.inference.fuse_batchnorm import optimize_for_inference
from pixelwise.lowering.graph import INPUT, NetworkGraph, explain_compile_errors
from pixelwise.model_file import ModelSpec, find_model, read_checksum
from pixelwise.networks import Segmenter
from pixelwise.shapes import Size
from pixelwise.version import __version__

if TYPE_CHECKING:  # it imports this module
    from pixelwise.inference.predictor import Predictor

EngineName = Literal["torch", "torch-compile", "openvino", "onnxruntime"]

logger = logging.getLogger(__name__)

MIN_AGREEMENT = 0.995
"""Smallest share of labels that an engine and PyTorch in float32 must have in common."""

MIN_IMAGES = 500
"""Images of a job from which on measuring pays off: the conversion of a U-Net on ResNet-18 to ONNX takes ten seconds of
one core. A smaller job uses an earlier measurement."""
MIN_IMAGES_CACHED = 100
"""Images from which on measuring pays off if a converted network is in the cache: it then takes three seconds."""

CONVERSION_SECONDS = 15.0
"""Time to convert a network, for the estimate of an engine that was measured with a network from the cache."""

IMAGE_SIZE = (352, 480)
"""Height and width of the synthetic images on which engines are measured."""
NUM_IMAGES = 2
MIN_SECONDS = 0.5
"""Duration of the timing of an engine after its first pass."""


@dataclass(frozen=True, kw_only=True)
class NetworkSource:
    """A trained network in the forms that engines are built from."""

    module: Segmenter
    channels: int
    checksum: str = ""
    """Checksum of the model file; empty for a network in memory, of which nothing is kept."""
    int8: bytes | None = None
    """The network in int8, as ONNX; see `int8_file.py`."""

    def make_key(self, form: str, precision: Precision, *packages: str) -> dict[str, Any]:
        """Return everything that a form of the network in the cache depends on."""
        key = {"form": form, "precision": precision, "model": self.checksum, "pixelwise": __version__}
        if precision == "int8" and self.int8 is not None:
            key["graph"] = compute_sha256([self.int8])
        return key | {name: _version(name) for name in packages}

    def get_onnx(self, precision: Precision) -> bytes:
        """Return the network as ONNX."""
        if precision != "int8":
            return self.onnx
        assert self.int8 is not None
        return self.int8

    def optimize(self, precision: Precision) -> nn.Module:
        """Return the network with fused batch normalizations."""
        side = max(64, 2 * self.module.multiple)
        return optimize_for_inference(
            self.module.network, self._compute_frame_size(side, side), channels=self.channels, precision=precision
        )

    @cached_property
    def onnx(self) -> bytes:
        """Return the optimized network in float32, for frames of any number and size; the conversion takes seconds."""
        key = self.make_key("onnx", "fp32", "torch", "onnx", "onnxscript")
        if self.checksum and (kept := read_entry(key)):
            return kept
        from pixelwise.lowering.onnx import to_onnx  # imports torch.export and SymPy

        network = self.optimize("fp32").to("cpu", memory_format=torch.contiguous_format)  # type: ignore[call-overload]
        # All sizes differ, so that the exporter does not take them for one dimension.
        example = torch.zeros(2, self.channels, *self._compute_frame_size(40, 40 + self.module.multiple))
        converted = to_onnx(NetworkGraph(network), example, outputs=("logits",), dynamic=(0, 2, 3))
        if self.checksum:
            write_entry(key, converted)
        return converted

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

    def __init__(self, source: NetworkSource, precision: Precision) -> None:
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
        key = _make_openvino_key(source, precision)
        kept = read_entry(key) if source.checksum else None
        self._compiled: Any = None
        if kept:
            with contextlib.suppress(Exception):  # of the library: compile it again
                self._compiled = core.import_model(io.BytesIO(kept), "CPU", settings)
        if self._compiled is None:
            onnx = source.get_onnx(precision)
            self._compiled = core.compile_model(core.read_model(io.BytesIO(onnx)), "CPU", settings)
            if source.checksum:
                stream = io.BytesIO()
                self._compiled.export_model(stream)
                write_entry(key, stream.getvalue())
        # OpenVINO does not allow concurrent calls, and several threads may compute probabilities.
        self._lock = threading.Lock()

    def forward(self, frames: Tensor) -> Tensor:
        with self._lock:
            return torch.from_numpy(self._compiled([frames.contiguous().numpy()])[0])


def _make_openvino_key(source: NetworkSource, precision: Precision) -> dict[str, Any]:
    return source.make_key("openvino", precision, "openvino") | {"processor": describe_device(torch.device("cpu"))}


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
    make_key: Callable[[NetworkSource, Precision], dict[str, Any]] | None = None
    """Returns the key of the entry in the cache without which the engine starts slowly."""
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
        build=lambda source, device, precision: OpenVinoNetwork(source, precision),
        precisions=("fp32", "bf16", "int8"),
        runs_on=lambda device: device.type == "cpu",
        packages=("openvino", "onnx", "onnxscript"),
        extra="openvino",
        make_key=_make_openvino_key,
    ),
    "onnxruntime": Engine(
        title="ONNX Runtime",
        build=lambda source, device, precision: OnnxRuntimeNetwork(source.get_onnx(precision), device),
        precisions=("fp32", "int8"),
        runs_on=_has_cuda_provider,
        packages=("onnxruntime", "onnx", "onnxscript"),
        extra="onnx",
        make_key=lambda source, precision: source.make_key("onnx", "fp32", "torch", "onnx", "onnxscript"),
    ),
}


def choose_engine(name: str, precision: str = "auto") -> EngineName:
    """Return the engine of a name; "auto" is torch, or OpenVINO or ONNX Runtime for int8.

    Raises:
        InvalidArgumentError: the name is unknown, or packages of the engine are not installed.
    """
    name = find_name("engine", name, ("auto", *ENGINES))
    if name != "auto":
        known = cast(EngineName, name)
        row = ENGINES[known]
        if not row.is_installed:
            *others, last = row.packages
            raise missing_extra(f"the engine {name}", f"{', '.join(others)} and {last}", row.extra)
        return known
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


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineTiming:
    """The measurement of one engine."""

    engine: EngineName
    start_seconds: float
    """Time until the end of the first pass, without the cache."""
    cached_start_seconds: float
    """Time until the end of the first pass, with the converted network from the cache."""
    image_seconds: float
    """Time for one image of `IMAGE_SIZE`."""
    agreement: float
    """Share of labels that are equal to those of PyTorch in float32."""

    def estimate_seconds(self, num_images: int, *, is_started: bool = False, is_cached: bool = False) -> float:
        """Estimate the time of a job."""
        start = self.cached_start_seconds if is_cached else self.start_seconds
        return (0 if is_started else start) + num_images * self.image_seconds


def select_engine(predictor: "Predictor", model: str | Path, *, num_images: int, store: bool = True) -> "Predictor":
    """Return a predictor of the same model, device and precision on the engine that should finish first.

    A job of fewer than `MIN_IMAGES` images does not measure; without an earlier measurement it uses PyTorch.
    An engine that fails is excluded, with a message.

    Args:
        predictor: a predictor on PyTorch; others, such as int8, are returned unchanged.
        model: the run folder or model file that it was loaded from.
        store: write a new measurement next to the model.
    """
    if predictor.engine != "torch":
        return predictor
    candidates = _list_candidates(predictor)
    if not candidates:
        return predictor
    path = find_model(Path(model))
    file, setup = path.with_suffix(".engine.json"), _describe_setup(path, predictor)
    networks: dict[EngineName, nn.Module] = {}
    timings = read_timings(file, setup)
    cached = [name for name in candidates if _is_cached(name, predictor)]
    if timings is None:
        least = MIN_IMAGES_CACHED if cached else MIN_IMAGES
        if num_images < least:
            logger.debug(f"engine: PyTorch, because measuring others pays from {least} images on")
            return predictor
        logger.info(f"Measuring the engines torch, {', '.join(candidates)} once")
        timings, networks = measure_engines(predictor, ("torch", *candidates))
        if store:
            write_timings(file, setup, timings)
    chosen = choose_fastest(timings, num_images, started=tuple(networks), cached=cached)
    if chosen != "torch":
        logger.info(f"engine: {ENGINES[chosen].title}, {predictor.precision}")
    for one in timings:
        seconds = one.estimate_seconds(num_images, is_started=one.engine in networks, is_cached=one.engine in cached)
        logger.debug(
            f"{ENGINES[one.engine].title}: {seconds:.1f} s for {format_count(num_images, 'image')}, "
            f"{'cached' if one.engine in cached else 'not cached'}, {100 * one.agreement:.2f} % equal labels"
        )
    return replace(predictor, engine=chosen, engine_network=networks.get(chosen))


def choose_fastest(
    timings: Sequence[EngineTiming],
    num_images: int,
    *,
    started: Sequence[EngineName] = (),
    cached: Sequence[EngineName] = (),
) -> EngineName:
    """Return the engine that would finish first, among PyTorch and those that agree with it."""

    def estimate_seconds(timing: EngineTiming) -> float:
        name = timing.engine
        return timing.estimate_seconds(num_images, is_started=name in started, is_cached=name in cached)

    agreeing = [one for one in timings if one.engine == "torch" or one.agreement >= MIN_AGREEMENT]
    return min(agreeing, key=estimate_seconds).engine if agreeing else "torch"


def measure_engines(
    predictor: "Predictor", names: Sequence[EngineName], clock: Callable[[], float] = time.perf_counter
) -> tuple[list[EngineTiming], dict[EngineName, nn.Module]]:
    """Return the timings and the networks of the engines that do not fail."""
    source = predictor.source
    scenes = [torch.from_numpy(draw_scene(seed, IMAGE_SIZE, predictor.spec)) for seed in range(NUM_IMAGES)]
    images = [scene.permute(2, 0, 1)[None].to(predictor.device) for scene in scenes]
    expected = _predict_labels(replace_network(predictor.module, source.optimize("fp32")), images, predictor, "fp32")
    timings: list[EngineTiming] = []
    networks: dict[EngineName, nn.Module] = {}
    cached = [name for name in names if _is_cached(name, predictor)]
    export_seconds = 0.0  # the export to ONNX happens once here, but each engine would need it
    for name in names:
        start = clock()
        try:
            if ENGINES[name].packages and not export_seconds:
                _ = source.onnx
                export_seconds = clock() - start
                start = clock()
            network = ENGINES[name].build(source, predictor.device, predictor.precision)
            module = replace_network(predictor.module, network)
            labels = _predict_labels(module, images, predictor, predictor.precision)
        except Exception as error:  # of the library; PyTorch can do the job
            if name == "torch":
                raise
            logger.info(f"{ENGINES[name].title} is not used: {describe_cause(error)}")
            continue
        seconds = clock() - start
        cached_seconds = seconds
        if source.checksum and ENGINES[name].make_key:
            start = clock()
            again = ENGINES[name].build(source, predictor.device, predictor.precision)
            _predict_labels(replace_network(predictor.module, again), images, predictor, predictor.precision)
            cached_seconds = clock() - start
        timings.append(
            EngineTiming(
                engine=name,
                start_seconds=seconds
                + (export_seconds if ENGINES[name].packages else 0)
                + (CONVERSION_SECONDS if name in cached else 0),
                cached_start_seconds=cached_seconds,
                image_seconds=_measure_image_seconds(module, images[0], predictor, clock),
                agreement=float((labels == expected).mean()),
            )
        )
        networks[name] = network
    return timings, networks


def _list_candidates(predictor: "Predictor") -> list[EngineName]:
    """List the engines other than PyTorch that are installed, start fast, and support device and precision."""
    return [
        name
        for name, row in ENGINES.items()
        if name != "torch" and not row.is_slow_to_start and row.is_installed
        if predictor.precision in row.precisions and row.runs_on(predictor.device)
    ]


def _is_cached(name: EngineName, predictor: "Predictor") -> bool:
    make_key = ENGINES[name].make_key
    return make_key is not None and has_entry(make_key(predictor.source, predictor.precision))


@torch.inference_mode()
def _predict_labels(
    module: Segmenter, images: Sequence[Tensor], predictor: "Predictor", precision: Precision
) -> npt.NDArray[np.int64]:
    with autocast(predictor.device, precision):
        labels: npt.NDArray[np.int64] = torch.cat([module(image).argmax(1) for image in images]).cpu().numpy()
    return labels


def _measure_image_seconds(
    module: Segmenter, image: Tensor, predictor: "Predictor", clock: Callable[[], float]
) -> float:
    """Return the shortest of several passes, because other work of the machine only makes them longer."""
    times: list[float] = []
    while not times or sum(times) < MIN_SECONDS:
        synchronize(predictor.device)
        start = clock()
        with torch.inference_mode(), autocast(predictor.device, predictor.precision):
            module(image)
        synchronize(predictor.device)
        times.append(clock() - start)
    return min(times)


def _describe_setup(model: Path, predictor: "Predictor") -> dict[str, Any]:
    """Return everything that a measurement depends on."""
    return {
        "model": read_checksum(model),
        "device": f"{predictor.device}, {describe_device(predictor.device)}",
        "precision": predictor.precision,
        "versions": {"pixelwise": __version__, **get_installed_versions()},
    }


def read_timings(path: Path, setup: dict[str, Any]) -> list[EngineTiming] | None:
    """Read the timings next to a model; None if the file is missing, damaged or from a different setup."""
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
        if stored["key"] != setup:
            return None
        timings = [EngineTiming(**values) for values in stored["engines"]]
        return timings if all(one.engine in ENGINES for one in timings) else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def write_timings(path: Path, setup: dict[str, Any], timings: Sequence[EngineTiming]) -> None:
    """Write timings next to a model. If the folder is not writable, the next job measures again."""
    content = json.dumps({"key": setup, "engines": [asdict(one) for one in timings]}, indent=2)
    with contextlib.suppress(OSError):
        write_atomically(path, f"{content}\n".encode())


def draw_noise(seed: int, size: Size, spec: ModelSpec) -> Array:
    """Draw noise (H, W, C) with the dtype of the model, and its mean and std as far as the dtype allows."""
    return _to_pixels(np.random.default_rng(seed).normal(size=(*size, spec.channels)), spec)


def draw_scene(seed: int, size: Size, spec: ModelSpec) -> Array:
    """Draw a street scene (H, W, C) like `draw_noise`; its three colors are repeated for all channels."""
    scene: npt.NDArray[np.float64] = street_scene(seed, size)[0].astype(np.float64)
    scene = (scene - scene.mean()) / scene.std()
    return _to_pixels(scene[..., np.arange(spec.channels) % 3], spec)


def _to_pixels(values: npt.NDArray[np.float64], spec: ModelSpec) -> Array:
    """Convert values of mean 0 and std 1 to pixels like those of the training images."""
    pixels = values * np.array(spec.std) + np.array(spec.mean)
    dtype = np.dtype(spec.dtype)
    if dtype.kind == "u":
        pixels = np.rint(pixels).clip(0, np.iinfo(dtype).max)
    typed: Array = pixels.astype(dtype)
    return typed
