"""Which engine a job runs on: the fastest that gives the model's labels, measured once a model and machine.

`measure` finds how long each engine takes to start and how long for an image, and whether its labels
are the model's. `pick` weighs that for a number of images. The measurement lies beside the model file.
"""

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
from pixelwise.inference.engines import ENGINES, EngineName, Source, installed_versions, with_network
from pixelwise.inference.probe_images import draw_scene
from pixelwise.model_file import find_model, read_checksum
from pixelwise.networks import Segmenter
from pixelwise.version import __version__

if TYPE_CHECKING:  # it imports this module
    from pixelwise.inference.predictor import Predictor

logger = logging.getLogger(__name__)

MIN_AGREEMENT = 0.995
"""Share of labels that an engine must share with PyTorch in float32."""

MEASURE_FROM = 500
"""Images of a job, from which on measuring is worth its time (the translation to ONNX alone takes ten
seconds of one core for a U-Net on ResNet-18); a smaller job uses what was measured before."""

SIZE = (352, 480)
"""Of the images that are drawn for it."""
IMAGES = 2
SECONDS = 0.5
"""How long an engine is timed, after its first pass."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What was found of one engine."""

    engine: EngineName
    start_seconds: float
    """Until it is ready, the first pass included."""
    image_seconds: float
    """For one image of `SIZE`."""
    agreement: float
    """Share of labels of the drawn images that PyTorch in float32 gives too."""


def for_job(predictor: "Predictor", model: str | Path, *, num_images: int) -> "Predictor":
    """A predictor of the same model, device and precision, on the engine that should be done first.

    A job of fewer than `MEASURE_FROM` images never measures: it asks what an earlier one has measured,
    and stays with PyTorch where none has. An engine that cannot be used is left out, and said.

    Args:
        predictor: on PyTorch.
        model: the run folder or model file it was loaded from.
    """
    if predictor.engine != "torch":  # in int8 there is no choice
        return predictor
    rivals = _rivals(predictor)
    if not rivals:
        return predictor
    path = find_model(Path(model))
    kept, key = path.with_suffix(".engine.json"), _key(path, predictor)
    running: dict[EngineName, nn.Module] = {}
    measured = read_measured(kept, key)
    if measured is None:
        if num_images < MEASURE_FROM:
            return predictor
        logger.info(f"measuring the engines torch, {', '.join(rivals)} once")
        measured, running = measure(predictor, ("torch", *rivals))
        write_measured(kept, key, measured)
    chosen = pick(measured, num_images, ready=tuple(running))
    if chosen != "torch":
        logger.info(f"engine: {ENGINES[chosen].title}, {predictor.precision}")
    return replace(predictor, engine=chosen, running=running.get(chosen))


def pick(measured: Sequence[Measured], num_images: int, *, ready: Sequence[EngineName] = ()) -> EngineName:
    """The engine that would be done first, among PyTorch and those that agree; those `ready` need no start."""

    def seconds(one: Measured) -> float:
        return (0 if one.engine in ready else one.start_seconds) + num_images * one.image_seconds

    able = [one for one in measured if one.engine == "torch" or one.agreement >= MIN_AGREEMENT]
    return min(able, key=seconds).engine if able else "torch"


def measure(
    predictor: "Predictor",
    names: Sequence[EngineName],
    clock: Callable[[], float] = time.perf_counter,
) -> tuple[list[Measured], dict[EngineName, nn.Module]]:
    """Each engine's times and agreement, and its network as it runs; without those that fail."""
    source = Source(module=predictor.module, channels=predictor.spec.channels)
    images = _drawn(predictor)
    expected = _labels(with_network(predictor.module, source.optimize("fp32")), images, predictor, "fp32")
    found: list[Measured] = []
    running: dict[EngineName, nn.Module] = {}
    translated = 0.0  # translating is done once for all engines, but each would have to do it
    for name in names:
        start = clock()
        try:
            if ENGINES[name].packages and not translated:
                _ = source.onnx
                translated = clock() - start
                start = clock()
            network = ENGINES[name].build(source, predictor.device, predictor.precision)
            module = with_network(predictor.module, network)
            labels = _labels(module, images, predictor, predictor.precision)
        except Exception as error:  # of a library we know little of; PyTorch does the job
            if name == "torch":
                raise
            logger.info(f"{ENGINES[name].title} is left out: {error}")
            continue
        ready = clock() - start
        found.append(
            Measured(
                engine=name,
                start_seconds=ready + (translated if ENGINES[name].packages else 0),
                image_seconds=_image_seconds(module, images[0], predictor, clock),
                agreement=float((labels == expected).mean()),
            )
        )
        running[name] = network
    return found, running


def _rivals(predictor: "Predictor") -> list[EngineName]:
    """Engines beside PyTorch that are installed, start soon and compute on this device in this precision."""
    soon = {name: row for name, row in ENGINES.items() if name != "torch" and not row.slow_start}
    return [
        name
        for name, row in soon.items()
        if row.installed and predictor.precision in row.precisions and row.runs_on(predictor.device)
    ]


def _drawn(predictor: "Predictor") -> list[Tensor]:
    """Scenes (1, C, H, W) on the device, as the predictor gives images to its module."""
    scenes = [torch.from_numpy(draw_scene(seed, SIZE, predictor.spec)) for seed in range(IMAGES)]
    return [scene.permute(2, 0, 1)[None].to(predictor.device) for scene in scenes]


@torch.inference_mode()
def _labels(
    module: Segmenter, images: Sequence[Tensor], predictor: "Predictor", precision: Precision
) -> npt.NDArray[np.int64]:
    with autocast(predictor.device, precision):
        labels: npt.NDArray[np.int64] = torch.cat([module(image).argmax(1) for image in images]).cpu().numpy()
    return labels


def _image_seconds(module: Segmenter, image: Tensor, predictor: "Predictor", clock: Callable[[], float]) -> float:
    """The shortest of several passes: whatever else the machine does only makes them longer."""
    times: list[float] = []
    while not times or sum(times) < SECONDS:
        synchronize(predictor.device)
        start = clock()
        with torch.inference_mode(), autocast(predictor.device, predictor.precision):
            module(image)
        synchronize(predictor.device)
        times.append(clock() - start)
    return min(times)


def _key(model: Path, predictor: "Predictor") -> dict[str, Any]:
    """All that a measurement holds for: where one value differs, it is made again."""
    return {
        "model": read_checksum(model),
        "device": f"{predictor.device}, {describe_device(predictor.device)}",
        "precision": predictor.precision,
        "versions": {"pixelwise": __version__, **installed_versions()},
    }


def read_measured(path: Path, key: dict[str, Any]) -> list[Measured] | None:
    """What lies beside the model; None where nothing does, or it is of another model, machine or version."""
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
        if kept["key"] != key:
            return None
        measured = [Measured(**values) for values in kept["engines"]]
        return measured if all(one.engine in ENGINES for one in measured) else None
    except (OSError, ValueError, KeyError, TypeError):  # absent, or damaged: measured again
        return None


def write_measured(path: Path, key: dict[str, Any], measured: Sequence[Measured]) -> None:
    """Beside the model, or nowhere where its folder may not be written: then the next job measures again."""
    content = json.dumps({"key": key, "engines": [asdict(one) for one in measured]}, indent=2)
    try:
        write_atomically(path, f"{content}\n".encode())
    except OSError:
        return
