"""Measure images per second of `pixelwise predict` on each engine, of its network only, and of a peer.

    python -m pip install segmentation-models-pytorch==0.6.0
    python benchmarks/predict.py [--data ../shared/data/camvid] [--model RUN] [--images 233] [--rounds 5]
        [--engines torch openvino onnxruntime torch-compile] [--precisions fp32 bf16 int8]

On CamVid's test images of 360x480, interleaved in each round, medians:

- network ENGINE PRECISION: the forward pass of the fused U-Net with ResNet-18 on a prepared batch;
- predict ENGINE PRECISION: the whole command except the start of Python: load the model, start the engine with its
  network from the cache, decode, predict, encode, write;
- cold ENGINE PRECISION: the same once, with an empty cache, so that the network is converted;
- shell ENGINE PRECISION: seconds for one image from the shell, and `python -c "import torch"`;
- smp: the same job in a plain loop with the U-Net with ResNet-18 of segmentation_models_pytorch: decode with Pillow,
  normalize, pad to a multiple of 32, float32, argmax, palette PNG; its model is already loaded.

Without `--model` both have random weights, whose label maps are noise and take longer to encode, and int8 activation
ranges come from a few of the images. With `--model`, int8 is measured if `pixelwise quantize` has been run. Engines
that start slowly must be named. Only this benchmark needs segmentation-models-pytorch; with `pip install --no-deps
--target
FOLDER` and FOLDER on PYTHONPATH it is not installed into the environment.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch
from machine import write_result
from PIL import Image
from torch import nn
from torch.nn import functional

from pixelwise.api import predict
from pixelwise.config import NetworkConfig
from pixelwise.data.classes import Classes
from pixelwise.data.dataset import Dataset
from pixelwise.devices import Precision, autocast, choose_device, has_fast_bf16, synchronize
from pixelwise.inference.engines import ENGINES, EngineName, NetworkSource
from pixelwise.inference.int8_file import get_int8_path, prepare_frames, write_int8
from pixelwise.inference.predictor import Predictor, load
from pixelwise.lowering.int8 import quantize_graph
from pixelwise.model_file import ModelSpec, save_model

try:
    import segmentation_models_pytorch as smp
except ImportError as error:
    raise SystemExit("benchmarks/predict.py needs: pip install segmentation-models-pytorch==0.6.0") from error

REPOSITORY = Path(__file__).parents[1]
SIZE = (360, 480)
MEAN, DEVIATION = (104.0, 106.0, 108.0), (75.0, 77.0, 77.0)
Job = Callable[[Sequence[Path], Path], object]


def main() -> None:
    usual = [name for name, row in ENGINES.items() if row.is_installed and not row.is_slow_to_start]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=REPOSITORY.parent / "shared" / "data" / "camvid")
    parser.add_argument("--model", type=Path, help="a run folder or model file; default: U-Net on ResNet-18, untrained")
    parser.add_argument("--images", type=int, default=233, help="how many of the test images")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--engines", nargs="+", default=usual)
    parser.add_argument("--precisions", nargs="+", choices=get_args(Precision), default=get_args(Precision))
    arguments = parser.parse_args()
    device = choose_device(arguments.device)
    images, classes = open_some(arguments.data, arguments.images)
    with tempfile.TemporaryDirectory() as folder:
        os.environ["PIXELWISE_CACHE"] = str(Path(folder) / "cache")
        model = arguments.model or fresh_model(Path(folder) / "model.safetensors", classes, images[:4])
        able = {"fp32": True, "bf16": has_fast_bf16(device), "int8": get_int8_path(model).exists()}
        precisions = [name for name in arguments.precisions if able[name]]
        sides = list(combinations(arguments.engines, precisions, device))
        predictors = {
            f"{engine} {precision}": load(model, device=str(device), precision=precision, engine=engine)
            for engine, precision in sides
        }
        jobs = {f"predict {name}": whole_command(model, predictor) for name, predictor in predictors.items()}
        smp_unet = smp.Unet("resnet18", encoder_weights=None, classes=len(classes.names))
        jobs["smp"] = smp_loop(smp_unet, classes, device)
        rates = measure(jobs, predictors, images, Path(folder), arguments.rounds)
        shell = measure_shell(model, images[0], predictors, Path(folder), arguments.rounds)
        os.environ["PIXELWISE_CACHE"] = "off"
        cold = {
            name: rate(partial(jobs[f"predict {name}"], images, Path(folder) / f"cold-{name}"), device, len(images))
            for name, predictor in predictors.items()
            if ENGINES[predictor.engine].packages
        }
    median = {name: statistics.median(values) for name, values in rates.items()}
    result = {
        "unit": "images a second",
        "size": SIZE,
        "images": len(images),
        "rounds": rates,
        "device": str(device),
        "batch": {name: predictor.choose_batch_size(SIZE) for name, predictor in predictors.items()},
        "segmentation_models_pytorch": smp.__version__,
        "median": median,
        "predict_over_network": {n: median[f"predict {n}"] / median[f"network {n}"] for n in predictors},
        "cold": cold,
        "shell_seconds": shell,
        "shell_over_import_torch": {
            name: statistics.median(seconds) / statistics.median(shell["import torch"])
            for name, seconds in shell.items()
        },
        "predict_over_fastest_network": {
            n: median[f"predict {n}"] / max(median[f"network {other}"] for other in predictors) for n in predictors
        },
        "predict_over_smp": {n: median[f"predict {n}"] / median["smp"] for n in predictors},
    }
    for name, seconds in shell.items():
        print(f"{name:>22}: {statistics.median(seconds):.2f} s, {result['shell_over_import_torch'][name]:.2f} times")
    for name, value in cold.items():
        print(f"{name:>16}: {value:.2f}/s with an empty cache")
    for name in predictors:
        print(f"{name:>16}: network {median[f'network {name}']:.2f}/s, predict {median[f'predict {name}']:.2f}/s")
    write_result(Path(__file__).parent / "results" / f"predict-{device.type}.json", result)


def measure_shell(
    model: Path, image: Path, predictors: dict[str, Predictor], folder: Path, rounds: int
) -> dict[str, list[float]]:
    """Return the seconds of a process that predicts one image, and of one that imports PyTorch, in each round."""
    commands = {"import torch": [sys.executable, "-c", "import torch"]}
    for name, predictor in predictors.items():
        options = ("--device", str(predictor.device), "--precision", predictor.precision, "--engine", predictor.engine)
        words = ("predict", str(model), str(image), "-o", str(folder / f"shell-{name}"), "--overwrite", *options)
        commands[f"shell {name}"] = [sys.executable, "-m", "pixelwise", "-q", *words]
    seconds: dict[str, list[float]] = {name: [] for name in commands}
    for _ in range(rounds):
        for name, command in commands.items():
            start = time.perf_counter()
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
            seconds[name].append(time.perf_counter() - start)
    return seconds


def combinations(
    engines: Sequence[str], precisions: Sequence[Precision], device: torch.device
) -> Iterator[tuple[EngineName, Precision]]:
    """Return each engine of the device with each of its precisions."""
    for name, row in ENGINES.items():
        if name in engines and row.runs_on(device):
            yield from ((name, precision) for precision in row.precisions if precision in precisions)


def whole_command(model: Path, predictor: Predictor) -> Job:
    device, precision, engine = str(predictor.device), predictor.precision, predictor.engine

    def run(paths: Sequence[Path], out: Path) -> None:
        report = predict(model, paths, out, device=device, precision=precision, engine=engine)
        assert not report.failures, report.failures

    return run


def open_some(root: Path, count: int) -> tuple[list[Path], Classes]:
    dataset = Dataset.load(root)
    if dataset.declared_classes is None:
        raise SystemExit(f"{root} names no classes; give CamVid with its dataset.yaml.")
    return [sample.image_path for sample in dataset.samples if sample.split == "test"][:count], dataset.classes


def fresh_model(path: Path, classes: Classes, some: Sequence[Path]) -> Path:
    spec = ModelSpec(
        network=NetworkConfig(encoder="resnet18"),
        classes=classes,
        channels=3,
        dtype="uint8",
        mean=MEAN,
        std=DEVIATION,
        scores={},
    )
    torch.manual_seed(0)
    save_model(path, spec, spec.build().state_dict())
    if ENGINES["onnxruntime"].is_installed:
        module = load(path, device="cpu", precision="fp32").module
        frames = prepare_frames(module, (np.asarray(Image.open(image).convert("RGB")) for image in some))
        write_int8(path, quantize_graph(NetworkSource(module=module, channels=3).onnx, frames), {})
    return path


def smp_loop(network: nn.Module, classes: Classes, device: torch.device) -> Job:
    """Predict one image after the other, as in tutorials."""
    network = network.to(device).eval()
    mean, std = (torch.tensor(values, device=device).view(1, 3, 1, 1) for values in (MEAN, DEVIATION))
    palette = [channel for color in classes.colors for channel in color]

    @torch.inference_mode()
    def run(paths: Sequence[Path], out: Path) -> None:
        out.mkdir(parents=True, exist_ok=True)
        for path in paths:
            pixels = torch.from_numpy(np.array(Image.open(path).convert("RGB"))).to(device)
            images = (pixels.permute(2, 0, 1)[None].float() - mean) / std
            height, width = images.shape[2:]
            padded = functional.pad(images, (0, -width % 32, 0, -height % 32), mode="replicate")
            labels = network(padded).argmax(1)[0, :height, :width].to(torch.uint8).cpu().numpy()
            picture = Image.fromarray(labels)
            picture.putpalette(palette)
            picture.save(out / f"{path.stem}.png")

    return run


def measure(
    jobs: dict[str, Job], predictors: dict[str, Predictor], images: list[Path], folder: Path, rounds: int
) -> dict[str, list[float]]:
    """Return the images per second of each contender in each round, after a few images to warm up."""
    device = next(iter(predictors.values())).device
    networks = {f"network {name}": bare_network(predictor) for name, predictor in predictors.items()}
    rates: dict[str, list[float]] = {name: [] for name in (*networks, *jobs)}
    for turn in range(rounds + 1):
        some = images if turn else images[:12]
        found = {name: rate(partial(run, len(some)), device, len(some)) for name, run in networks.items()}
        for name, job in jobs.items():
            found[name] = rate(partial(job, some, folder / f"{name}-{turn}"), device, len(some))
        if turn:
            for name, value in found.items():
                rates[name].append(value)
            print("   ".join(f"{name} {value:.2f}/s" for name, value in found.items()), flush=True)
    return rates


def bare_network(predictor: Predictor) -> Callable[[int], None]:
    """Run the forward pass on a normalized and padded batch on the device."""
    count = predictor.choose_batch_size(SIZE)
    module = predictor._optimized_module
    sides = [len(module.compute_padded_indices(side)) for side in SIZE]
    batch = torch.randn(count, predictor.spec.channels, *sides, device=predictor.device)
    batch = batch.contiguous(memory_format=torch.channels_last)

    @torch.inference_mode()
    def run(images: int) -> None:
        with autocast(predictor.device, predictor.precision):
            for start in range(0, images, count):
                module.network(batch[: min(count, images - start)])

    return run


def rate(function: Callable[[], Any], device: torch.device, images: int) -> float:
    synchronize(device)
    start = time.perf_counter()
    function()
    synchronize(device)
    return images / (time.perf_counter() - start)


if __name__ == "__main__":
    main()
