"""Images a second of an exported U-Net on ResNet-18 in fp32, bf16 and int8, on one thread.

    python benchmarks/int8.py [--size 352 480] [--rounds 15] [--model RUN --data DATA]

The whole answer graph, from a uint8 image to its labels, as `pixelwise export` writes it: in ONNX Runtime in fp32
and int8, in OpenVINO in fp32, bf16 (where the processor has it) and int8. All sides in turn in each round,
medians and quartiles. Without `--model` the weights are fresh and the scales of int8 are found on drawn scenes:
that changes labels, not times. With both, the model is exported with the dataset, and its accuracy is kept, too.
The share of convolutions that OpenVINO computes in 8 bits is read off its compiled graph.
"""

import argparse
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from machine import write_result
from timing import interleaved

from pixelwise.config import NetworkConfig
from pixelwise.data.classes import describe_classes
from pixelwise.data.io.images import Array
from pixelwise.exporting.export import _example, _graph
from pixelwise.exporting.formats import FORMATS, unchanged
from pixelwise.inference.predictor import Predictor, load
from pixelwise.inference.probe_images import draw_scene
from pixelwise.lowering.quantize import quantize
from pixelwise.model_file import ModelSpec, save_model
from pixelwise.quantization.accuracy import calibration_images, measure_accuracy, open_trial

CALIBRATION = 4
"""Drawn scenes, where there is no dataset."""
HINTS = {"fp32": "f32", "bf16": "bf16", "int8": "f32"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, nargs=2, default=(352, 480), metavar=("HEIGHT", "WIDTH"))
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--model", type=Path, help="a run folder or model file; default: U-Net on ResNet-18, untrained")
    parser.add_argument("--data", type=Path, help="a dataset of its classes, with a training and a validation split")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        model = arguments.model or fresh_model(Path(folder) / "model.safetensors")
        predictor = load(model, device="cpu", precision="fp32", engine="torch")
        trial = open_trial(arguments.data, None, model, predictor) if arguments.data else None
        scenes = [draw_scene(seed, tuple(arguments.size), predictor.spec) for seed in range(CALIBRATION)]
        images = calibration_images(trial, predictor) if trial else scenes
        plain = write(predictor, Path(folder), "fp32", unchanged)
        batches = (image[None] for image in images)
        small = write(predictor, Path(folder), "int8", lambda content: quantize(content, batches))
        files = {"fp32": plain, "bf16": plain, "int8": small}
        sides, eight_bit = runners(files, scenes[0][None])
        result: dict[str, Any] = {
            "unit": "milliseconds an image",
            "size": arguments.size,
            "threads": 1,
            "bytes": {name: file.stat().st_size for name, file in (("fp32", plain), ("int8", small))},
            "openvino_convolutions_in_8_bits": eight_bit,
            "times": interleaved(sides, rounds=arguments.rounds, device=torch.device("cpu")),
        }
        if trial:
            run = FORMATS["onnx"].read(small)
            found = measure_accuracy(trial, predictor, lambda image: run(image[None])[0][0])
            result["accuracy"] = {
                "mean_iou": found.mean_iou,
                "model_mean_iou": found.model_mean_iou,
                "agreement": found.agreement,
                "validation_images": found.validation_images,
            }
    result["images_a_second"] = {name: 1000 / times["median"] for name, times in result["times"].items()}
    for name, rate in result["images_a_second"].items():
        print(f"{name:>18}: {rate:.2f}/s")
    write_result(Path(__file__).parent / "results" / "int8-cpu.json", result)


def fresh_model(path: Path) -> Path:
    spec = ModelSpec(
        network=NetworkConfig(encoder="resnet18"),
        classes=describe_classes({"names": [f"class {index}" for index in range(11)]}),
        channels=3,
        dtype="uint8",
        mean=(104.0, 106.0, 108.0),
        std=(75.0, 77.0, 77.0),
        scores={},
    )
    torch.manual_seed(0)
    save_model(path, spec, spec.build().state_dict())
    return path


def write(predictor: Predictor, folder: Path, precision: Any, change: Callable[[bytes], bytes]) -> Path:
    """The ONNX file of labels alone, as `export` hands it over."""
    path = folder / f"{precision}.onnx"
    FORMATS["onnx"].write(
        _graph(predictor, precision), _example(predictor), folder / f"{precision}.full.onnx", path, change
    )
    return path


def runners(files: dict[str, Path], image: Array) -> tuple[dict[str, Callable[[], object]], dict[str, int]]:
    """One image through each file in each runtime, and how many of OpenVINO's convolutions are in 8 bits."""
    import onnxruntime
    import openvino

    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = 1
    core = openvino.Core()
    capable = core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    sides: dict[str, Callable[[], object]] = {}
    eight_bit: dict[str, int] = {}
    for precision, file in files.items():
        if precision != "bf16":
            session = onnxruntime.InferenceSession(file, settings, providers=["CPUExecutionProvider"])
            sides[f"onnxruntime {precision}"] = lambda session=session: session.run(None, {"images": image})
        if precision != "bf16" or "BF16" in capable:
            hints = {"INFERENCE_PRECISION_HINT": HINTS[precision], "INFERENCE_NUM_THREADS": 1}
            compiled = core.compile_model(file, "CPU", hints)
            sides[f"openvino {precision}"] = lambda compiled=compiled: np.array(compiled([image])[0])
            if precision == "int8":
                eight_bit = layers_in_8_bits(compiled)
    return sides, eight_bit


def layers_in_8_bits(compiled: Any) -> dict[str, int]:
    nodes = [node.get_rt_info() for node in compiled.get_runtime_model().get_ops()]
    layers = [
        info["runtimePrecision"].astype(str)
        for info in nodes
        if info["layerType"].astype(str) in ("Convolution", "Deconvolution")
    ]
    return {"all": len(layers), "in_8_bits": sum(precision in ("u8", "i8") for precision in layers)}


if __name__ == "__main__":
    main()
