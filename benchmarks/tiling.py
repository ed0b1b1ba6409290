"""What exact parts cost: seconds per pixel against the whole image, at a limit of memory.

    python benchmarks/tiling.py                 # minutes; networks at the sizes that are used

For each network, in turns: the time per pixel of an image that is taken whole; of a large one in strips, as
the predictor cuts it; and of the same in tiles, as for engines that cannot be taken apart, with the pixels that
the network is given against those of the image. On a CPU freed memory is kept by the allocator, for all
alike. Each network has a process of its own. `resident` is what it holds after the strips, before any tile.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from machine import write_result

from pixelwise.config import NetworkConfig
from pixelwise.data.classes import describe_classes
from pixelwise.devices import choose_device, choose_precision, measure_resident_memory
from pixelwise.inference.predictor import Predictor, make_predictor
from pixelwise.inference.tiling.plan import Plan, StripPlan, TilePlan
from pixelwise.inference.tiling.planner import MAX_BYTES
from pixelwise.inference.tiling.tiled import Whole
from pixelwise.model_file import ModelSpec
from pixelwise.planning.candidates import CANDIDATES

WHOLE = (1024, 1024)


def networks() -> dict[str, NetworkConfig]:
    """The sizes of U-Net that the planner chooses from, and the published networks."""
    planned = {
        f"unet width {c.width}, stem {c.stem_stride}": NetworkConfig(
            base_channels=c.width, depth=c.depth, max_channels=c.max_channels, stem_stride=c.stem_stride
        )
        for c in CANDIDATES
    }
    return {**planned, "segnet": NetworkConfig(name="segnet"), "unet-paper": NetworkConfig(name="unet-paper")}


def predictor_of(network: NetworkConfig, device: torch.device) -> Predictor:
    spec = ModelSpec(
        network=network,
        classes=describe_classes({"names": [str(index) for index in range(11)]}),
        channels=3,
        dtype="uint8",
        mean=(128.0,) * 3,
        std=(64.0,) * 3,
        scores={},
    )
    return make_predictor(spec.build(), spec, device, choose_precision("auto", device))


def seconds(run: Callable[[], object]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def measure(predictor: Predictor, side: int, rounds: int) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    whole, large = (rng.integers(0, 256, (*size, 3), np.uint8) for size in (WHOLE, (side, side)))
    tiles, strips = tiles_of(predictor, side), predictor.cutting.plan((side, side))
    labels = np.empty((side, side), np.uint8)

    def by(plan: Plan) -> None:
        for part, found in predictor.label_parts(Whole(large), plan):
            labels[plan.writes(part)] = found

    predictor.predict(whole[:256])
    row: dict[str, Any] = {"precision": predictor.precision}
    if isinstance(strips, StripPlan):
        in_turns = [(seconds(lambda: predictor.predict(whole)), seconds(lambda: by(strips))) for _ in range(rounds)]
        row |= {**compare(in_turns, side, "strips"), "strip": [strips.rows[0].write.stop, strips.columns[0].write.stop]}
        row["resident_gigabytes"] = round(measure_resident_memory() / 1e9, 2)
    in_turns = [(seconds(lambda: predictor.predict(whole)), seconds(lambda: by(tiles))) for _ in range(rounds)]
    row |= {**compare(in_turns, side, "tiles"), "tile": [tiles.rows[0].write.stop, tiles.columns[0].write.stop]}
    return {**row, "pixels_given_to_tiles": round(tiles.pixels / side**2, 3)}


def compare(times: list[tuple[float, float]], side: int, name: str) -> dict[str, float]:
    whole, parts = (statistics.median(column) for column in zip(*times, strict=True))
    pixels = WHOLE[0] * WHOLE[1]
    return {
        f"whole_megapixels_per_second_beside_{name}": round(1e-6 * pixels / whole, 3),
        f"{name}_time_ratio": round((parts / side**2) / (whole / pixels), 3),
    }


def tiles_of(predictor: Predictor, side: int) -> TilePlan:
    """What the predictor takes where the network cannot be streamed."""
    plan = replace(predictor.cutting, by_strips=False).plan((side, side))
    assert isinstance(plan, TilePlan)
    return plan


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--side", type=int, default=6000, help="of the large image")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--networks", nargs="*", help="names; default all")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        device = choose_device(arguments.device)
        predictor = predictor_of(networks()[arguments.worker], device)
        print(json.dumps(measure(predictor, arguments.side, arguments.rounds)))
        return
    results = {}
    for name in arguments.networks or networks():
        command = [sys.executable, __file__, *sys.argv[1:], "--worker", name]
        results[name] = json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout)
        print(name, results[name], flush=True)
    values = {"side": arguments.side, "limit_bytes": MAX_BYTES, "networks": results}
    write_result(Path(__file__).parent / "results" / f"tiling-{choose_device(arguments.device).type}.json", values)


if __name__ == "__main__":
    main()
