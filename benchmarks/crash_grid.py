"""Search for convolutions whose forward or backward pass ends the process, as oneDNN's did on processors with AMX.

    python benchmarks/crash_grid.py [--size 64 64] [--classes 2 3 11 15 16 21]

Every distinct convolution of every network, for each number of classes, runs in float32 and bfloat16, contiguous and
channels last, in training and in inference. Each group of them runs in a child process; the members of a group that
ends it are run again one by one. The result names the processor; run it on each kind that you meet.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch
from machine import write_result
from torch import nn

from pixelwise.config import NetworkConfig
from pixelwise.networks import NETWORKS, Segmenter, build_network

RESULT = Path(__file__).parent / "results" / "crash-grid-cpu.json"
GROUP = 40
CHILD = """
import json, sys, torch
for row in json.load(sys.stdin):
    torch.manual_seed(0)
    layer = getattr(torch.nn, row["type"])(**row["layer"])
    if row["type"] == "Conv2d":
        from pixelwise.networks.layers import widen_convolutions
        widen_convolutions(layer)
    form = torch.channels_last if row["channels_last"] else torch.contiguous_format
    layer = layer.to(memory_format=form)
    x = torch.randn(row["shape"]).to(memory_format=form).requires_grad_(row["backward"])
    for _ in range(3):
        with torch.autocast("cpu", torch.bfloat16, enabled=row["bf16"]), torch.set_grad_enabled(row["backward"]):
            y = layer(x)
        if row["backward"]:
            y.float().square().sum().backward()
        assert y.float().isfinite().all()
"""


def collect(size: tuple[int, int], num_classes: int) -> list[dict[str, Any]]:
    """Return the distinct convolutions of all networks with the shapes of their inputs."""
    found: dict[str, dict[str, Any]] = {}

    def record(module: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        names: tuple[str, ...] = (
            "in_channels",
            "out_channels",
            "kernel_size",
            "stride",
            "padding",
            "dilation",
            "groups",
        )
        names += ("output_padding",) if isinstance(module, nn.ConvTranspose2d) else ()
        layer = {name: getattr(module, name) for name in names}
        kind = "ConvTranspose2d" if isinstance(module, nn.ConvTranspose2d) else "Conv2d"
        row = {"type": kind, "layer": {**layer, "bias": module.bias is not None}, "shape": list(inputs[0].shape)}
        found[json.dumps(row)] = row

    for name in NETWORKS:
        with torch.device("meta"):
            network = build_network(NetworkConfig(name=name), in_channels=3, num_classes=num_classes)
            for module in network.modules():
                if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
                    module.register_forward_pre_hook(record)
            network.eval()
            with torch.no_grad():
                Segmenter(network, mean=[0.0] * 3, std=[1.0] * 3)(torch.empty(2, 3, *size))
    return list(found.values())


def run(rows: list[dict[str, Any]]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", CHILD], input=json.dumps(rows), capture_output=True, text=True, timeout=1800
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, nargs=2, default=(64, 64))
    parser.add_argument("--classes", type=int, nargs="+", default=[2, 3, 11, 15, 16, 21])
    arguments = parser.parse_args()
    distinct = {json.dumps(row): row for k in arguments.classes for row in collect(tuple(arguments.size), k)}
    modes = [(bf16, last, backward) for bf16 in (False, True) for last in (False, True) for backward in (False, True)]
    rows = [
        {**row, "bf16": bf16, "channels_last": last, "backward": backward}
        for row in distinct.values()
        for bf16, last, backward in modes
    ]
    failed = []
    for start in range(0, len(rows), GROUP):
        group = rows[start : start + GROUP]
        if run(group).returncode:
            for row in group:
                done = run([row])
                if done.returncode:
                    failed.append({**row, "exit": done.returncode, "error": done.stderr[-300:]})
                    print(failed[-1], flush=True)
        print(f"{min(start + GROUP, len(rows))} of {len(rows)}, {len(failed)} failed", flush=True)
    write_result(RESULT, {"convolutions": len(distinct), "runs": len(rows), "failed": failed})


if __name__ == "__main__":
    main()
