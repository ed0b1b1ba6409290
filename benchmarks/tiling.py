"""Measure exact tiles at a memory limit: time per pixel relative to an image without tiles, and peak memory.

    python benchmarks/tiling.py                                     # three networks, 6000x6000
    python benchmarks/tiling.py --side 20000 --networks "unet width 16, stem 2" --rounds 1

For each network, the largest tiles are chosen with which the process stays below the limit. Then a process that
predicts an image of 1024x1024 without tiles and one that predicts the large image in tiles run in turns. The
figures are medians. Processor seconds are reported next to wall-clock seconds, because other work on the machine
changes only the latter. Images above 10,000 pixels a side are read window by window, smaller ones are in memory.
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from machine import write_result

from pixelwise.config import NetworkConfig
from pixelwise.data.description import describe_classes, parse_description
from pixelwise.data.io.images import Array
from pixelwise.devices import choose_device, choose_precision
from pixelwise.inference.predictor import Predictor, make_predictor
from pixelwise.inference.tiling import planner
from pixelwise.inference.tiling.tiled import ArraySource
from pixelwise.model_file import ModelSpec

WHOLE_SIDE = 1024
MAX_SIDE_IN_MEMORY = 10_000
TENSOR_MIB = (1024, 896, 768, 640, 512, 384, 256, 192, 128)
"""Limits of the tensors to try, so that the whole process stays below its limit."""

NETWORKS = {
    "unet width 16, stem 2": NetworkConfig(base_channels=16, max_channels=256, stem_stride=2),
    "unet width 32, stem 2": NetworkConfig(base_channels=32, max_channels=256, stem_stride=2),
    "segnet": NetworkConfig(name="segnet"),
}


class RepeatedSource:
    """A pixel source larger than memory: a block of noise, repeated."""

    BLOCK = 2048

    def __init__(self, side: int) -> None:
        self.size = (side, side)
        self._pixels = make_noise(self.BLOCK)

    def read(self, rows: slice, columns: slice) -> Array:
        """Read a window (h, w, C)."""
        indices = [np.arange(part.start, part.stop) % self.BLOCK for part in (rows, columns)]
        pixels: Array = self._pixels[np.ix_(*indices)]
        return pixels


def make_noise(side: int) -> Array:
    """Return an image (side, side, 3) uint8."""
    return np.random.default_rng(0).integers(0, 256, (side, side, 3), np.uint8)


def build_predictor(network: NetworkConfig) -> Predictor:
    """Return a predictor with random weights on the CPU."""
    spec = ModelSpec(
        network=network,
        classes=describe_classes(parse_description({"names": [str(index) for index in range(11)]})),
        channels=3,
        dtype="uint8",
        mean=(128.0,) * 3,
        std=(64.0,) * 3,
        scores={},
    )
    device = choose_device("cpu")
    return make_predictor(spec.build(), spec, device, choose_precision("auto", device))


def work(network: str, side: int, tensor_mib: int) -> None:
    """Predict once for each line of standard input; write what it took to standard output as JSON.

    Args:
        network: A key of `NETWORKS`.
        side: Of the image; `WHOLE_SIDE` without tiles.
        tensor_mib: The tile planner's limit.
    """
    predictor = build_predictor(NETWORKS[network])
    info: dict[str, Any] = {"precision": predictor.precision}
    run: Callable[[], object]
    if side == WHOLE_SIDE:
        image = make_noise(side)

        def run() -> object:
            return predictor.predict(image)
    else:
        planner.MAX_BYTES = planner.WINDOWED_BYTES = tensor_mib << 20
        in_memory = side <= MAX_SIDE_IN_MEMORY
        source = ArraySource(make_noise(side)) if in_memory else RepeatedSource(side)
        plan = (
            predictor.tile_planner.plan(source.size) if in_memory else predictor.tile_planner.plan_windowed(source.size)
        )
        labels = np.empty(source.size, np.uint8) if in_memory else None
        info["tile"] = [plan.rows[0].write.stop, plan.columns[0].write.stop]
        info["input_pixel_ratio"] = round(plan.num_input_pixels / side**2, 3)

        def run() -> object:
            for tile, tile_labels in predictor.label_tiles(source, plan):
                if labels is not None:
                    labels[tile.write] = tile_labels
            return None

    predictor.predict(make_noise(256))
    print(json.dumps(info), flush=True)
    for _ in sys.stdin:
        wall, cpu = time.perf_counter(), time.process_time()
        run()
        measured = {"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu}
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        print(json.dumps({**measured, "peak": peak}), flush=True)


class Worker:
    """A process that predicts on request."""

    def __init__(self, network: str, side: int, tensor_mib: int) -> None:
        arguments = ["--worker", network, "--side", str(side), "--tensor-mib", str(tensor_mib)]
        self._process = subprocess.Popen(
            [sys.executable, __file__, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.info: dict[str, Any] = self._read()

    def predict(self) -> dict[str, float]:
        """Predict once and return the seconds (`wall`, `cpu`) and the peak bytes of the process so far."""
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        return self._read()

    def close(self) -> None:
        """End the process."""
        self._process.communicate()

    def _read(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        result: dict[str, Any] = json.loads(self._process.stdout.readline())
        return result


def measure(network: str, side: int, rounds: int, max_bytes: float) -> dict[str, Any]:
    """Measure one network; see the module."""
    for tensor_mib in TENSOR_MIB:
        tiles = Worker(network, side, tensor_mib)
        if tiles.predict()["peak"] <= max_bytes:
            break
        tiles.close()
    whole = Worker(network, WHOLE_SIDE, 0)
    whole.predict()  # as the other process did: the first prediction also faults in its memory
    measured = [(whole.predict(), tiles.predict()) for _ in range(rounds)]
    for worker in (whole, tiles):
        worker.close()
    row: dict[str, Any] = {**tiles.info, "tensor_mib": tensor_mib}
    for key in ("wall", "cpu"):
        whole_seconds, tiles_seconds = (
            statistics.median(run[key] for run in runs) for runs in zip(*measured, strict=True)
        )
        row[f"{key}_seconds"] = round(tiles_seconds, 2)
        row[f"{key}_ratio"] = round((tiles_seconds / side**2) / (whole_seconds / WHOLE_SIDE**2), 3)
    row["peak_gigabytes"] = round(measured[-1][1]["peak"] / 1e9, 2)
    row["peak_gigabytes_whole"] = round(measured[-1][0]["peak"] / 1e9, 2)
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--side", type=int, default=6000, help="of the large image, in pixels")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--networks", nargs="*", choices=NETWORKS, help="default: all")
    parser.add_argument("--limit", type=float, default=2.0, help="of each process, in GB")
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results" / "tiling-cpu.json")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    parser.add_argument("--tensor-mib", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        work(arguments.worker, arguments.side, arguments.tensor_mib)
        return
    results = {}
    for network in arguments.networks or NETWORKS:
        results[network] = measure(network, arguments.side, arguments.rounds, arguments.limit * 1e9)
        print(network, results[network], flush=True)
    write_result(arguments.output, {"side": arguments.side, "limit_gigabytes": arguments.limit, "networks": results})


if __name__ == "__main__":
    main()
