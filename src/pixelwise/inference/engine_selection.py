"""Choose the engine of a job: the fastest one that gives the labels of the model.

`measure_engines` measures how long each engine takes to start and per image, and whether its labels agree. The result
is stored next to the model file, once per model and machine. `choose_fastest` weighs it for a number of images.
"""

import contextlib
import json
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from pixelwise.devices import Precision, autocast, describe_device, synchronize
from pixelwise.files import write_atomically
from pixelwise.inference.engines import ENGINES, EngineName, NetworkSource, get_installed_versions, replace_network
from pixelwise.inference.probe_images import draw_scene
from pixelwise.model_file import find_model, read_checksum
from pixelwise.networks import Segmenter
from pixelwise.version import __version__

if TYPE_CHECKING:  # it imports this module
    from pixelwise.inference.predictor import Predictor

logger = logging.getLogger(__name__)

MIN_AGREEMENT = 0.995
"""Smallest share of labels that an engine and PyTorch in float32 must have in common."""

MIN_IMAGES = 500
"""Images of a job from which on measuring pays off: the conversion of a U-Net on ResNet-18 to ONNX takes ten seconds of
one core. A smaller job uses an earlier measurement."""

IMAGE_SIZE = (352, 480)
"""Height and width of the synthetic images."""
NUM_IMAGES = 2
MIN_SECONDS = 0.5
"""Duration of the timing of an engine after its first pass."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineTiming:
    """The measurement of one engine."""

    engine: EngineName
    start_seconds: float
    """Time until the end of the first pass."""
    image_seconds: float
    """Time for one image of `IMAGE_SIZE`."""
    agreement: float
    """Share of labels that are equal to those of PyTorch in float32."""


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
    if timings is None:
        if num_images < MIN_IMAGES:
            return predictor
        logger.info(f"Measuring the engines torch, {', '.join(candidates)} once")
        timings, networks = measure_engines(predictor, ("torch", *candidates))
        if store:
            write_timings(file, setup, timings)
    chosen = choose_fastest(timings, num_images, started=tuple(networks))
    if chosen != "torch":
        logger.info(f"engine: {ENGINES[chosen].title}, {predictor.precision}")
    return replace(predictor, engine=chosen, engine_network=networks.get(chosen))


def choose_fastest(
    timings: Sequence[EngineTiming], num_images: int, *, started: Sequence[EngineName] = ()
) -> EngineName:
    """Return the engine that would finish first, among PyTorch and those that agree with it."""

    def estimate_seconds(timing: EngineTiming) -> float:
        return (0 if timing.engine in started else timing.start_seconds) + num_images * timing.image_seconds

    agreeing = [one for one in timings if one.engine == "torch" or one.agreement >= MIN_AGREEMENT]
    return min(agreeing, key=estimate_seconds).engine if agreeing else "torch"


def measure_engines(
    predictor: "Predictor", names: Sequence[EngineName], clock: Callable[[], float] = time.perf_counter
) -> tuple[list[EngineTiming], dict[EngineName, nn.Module]]:
    """Return the timings and the networks of the engines that do not fail."""
    source = NetworkSource(module=predictor.module, channels=predictor.spec.channels)
    images = _draw_images(predictor)
    expected = _predict_labels(replace_network(predictor.module, source.optimize("fp32")), images, predictor, "fp32")
    timings: list[EngineTiming] = []
    networks: dict[EngineName, nn.Module] = {}
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
            logger.info(f"{ENGINES[name].title} is not used: {error}")
            continue
        seconds = clock() - start
        timings.append(
            EngineTiming(
                engine=name,
                start_seconds=seconds + (export_seconds if ENGINES[name].packages else 0),
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


def _draw_images(predictor: "Predictor") -> list[Tensor]:
    """Draw synthetic images (1, C, H, W) on the device of the predictor."""
    scenes = [torch.from_numpy(draw_scene(seed, IMAGE_SIZE, predictor.spec)) for seed in range(NUM_IMAGES)]
    return [scene.permute(2, 0, 1)[None].to(predictor.device) for scene in scenes]


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
