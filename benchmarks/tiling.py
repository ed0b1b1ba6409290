"""What exact tiles cost: seconds per pixel against the whole image, at a limit of memory.

    python benchmarks/tiling.py                 # minutes; networks at the sizes that are used

For each network: the time per pixel of an image that is taken whole, and of a large one in the tiles
that the predictor chooses (`predictor.MAX_BYTES`); and the pixels that the network is given against
those of the image. On a CPU freed memory is kept by the allocator, for both alike. What the process
holds at the end is in the result; measure one network at a time (`--networks NAME`) to compare it.
"""

import argparse
import statistics
import time
from pathlib import Path

import numpy as np
import torch
from machine import write_result

from pixelwise.data.classes import describe_classes
from pixelwise.devices import choose_device, choose_precision, resident_memory
from pixelwise.inference.predictor import MAX_BYTES, Predictor, make_predictor
from pixelwise.inference.tiling import plan_tiles
from pixelwise.model_file import ModelSpec
from pixelwise.planning.candidates import CANDIDATES
from pixelwise.recipe import NetworkRecipe

WHOLE = (1024, 1024)


def networks() -> dict[str, NetworkRecipe]:
    """The sizes of U-Net that the planner chooses from, and the published networks."""
    planned = {
        f"unet width {c.width}, stem {c.stem_stride}": NetworkRecipe(
            width=c.width, depth=c.depth, max_width=c.max_width, stem_stride=c.stem_stride
        )
        for c in CANDIDATES
    }
    return {**planned, "segnet": NetworkRecipe(name="segnet"), "unet-paper": NetworkRecipe(name="unet-paper")}


def predictor_of(network: NetworkRecipe, device: torch.device) -> Predictor:
    spec = ModelSpec(
        network=network,
        classes=describe_classes({"names": [str(index) for index in range(11)]}),
        channels=3,
        dtype="uint8",
        mean=(128.0,) * 3,
        deviation=(64.0,) * 3,
        scores={},
    )
    return make_predictor(spec.build(), spec, device, choose_precision("auto", device))


def seconds(predictor: Predictor, image: np.ndarray) -> float:
    start = time.perf_counter()
    predictor.predict(image)
    return time.perf_counter() - start


def measure(predictor: Predictor, side: int, rounds: int) -> dict[str, object]:
    rng = np.random.default_rng(0)
    whole, large = (rng.integers(0, 256, (*size, 3), np.uint8) for size in (WHOLE, (side, side)))
    seconds(predictor, whole[:256])
    times = [(seconds(predictor, whole), seconds(predictor, large)) for _ in range(rounds)]
    medians = (statistics.median(column) for column in zip(*times, strict=True))
    per_pixel = [taken / (image.size // 3) for taken, image in zip(medians, (whole, large), strict=True)]
    tile = predictor._tile_for((side, side))
    framed = len(predictor.module.frame(side))
    given = 1.0
    if tile and predictor.field:
        given = plan_tiles(predictor.field, (side, side), (framed, framed), tile).pixels / side**2
    return {
        "precision": predictor.precision,
        "tile": tile,
        "pixels_given": round(given, 3),
        "whole_megapixels_per_second": round(1e-6 / per_pixel[0], 3),
        "time_ratio": round(per_pixel[1] / per_pixel[0], 3),
        "resident_gigabytes": round(resident_memory() / 1e9, 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--side", type=int, default=6000, help="of the large image")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--networks", nargs="*", help="names; default all")
    parser.add_argument("--device", default="auto")
    arguments = parser.parse_args()
    device = choose_device(arguments.device)
    results = {}
    for name, network in networks().items():
        if not arguments.networks or name in arguments.networks:
            results[name] = measure(predictor_of(network, device), arguments.side, arguments.rounds)
            print(name, results[name], flush=True)
    values = {"side": arguments.side, "limit_bytes": MAX_BYTES, "networks": results}
    write_result(Path(__file__).parent / "results" / f"tiling-{device.type}.json", values)


if __name__ == "__main__":
    main()
