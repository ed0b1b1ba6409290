"""Measure the memory that recorded switches save: the peak of one training step of a SegNet-shaped stack.

    python benchmarks/switch_memory.py                       # CPU: peak resident memory, fresh processes
    python benchmarks/switch_memory.py --device cuda --name switch-memory-gpu

Five levels of 3x3 convolution, pooling, unpooling and 3x3 convolution with SegNet's channels at 360x480 in fp32: with
our operators, and with `nn.MaxPool2d(return_indices=True)` and `nn.MaxUnpool2d`. A second run without the convolutions
shows the operators' own share.
"""

import argparse
import resource
import statistics
import subprocess
import sys
from pathlib import Path

import torch
from machine import write_result
from torch import Tensor, nn

from pixelwise.devices import choose_device
from pixelwise.ops import max_pool_with_switches, max_unpool

CHANNELS = (64, 128, 256, 512, 512)


class Stack(nn.Module):
    """Encoder and decoder with one convolution per level, or none."""

    def __init__(self, *, ours: bool, convolutions: bool) -> None:
        super().__init__()
        self.ours = ours
        pairs = list(zip((CHANNELS[0], *CHANNELS), CHANNELS, strict=False))
        conv = nn.Conv2d if convolutions else Widen
        self.down = nn.ModuleList(conv(a, b, 3, padding=1) for a, b in pairs)
        self.up = nn.ModuleList(conv(b, a, 3, padding=1) for a, b in reversed(pairs))

    def forward(self, x: Tensor) -> Tensor:
        places = []
        for layer in self.down:
            x = layer(x)
            size = (x.shape[2], x.shape[3])
            pool = max_pool_with_switches if self.ours else torch_pool
            x, switches = pool(x, 2, True)
            places.append((switches, size))
        for layer, (switches, size) in zip(self.up, reversed(places), strict=True):
            unpool = max_unpool if self.ours else torch_unpool
            x = layer(unpool(x, switches, size))
        return x


class Widen(nn.Module):
    """A replacement for a convolution that repeats or drops channels."""

    def __init__(self, in_channels: int, out_channels: int, kernel: int, padding: int) -> None:
        super().__init__()
        self.in_channels, self.out_channels = in_channels, out_channels

    def forward(self, x: Tensor) -> Tensor:
        x = x[:, : self.out_channels]
        return x.repeat(1, self.out_channels // x.shape[1], 1, 1)


def torch_pool(x: Tensor, kernel: int, ceil_mode: bool) -> tuple[Tensor, Tensor]:
    return nn.functional.max_pool2d(x, kernel, ceil_mode=ceil_mode, return_indices=True)


def torch_unpool(x: Tensor, indices: Tensor, size: tuple[int, int]) -> Tensor:
    return nn.functional.max_unpool2d(x, indices, (2, 2), output_size=size)


def step(device: torch.device, *, ours: bool, convolutions: bool, batch: int) -> float:
    """Return the peak memory of one forward and backward pass in MB, above the memory before it."""
    torch.manual_seed(0)
    stack = Stack(ours=ours, convolutions=convolutions).to(device)
    x = torch.randn(batch, 64, 360, 480, device=device, requires_grad=True)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        stack(x).mean().backward()
        return (torch.cuda.max_memory_allocated() - before) / 1e6
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    stack(x).mean().backward()
    return (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024 / 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--name", default="switch-memory-cpu")
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--one", choices=["ours", "torch"], help=argparse.SUPPRESS)
    parser.add_argument("--convolutions", type=int, default=1, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        device = choose_device(arguments.device)
        ours, convolutions = arguments.one == "ours", bool(arguments.convolutions)
        print(step(device, ours=ours, convolutions=convolutions, batch=arguments.batch))
        return
    rows = [compare(arguments.device, arguments.batch, convolutions) for convolutions in (True, False)]
    write_result(Path(__file__).parent / "results" / f"{arguments.name}.json", {"batch": arguments.batch, "rows": rows})


def compare(device: str, batch: int, convolutions: bool) -> dict[str, object]:
    """Return medians of three fresh processes each, because a peak resident memory only grows."""
    peaks = {}
    for one in ("ours", "torch"):
        command = [sys.executable, __file__, "--one", one, "--device", device, "--batch", str(batch)]
        command += ["--convolutions", str(int(convolutions))]
        runs = [float(subprocess.run(command, capture_output=True, text=True, check=True).stdout) for _ in range(3)]
        peaks[one] = statistics.median(runs)
    row = {"convolutions": convolutions, "peak_mb": peaks, "ratio": peaks["torch"] / peaks["ours"]}
    print(row, flush=True)
    return row


if __name__ == "__main__":
    main()
