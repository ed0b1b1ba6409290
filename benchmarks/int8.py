"""Time an exported U-Net on ResNet-18 in fp32, bf16 and int8, in images per second on one thread.

    python benchmarks/int8.py [--size 352 480] [--rounds 15] [--model RUN]

The files are those that `pixelwise export` writes, from a uint8 image to its labels: in ONNX Runtime in fp32 and int8,
in OpenVINO in fp32, bf16 (where the processor has it) and int8. Each round runs every side; medians and quartiles are
reported. Without `--model` the weights are random and activation ranges come from drawn scenes, which changes labels
but not times. With it, the int8 file that `pixelwise quantize` wrote is used, and its accuracy is reported. The
share of convolutions that OpenVINO computes in 8 bits is read from its compiled graph.
"""

import argparse
import tempfile
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from machine import write_result
from timing import interleaved

from pixelwise.api import export
from pixelwise.config import NetworkConfig
from pixelwise.data.description import describe_classes, parse_description
from pixelwise.data.io.images import Array
from pixelwise.inference.engines import NetworkSource, draw_scene
from pixelwise.inference.int8_file import prepare_frames, write_int8
from pixelwise.inference.predictor import load
from pixelwise.lowering.int8 import quantize_graph
from pixelwise.model_file import ModelSpec, save_model
from pixelwise.quantization.result import EngineAccuracy, Int8Accuracy
from pixelwise.shapes import Size

NUM_SCENES = 4
"""Drawn scenes for the activation ranges of random weights."""
HINTS = {"fp32": "f32", "bf16": "bf16", "int8": "f32"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, nargs=2, default=(352, 480), metavar=("HEIGHT", "WIDTH"))
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--model", type=Path, help="a quantized run or model; default: U-Net on ResNet-18, untrained")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    size = (arguments.size[0], arguments.size[1])
    with tempfile.TemporaryDirectory() as folder:
        model = arguments.model or write_fresh_model(Path(folder) / "model.safetensors", size)
        float_file, int8_file = (
            export(model, Path(folder) / precision / "model.onnx", precision=precision, min_agreement=0)
            for precision in ("fp32", "int8")
        )
        files = {"fp32": float_file.file, "bf16": float_file.file, "int8": int8_file.file}
        image = draw_scene(0, size, load(model, device="cpu").spec)[None]
        sides, eight_bit = build_sides(files, image)
        result: dict[str, Any] = {
            "unit": "milliseconds an image",
            "size": arguments.size,
            "threads": 1,
            "bytes": {"fp32": float_file.num_bytes, "int8": int8_file.num_bytes},
            "openvino_convolutions_in_8_bits": eight_bit,
            "times": interleaved(sides, rounds=arguments.rounds, device=torch.device("cpu")),
        }
        if arguments.model and int8_file.accuracy:
            result["accuracy"] = asdict(int8_file.accuracy)
    result["images_a_second"] = {name: 1000 / times["median"] for name, times in result["times"].items()}
    for name, rate in result["images_a_second"].items():
        print(f"{name:>18}: {rate:.2f}/s")
    write_result(Path(__file__).parent / "results" / "int8-cpu.json", result)


def write_fresh_model(path: Path, size: Size) -> Path:
    """Write a model with random weights and its int8 file, whose accuracy is not measured."""
    spec = ModelSpec(
        network=NetworkConfig(encoder="resnet18"),
        classes=describe_classes(parse_description({"names": [f"class {index}" for index in range(11)]})),
        channels=3,
        dtype="uint8",
        mean=(104.0, 106.0, 108.0),
        std=(75.0, 77.0, 77.0),
        scores={},
    )
    torch.manual_seed(0)
    save_model(path, spec, spec.build().state_dict())
    module = load(path, device="cpu", precision="fp32").module
    scenes = (draw_scene(seed, size, spec) for seed in range(NUM_SCENES))
    graph = quantize_graph(NetworkSource(module=module, channels=3).onnx, prepare_frames(module, scenes))
    unknown = EngineAccuracy(mean_iou=0, agreement=0)
    accuracy = Int8Accuracy(
        model_mean_iou=0, engines={"onnxruntime": unknown}, num_validation_images=0, num_training_images=0
    )
    write_int8(path, graph, {"accuracy": asdict(accuracy), "versions": {}})
    return path


def run_openvino(compiled: Any, image: Array) -> Array:
    return np.array(compiled([image])[0])


def build_sides(files: dict[str, Path], image: Array) -> tuple[dict[str, Callable[[], object]], dict[str, int]]:
    """Return a function for each file and runtime, and how many of OpenVINO's convolutions are in 8 bits."""
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
            sides[f"onnxruntime {precision}"] = partial(session.run, None, {"images": image})
        if precision != "bf16" or "BF16" in capable:
            hints = {"INFERENCE_PRECISION_HINT": HINTS[precision], "INFERENCE_NUM_THREADS": 1}
            compiled = core.compile_model(file, "CPU", hints)
            sides[f"openvino {precision}"] = partial(run_openvino, compiled, image)
            if precision == "int8":
                eight_bit = count_layers_in_8_bits(compiled)
    return sides, eight_bit


def count_layers_in_8_bits(compiled: Any) -> dict[str, int]:
    nodes = [node.get_rt_info() for node in compiled.get_runtime_model().get_ops()]
    layers = [
        info["runtimePrecision"].astype(str)
        for info in nodes
        if info["layerType"].astype(str) in ("Convolution", "Deconvolution")
    ]
    return {"all": len(layers), "in_8_bits": sum(precision in ("u8", "i8") for precision in layers)}


if __name__ == "__main__":
    main()
