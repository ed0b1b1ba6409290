"""Compare pooling with switches and unpooling with PyTorch's operators and with copying the same bytes.

    python benchmarks/ops.py                       # CPU, about a minute
    python benchmarks/ops.py --device cuda --name ops-gpu

For each size, type and memory format, interleaved in one run: our operators and PyTorch's, with new outputs at each
call and with preallocated outputs, and a copy that reads and writes as many bytes as the operator must.
`share_of_copy` is the time of the copy divided by ours: 1 is the speed of the memory. At the end the calls are measured
again with freed memory kept by the C allocator, as in training.
"""

import argparse
import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from machine import write_result
from timing import interleaved
from torch.nn import functional

from pixelwise import ops
from pixelwise.devices import choose_device, keep_freed_memory

SIZES = ((8, 64, 240, 320), (4, 64, 360, 480), (8, 128, 120, 160), (8, 256, 60, 80), (1, 512, 46, 60), (1, 512, 23, 30))
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
FORMATS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--name", default="ops-cpu")
    parser.add_argument("--rounds", type=int, default=15)
    arguments = parser.parse_args()
    device = choose_device(arguments.device)
    # A virtual machine allocates memory at the first access, which must not be measured as operator time.
    torch.ones(1 << 30)
    rows = []
    for size, dtype, layout in itertools.product(SIZES, DTYPES, FORMATS):
        row: dict[str, Any] = {"size": list(size), "dtype": dtype, "layout": layout}
        row |= measure(input_of(row, device), arguments.rounds)
        rows.append(row)
        show(row)
    if device.type == "cpu":
        keep_freed_memory()
        for row in rows:
            x = input_of(row, device)
            for name, functions in (("pooling", pooling(x)), ("unpooling", unpooling(x))):
                calls = {key: function for key, function in functions.items() if key.endswith("call")}
                row[name]["memory_kept"] = interleaved(calls, rounds=arguments.rounds, device=device)
            show_kept(row)
    write_result(Path(__file__).parent / "results" / f"{arguments.name}.json", {"rows": rows})


def input_of(row: dict[str, Any], device: torch.device) -> torch.Tensor:
    return torch.randn(row["size"]).to(device, DTYPES[row["dtype"]]).to(memory_format=FORMATS[row["layout"]])


def measure(x: torch.Tensor, rounds: int) -> dict[str, Any]:
    """Return milliseconds of pooling and unpooling on one map, and the ratios."""
    more = max(1, min(30, 40_000_000 // x.numel()))
    return {
        "pooling": compare(pooling(x), rounds * more, x.device),
        "unpooling": compare(unpooling(x), rounds * more, x.device),
    }


def compare(functions: dict[str, Callable[[], object]], rounds: int, device: torch.device) -> dict[str, Any]:
    times = interleaved(functions, rounds=rounds, device=device)
    median = {name: value["median"] for name, value in times.items()}
    return {
        "milliseconds": times,
        "share_of_copy": median["copy"] / median["ours, kept"],
        "kernel_speedup": median["torch, kept"] / median["ours, kept"],
        "call_speedup": median["torch, call"] / median["ours, call"],
    }


def pooling(x: torch.Tensor) -> dict[str, Callable[[], object]]:
    kept = ops.max_pool_with_switches(x)
    theirs = functional.max_pool2d(x, 2, return_indices=True)
    return {
        "ours, kept": lambda: ops.max_pool_with_switches(x, out=kept),
        "torch, kept": lambda: torch.ops.aten.max_pool2d_with_indices.out(
            x, [2, 2], [2, 2], out=theirs[0], indices=theirs[1]
        ),
        "ours, call": lambda: ops.max_pool_with_switches(x),
        "torch, call": lambda: functional.max_pool2d(x, 2, return_indices=True),
        "copy": copy_of(x, *kept),
    }


def unpooling(x: torch.Tensor) -> dict[str, Callable[[], object]]:
    pooled, switches = ops.max_pool_with_switches(x)
    theirs, indices = functional.max_pool2d(x, 2, return_indices=True)
    size = (x.shape[2], x.shape[3])
    kept = ops.max_unpool(pooled, switches, size)
    their_kept = functional.max_unpool2d(theirs, indices, (2, 2), output_size=size)
    return {
        "ours, kept": lambda: ops.max_unpool(pooled, switches, size, out=kept),
        "torch, kept": lambda: torch.ops.aten.max_unpool2d.out(theirs, indices, size, out=their_kept),
        "ours, call": lambda: ops.max_unpool(pooled, switches, size),
        "torch, call": lambda: functional.max_unpool2d(theirs, indices, (2, 2), output_size=size),
        "copy": copy_of(kept, pooled, switches),
    }


def copy_of(*tensors: torch.Tensor) -> Callable[[], object]:
    """Copy half of the bytes of all tensors, so that as much is read and written as they hold."""
    source = torch.ones(sum(t.nbytes for t in tensors) // 8, device=tensors[0].device)
    target = torch.ones_like(source)
    return lambda: target.copy_(source)


def show(row: dict[str, Any]) -> None:
    print(f"{'x'.join(map(str, row['size'])):>15} {row['dtype']} {row['layout']:<13}", end="")
    for name in ("pooling", "unpooling"):
        result = row[name]
        ms = {key: value["median"] for key, value in result["milliseconds"].items()}
        print(
            f" | {name} {ms['ours, kept']:.3f} of {ms['torch, kept']:.3f} ms ({result['kernel_speedup']:.1f}x),"
            f" call {ms['ours, call']:.3f} of {ms['torch, call']:.3f} ({result['call_speedup']:.1f}x),"
            f" copy {ms['copy']:.3f} ({result['share_of_copy']:.0%})",
            end="",
        )
    print(flush=True)


def show_kept(row: dict[str, Any]) -> None:
    print(f"{'x'.join(map(str, row['size'])):>15} {row['dtype']} {row['layout']:<13} memory kept", end="")
    for name in ("pooling", "unpooling"):
        kept, fresh = row[name]["memory_kept"], row[name]["milliseconds"]["torch, call"]["median"]
        ours, theirs = (kept[f"{who}, call"]["median"] for who in ("ours", "torch"))
        print(f" | {name} {ours:.3f} of {theirs:.3f} ms, or {fresh:.3f} with new memory", end="")
    print(flush=True)


if __name__ == "__main__":
    main()
