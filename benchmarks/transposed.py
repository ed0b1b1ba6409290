"""Compare transposed convolutions of U-Net, kernel 2 and stride 2, with PyTorch's.

    python benchmarks/transposed.py [--name transposed] [--rounds 25]

Contenders: `pixelwise.ops.transposed_conv`, PyTorch's, and the 1x1 convolution with rearrangement that ours may select.
Forward without gradients, and forward with backward to input, weight and bias; medians of interleaved calls. Freed
memory is kept by the allocator, as in training. Nothing else should run on the machine.
"""

import argparse
import functools
import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from machine import write_result
from timing import interleaved
from torch import Tensor
from torch.nn import functional

from pixelwise.devices import keep_freed_memory
from pixelwise.ops.transposed_convolution import _convolve_pointwise, transposed_conv

RESULTS = Path(__file__).parent / "results"
SHAPES = [((4, 128, 88, 120), 64), ((4, 256, 44, 60), 128), ((4, 512, 22, 30), 256), ((4, 1024, 28, 28), 512)]
FORMATS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}
Operator = Callable[[Tensor, Tensor, Tensor], Tensor]
OPERATORS: dict[str, Operator] = {
    "ours": lambda x, weight, bias: transposed_conv(x, weight, bias, stride=2),
    "pytorch": lambda x, weight, bias: functional.conv_transpose2d(x, weight, bias, stride=2),
    "pointwise": _convolve_pointwise,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--name", default="transposed", help="name of the JSON file in results/")
    parser.add_argument("--rounds", type=int, default=25, help="number of calls of each operator")
    arguments = parser.parse_args()
    keep_freed_memory()
    print(f"{'milliseconds':62}" + "".join(f"{name:>12}" for name in OPERATORS) + "   PyTorch / ours")
    rows = [
        row
        for (shape, channels), dtype, layout in itertools.product(SHAPES, (torch.float32, torch.bfloat16), FORMATS)
        for row in measure(shape, channels, dtype, layout, arguments.rounds)
    ]
    write_result(RESULTS / f"{arguments.name}.json", {"unit": "milliseconds", "rounds": arguments.rounds, "rows": rows})


def measure(
    shape: tuple[int, ...], channels: int, dtype: torch.dtype, layout: str, rounds: int
) -> list[dict[str, Any]]:
    """Return two rows: forward, and forward with backward."""
    torch.manual_seed(0)
    memory_format = FORMATS[layout]
    x = torch.randn(shape, dtype=dtype).contiguous(memory_format=memory_format)
    weight = (torch.randn(shape[1], channels, 2, 2, dtype=dtype) / shape[1] ** 0.5).contiguous(
        memory_format=memory_format
    )
    leaves = tuple(tensor.requires_grad_() for tensor in (x, weight, torch.randn(channels, dtype=dtype)))
    gradient = torch.randn_like(OPERATORS["pytorch"](*leaves).detach())

    def forward(operator: Operator) -> Tensor:
        with torch.no_grad():
            return operator(*leaves)

    def step(operator: Operator) -> tuple[Tensor, ...]:
        return torch.autograd.grad(operator(*leaves), leaves, gradient)

    case = {"shape": shape, "channels": channels, "dtype": str(dtype).removeprefix("torch."), "layout": layout}
    rows = []
    for part, run in {"forward": forward, "step": step}.items():
        calls = {name: functools.partial(run, operator) for name, operator in OPERATORS.items()}
        times = interleaved(calls, rounds=rounds, device=x.device)
        medians = [spread["median"] for spread in times.values()]
        ratio = times["pytorch"]["median"] / times["ours"]["median"]
        rows.append({**case, "part": part, **times, "pytorch_over_ours": round(ratio, 2)})
        label = f"{shape} → {channels} {case['dtype']} {layout} {part}"
        print(f"{label:<62}" + "".join(f"{median:12.2f}" for median in medians) + f"{ratio:12.2f}")
    return rows


if __name__ == "__main__":
    main()
