"""Measure what newly allocated memory costs a training step and a prediction, and which settings help.

    python benchmarks/fresh_memory.py

Runs steps of a U-Net (bf16, channels_last, batch 8 of 256x320 with 11 classes) and forward passes of the same network
at 360x480, each setting in fresh processes, interleaved: PyTorch's defaults; its allocator on huge pages
(THP_MEM_ALLOC_ENABLE=1); freed memory kept by the C allocator, as in `pixelwise train`; and both.
"""

import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

import torch
from machine import write_result

from pixelwise.devices import keep_freed_memory
from pixelwise.networks import UNet

SETTINGS = {"as it is": (0, 0), "huge pages": (1, 0), "memory kept": (0, 1), "both": (1, 1)}
TURNS = 3


def measure() -> str:
    """Return the median milliseconds of a training step and of a forward pass."""
    if os.environ["KEEP"] == "1":
        keep_freed_memory()
    torch.manual_seed(0)
    network = UNet(3, 11, base_channels=32, max_channels=256, padding="same", normalization="batch", stem_stride=2)
    network.to(memory_format=torch.channels_last)
    images = torch.randn(8, 3, 256, 320).to(memory_format=torch.channels_last)
    labels = torch.randint(0, 11, (8, 256, 320))
    large = torch.randn(4, 3, 384, 480).to(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(network.parameters(), lr=1e-3, momentum=0.9)

    def step() -> None:
        with torch.autocast("cpu", torch.bfloat16):
            logits = network(images)
        loss = torch.nn.functional.cross_entropy(logits.float(), labels)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    def forward() -> None:
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
            network(large)

    return f"{median_of(step)} {median_of(forward)}"


def median_of(function, turns: int = 12) -> float:  # type: ignore[no-untyped-def]
    times = []
    for _ in range(turns + 3):
        start = time.perf_counter()
        function()
        times.append(1000 * (time.perf_counter() - start))
    return statistics.median(times[3:])


def main() -> None:
    results: dict[str, list[tuple[float, float]]] = {name: [] for name in SETTINGS}
    for _ in range(TURNS):
        for name, (huge, keep) in SETTINGS.items():
            environment = {**os.environ, "THP_MEM_ALLOC_ENABLE": str(huge), "KEEP": str(keep)}
            command = [sys.executable, __file__, "measure"]
            done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
            step, forward = map(float, done.stdout.split())
            results[name].append((step, forward))
            print(f"{name:12} step {step:7.1f} ms, forward pass {forward:7.1f} ms", flush=True)
    rows = {
        name: {"step_ms": statistics.median(s for s, _ in runs), "forward_ms": statistics.median(f for _, f in runs)}
        for name, runs in results.items()
    }
    write_result(Path(__file__).parent / "results" / "fresh-memory-cpu.json", {"settings": rows})


if __name__ == "__main__":
    if sys.argv[1:] == ["measure"]:
        print(measure())
    else:
        main()
