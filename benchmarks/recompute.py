"""Measure what `training.activation_checkpointing` saves and costs: peak memory and time of a training step.

    python benchmarks/recompute.py                  # some minutes on one core; writes results/recompute-cpu.json
    python benchmarks/recompute.py --device cuda --size 512 512 --batch 16 --name recompute-gpu

The planner's U-Net, SegNet and FCN-8s, each with and without checkpointing, in a process of its own. Memory is what a
step takes beyond weights, optimizer and libraries: on the CPU the growth of the peak resident memory, next to the
planner's estimate; on a GPU that of PyTorch's allocator. Time on the CPU is processor time of all threads, which is
little affected by other work on the machine.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from machine import write_result

from pixelwise.config import Config
from pixelwise.devices import choose_device, measure_resident_memory, synchronize
from pixelwise.networks.summary import count_checkpointed_bytes, count_saved_bytes
from pixelwise.planning.memory_estimate import build_meta_segmenter, compute_step_bytes
from pixelwise.training.trainer import Trainer
from training import NUM_CLASSES, make_setup, random_batch

NETWORKS: Mapping[str, Mapping[str, Any]] = {
    "unet": {"network.base_channels": 32, "network.max_channels": 256, "network.stem_stride": 2},
    "segnet": {"network.name": "segnet"},
    "fcn-8s": {"network.name": "fcn-8s"},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    parser.add_argument("--size", type=int, nargs=2, default=(256, 256))
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--name", default="recompute-cpu", help="name of the JSON file in results/")
    parser.add_argument("--worker", nargs=2, metavar=("NETWORK", "RECOMPUTE"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        print(json.dumps(work(arguments.worker[0], arguments.worker[1] == "True", arguments)))
        return
    rows = {}
    for network in arguments.networks:
        rows[network] = {str(recompute).lower(): call(network, recompute) for recompute in (False, True)}
        print(network, json.dumps(rows[network]), flush=True)
    settings = {"size": list(arguments.size), "batch": arguments.batch, "steps": arguments.steps}
    write_result(Path(__file__).parent / "results" / f"{arguments.name}.json", {"settings": settings, "networks": rows})


def call(network: str, recompute: bool) -> Any:
    """Return one row from a fresh process, because a peak only grows."""
    command = [sys.executable, *sys.argv, "--worker", network, str(recompute)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def work(network: str, recompute: bool, arguments: argparse.Namespace) -> dict[str, float]:
    device, size = choose_device(arguments.device), tuple(arguments.size)
    setup = make_setup({**NETWORKS[network], "training.activation_checkpointing": recompute}, size, device)
    batch, trainer = random_batch(arguments.batch, size), setup.make_trainer()
    take_optimizer_state(trainer)
    start, peak = memory_of(device)
    before = start()
    seconds = []
    for _ in range(arguments.steps + 1):
        synchronize(device)
        clock = time.process_time if device.type == "cpu" else time.perf_counter
        began = clock()
        trainer.step(batch, 0.5)
        synchronize(device)
        seconds.append(clock() - began)
    return {
        "seconds": round(statistics.median(seconds[1:]), 3),
        "step_mib": round((peak() - before) / 2**20),
        "forecast_mib": round(forecast(setup.config, arguments.batch) / 2**20),
        "loss": float(trainer.step(batch, 0.5)),
    }


def take_optimizer_state(trainer: Trainer) -> None:
    """Create gradients and optimizer state, so that they are not part of the step's memory."""
    for parameter in trainer.model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    trainer.optimizer.step()


def memory_of(device: torch.device) -> tuple[Callable[[], float], Callable[[], float]]:
    """Return the current and the peak memory."""
    if device.type == "cuda":
        return torch.cuda.memory_allocated, torch.cuda.max_memory_allocated
    return measure_resident_memory, peak_resident_memory


def peak_resident_memory() -> int:
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))


def forecast(config: Config, batch: int) -> float:
    """Return the planner's estimate of the activations and the memory around them."""
    height, width = config.data.crop_size
    model = build_meta_segmenter(config.network, 3, NUM_CLASSES).train()
    image = torch.empty(1, 3, height, width, device="meta")
    maps = count_saved_bytes(model, image)
    kept = count_checkpointed_bytes(model, image) if config.training.activation_checkpointing else maps
    given = 4 * height * width * (3 + 2 * NUM_CLASSES)
    return batch * compute_step_bytes(kept, maps, given, config.training.precision)


if __name__ == "__main__":
    main()
