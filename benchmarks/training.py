"""Compare a training step with a plain loop, segmentation_models_pytorch and the time of its convolutions.

    pip install segmentation-models-pytorch
    python benchmarks/training.py                    # some minutes on two cores
    python benchmarks/training.py --device cuda --size 512 512 --batch 16 --name training-gpu --networks unet-64 segnet

For each network one training step on the same random batch and from the same initial weights: a plain loop with
PyTorch's defaults (fp32, AdamW); the same tuned (channels_last, bf16, fused AdamW); ours, with AdamW, with the
planner's
Muon, and with AdamW and torch.compile. The U-Net with ResNet-18 is compared with that of segmentation_models_pytorch,
in the same two loops. The ceiling is the time of every convolution of our step, forward and backward, each shape by
itself in bf16 channels_last. A second measure is the rate of one large matrix product in the same precision. The
roofline adds to the ceiling the time in which a copy moves as many bytes as all other operators of our step read and
write.

Each contender has its own process (memory kept by one must not help another), and all take one step per round, in
turn.
"""

import argparse
import json
import math
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import torch
from machine import write_result
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from pixelwise.config import Config
from pixelwise.data.description import describe_classes, parse_description
from pixelwise.data.loader import Batch
from pixelwise.devices import autocast, choose_device, choose_precision, synchronize
from pixelwise.model_file import ModelSpec
from pixelwise.training.trainer import Trainer

HERE = Path(__file__).parent
NUM_CLASSES = 11
NETWORKS: Mapping[str, Mapping[str, Any]] = {
    "unet-resnet18": {"network.name": "unet", "network.encoder": "resnet18"},
    "unet-64": {"network.name": "unet", "network.base_channels": 64},
    "segnet": {"network.name": "segnet"},
    "fcn-8s": {"network.name": "fcn-8s"},
}
OURS: Mapping[str, Mapping[str, Any]] = {
    "ours-adamw": {},
    "ours-muon": {"optimizer.name": "muon", "optimizer.lr": 0.02},
    "ours-compiled": {"training.compile": True},
}
CONTENDERS = ("default", "best", *OURS, "ceiling")
PEERS = ("smp-default", "smp-best")
"""Only for the U-Net: the peer has neither SegNet nor FCN on VGG16."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    parser.add_argument(
        "--contenders", nargs="+", choices=[*CONTENDERS, *PEERS], help="default: all; each keeps a network in memory"
    )
    parser.add_argument("--size", type=int, nargs=2, default=(352, 480))
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--name", default="training-cpu", help="name of the JSON file in results/")
    parser.add_argument("--worker", nargs=2, metavar=("NETWORK", "CONTENDER"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        network, contender = arguments.worker
        work(network, contender, arguments)
        return
    path = HERE / "results" / f"{arguments.name}.json"
    # Keep the rows of networks that are not measured now.
    results = json.loads(path.read_text(encoding="utf-8"))["networks"] if path.exists() else {}
    settings = {"size": list(arguments.size), "batch": arguments.batch, "rounds": arguments.rounds}
    for network in arguments.networks:
        names = [*CONTENDERS, *(PEERS if network == "unet-resnet18" else ())]
        asked = {"default", "ceiling", *(arguments.contenders or names)}  # the reference of all others
        rows = summary(compare(network, [name for name in names if name in asked], arguments))
        print_rows(network, rows, arguments.batch)
        results[network] = {"settings": settings, "contenders": rows}
    write_result(path, {"networks": results})


# ---------------------------------------------------------------- comparison


def compare(network: str, names: Iterable[str], arguments: argparse.Namespace) -> dict[str, Any]:
    """Return for each contender the facts at its start and the seconds of each round."""
    shared = ["--size", *map(str, arguments.size), "--batch", str(arguments.batch), "--device", arguments.device]
    with processes({name: [*shared, "--worker", network, name] for name in names}) as (workers, facts):
        times: dict[str, list[float]] = {name: [] for name in workers}
        for _ in range(arguments.rounds):
            for name, worker in workers.items():
                times[name].append(float(ask(worker, "step")))
    return {name: {"seconds": times[name], **facts[name]} for name in workers}


@contextmanager
def processes(
    commands: Mapping[str, list[str]],
) -> Iterator[tuple[dict[str, subprocess.Popen[str]], dict[str, dict[str, Any]]]]:
    """Yield workers with the facts that they report when ready; end all of them."""
    workers: dict[str, subprocess.Popen[str]] = {}
    facts: dict[str, dict[str, Any]] = {}
    try:
        for name, command in commands.items():
            line = [sys.executable, __file__, *command]
            workers[name] = subprocess.Popen(line, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            facts[name] = json.loads(ask(workers[name]))
        yield workers, facts
    finally:
        for worker in workers.values():
            worker.kill()


def ask(worker: "subprocess.Popen[str]", word: str = "") -> str:
    """Return the next line of a worker."""
    assert worker.stdin is not None
    assert worker.stdout is not None
    if word:
        worker.stdin.write(word + "\n")
        worker.stdin.flush()
    if not (line := worker.stdout.readline()):
        raise SystemExit(f"a contender has ended with exit code {worker.wait()}; its message is above.")
    return line


def summary(found: Mapping[str, Any]) -> dict[str, Any]:
    """Return medians, and each contender's rate and share of the ceiling."""
    rows = {name: {**values, "seconds": statistics.median(values["seconds"])} for name, values in found.items()}
    ceiling = rows["ceiling"]["seconds"]
    for name, row in rows.items():
        row["ceiling_share"] = ceiling / row["seconds"]
        row["times_default"] = rows["default"]["seconds"] / row["seconds"]
        row["quartiles"] = statistics.quantiles(found[name]["seconds"], n=4)[::2]
    return rows


def print_rows(network: str, rows: Mapping[str, Any], batch: int) -> None:
    ceiling = rows["ceiling"]
    flop, moved, seconds = ceiling["flop"], ceiling["other_bytes"], ceiling["seconds"]
    rate = ceiling["copy_bytes_per_second"]
    floor = seconds + moved / rate
    print(
        f"{network}: {flop / batch / 1e9:.1f} GFLOP an image and step, in its convolutions, which read and write "
        f"{ceiling['convolution_bytes'] / 1e9:.2f} GB a step; all other operators {moved / 1e9:.2f} GB, at "
        f"{rate / 1e9:.0f} GB/s: roofline {batch / floor:.2f} images/s, {seconds / floor:.0%}"
    )
    for name, row in sorted(rows.items(), key=lambda item: item[1]["seconds"]):
        speed = flop / row["seconds"]
        print(
            f"  {name:13} {batch / row['seconds']:6.2f} images/s  {row['times_default']:5.2f} x default  "
            f"{row['ceiling_share']:5.0%} of the ceiling  {speed / 1e9:6.0f} GFLOP/s, "
            f"{speed / rows['ceiling']['matrix_flop_per_second']:4.0%} of a matrix product's",
            flush=True,
        )


# ---------------------------------------------------------------- one contender


def work(network: str, contender: str, arguments: argparse.Namespace) -> None:
    """Report facts, then run a step for each input line and report its seconds."""
    device = choose_device(arguments.device)
    setup = make_setup({**NETWORKS[network], **OURS.get(contender, {})}, tuple(arguments.size), device)
    batch = random_batch(arguments.batch, tuple(arguments.size))
    step, facts = CONTENDER_STEPS[contender](setup, batch)
    for _ in range(2):
        step()
    say(json.dumps(facts))
    for _ in sys.stdin:
        synchronize(device)
        start = time.perf_counter()
        spent = step()
        synchronize(device)
        say(repr(spent or time.perf_counter() - start))


def say(line: str) -> None:
    print(line, flush=True)


class Setup(NamedTuple):
    """The model, batch and optimizer of a contender."""

    config: Config
    spec: ModelSpec
    device: torch.device

    def make_trainer(self) -> Trainer:
        return Trainer(self.config, None, {}, self.spec, device=self.device)  # type: ignore[arg-type]


def make_setup(changes: Mapping[str, Any], size: tuple[int, int], device: torch.device) -> Setup:
    precision = choose_precision("auto", device)
    config = Config().replace(
        {**changes, "training.precision": precision, "data.crop_size": size, "training.steps": 1000}
    )
    spec = ModelSpec(
        network=config.network,
        classes=describe_classes(parse_description({"names": [f"class {index}" for index in range(NUM_CLASSES)]})),
        channels=3,
        dtype="uint8",
        mean=(127.5,) * 3,
        std=(60.0,) * 3,
        scores={},
    )
    return Setup(config, spec, device)


def random_batch(count: int, size: tuple[int, int]) -> Batch:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(256, (count, 3, *size), dtype=torch.uint8, generator=generator)
    labels = torch.randint(NUM_CLASSES, (count, *size), dtype=torch.uint8, generator=generator)
    return Batch(images.contiguous(memory_format=torch.channels_last), labels)


Step = Callable[[], float | None]
Made = tuple[Step, dict[str, Any]]


def ours(setup: Setup, batch: Batch) -> Made:
    trainer = setup.make_trainer()

    def step() -> None:
        trainer.step(batch, 0.5)
        trainer.update_average(100, 0.001)

    return step, {"parameters": sum(p.numel() for p in trainer.model.parameters())}


def plain(setup: Setup, batch: Batch, *, best: bool, model: nn.Module | None = None) -> Made:
    """Return the loop of a tutorial; with `best`, the tuned loop."""
    torch.manual_seed(setup.config.training.seed)
    model = (model or setup.spec.build()).to(setup.device).train()
    layout = torch.channels_last if best else torch.contiguous_format
    model = model.to(memory_format=layout)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, fused=best)
    images = batch.images.to(setup.device).float().contiguous(memory_format=layout)
    labels = batch.labels.to(setup.device).long()

    def step() -> None:
        with autocast(setup.device, setup.config.training.precision if best else "fp32"):
            logits = model(images)
        loss = nn.functional.cross_entropy(logits.float(), labels)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()

    return step, {"parameters": sum(p.numel() for p in model.parameters())}


def peer(setup: Setup, batch: Batch, *, best: bool) -> Made:
    try:
        import segmentation_models_pytorch as smp
    except ImportError as error:
        raise SystemExit(f"{error}: pip install segmentation-models-pytorch") from error
    torch.manual_seed(0)
    return plain(setup, batch, best=best, model=smp.Unet("resnet18", encoder_weights=None, classes=NUM_CLASSES))


# ---------------------------------------------------------------- the ceiling


Call = tuple[str, tuple[Any, ...]]
"""("forward" or "backward", the arguments, with each tensor as its shape)."""


class Convolutions(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """A dispatch mode that counts convolutions by their arguments, and the bytes of all operators."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.calls: Counter[Call] = Counter()
        self.convolution_bytes = self.other_bytes = 0
        """Bytes of all tensors that operators read or write, each once for each operator."""

    def __torch_dispatch__(self, function: Any, types: Any, arguments: Any = (), keywords: Any = None) -> Any:
        operators = torch.ops.aten
        kinds = {operators.convolution.default: "forward", operators.convolution_backward.default: "backward"}
        if function in kinds:
            self.calls[kinds[function], tuple(freeze(value) for value in arguments)] += 1
        result = function(*arguments, **(keywords or {}))
        if not any(value.alias_info and not value.alias_info.is_write for value in function._schema.returns):  # a view
            tensors = tree_leaves((arguments, keywords, result))
            moved = sum(tensor.nbytes for tensor in tensors if isinstance(tensor, Tensor))
            if function in kinds:
                self.convolution_bytes += moved
            else:
                self.other_bytes += moved
        return result


def freeze(value: Any) -> Any:
    if isinstance(value, Tensor):
        return torch.Size(value.shape)
    return tuple(value) if isinstance(value, list) else value


def ceiling(setup: Setup, batch: Batch) -> Made:
    """Run each convolution of our step by itself and report the total seconds."""
    trainer = setup.make_trainer()
    with Convolutions() as seen:
        trainer.step(batch, 0.5)
    del trainer
    runs = [(prepare(call, setup.device), count) for call, count in seen.calls.items()]

    def step() -> float:
        return sum((count * median_seconds(run, setup.device) for run, count in runs), start=0.0)

    return step, {
        "convolution_bytes": seen.convolution_bytes,
        "other_bytes": seen.other_bytes,
        "copy_bytes_per_second": copy_rate(setup.device),
        "flop": sum(count * flop(call) for call, count in seen.calls.items()),
        "matrix_flop_per_second": matrix_rate(setup.device),
    }


def matrix_rate(device: torch.device) -> float:
    """Return the FLOP per second of one large matrix product."""
    side = 8192 if device.type == "cuda" else 2048
    dtype = torch.bfloat16 if choose_precision("auto", device) == "bf16" else torch.float32
    a, b = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
    return 2 * side**3 / median_seconds(lambda: a @ b, device, repeats=9)


def copy_rate(device: torch.device) -> float:
    """Return the bytes per second that a large copy reads and writes."""
    source = torch.ones(2**26, device=device)
    target = torch.ones_like(source)
    return 2 * source.nbytes / median_seconds(lambda: target.copy_(source), device, repeats=9)


def prepare(call: Call, device: torch.device) -> Callable[[], object]:
    kind, arguments = call
    precision = choose_precision("auto", device)
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32

    def filled(value: Any) -> Any:
        if not isinstance(value, torch.Size):
            return list(value) if isinstance(value, tuple) else value
        tensor = torch.randn(value, device=device, dtype=dtype)
        return tensor.contiguous(memory_format=torch.channels_last) if len(value) == 4 else tensor

    function = torch.ops.aten.convolution if kind == "forward" else torch.ops.aten.convolution_backward
    values = [filled(value) for value in arguments]
    return lambda: function(*values)


def median_seconds(run: Callable[[], object], device: torch.device, repeats: int = 3) -> float:
    times = []
    for _ in range(repeats + 1):
        synchronize(device)
        start = time.perf_counter()
        result = run()
        synchronize(device)
        times.append(time.perf_counter() - start)
        del result
    return statistics.median(times[1:])


def flop(call: Call) -> int:
    """Return two operations per multiply-add; backward only for the requested gradients."""
    kind, arguments = call
    if kind == "forward":
        image, weight, _, stride, padding, dilation, transposed = arguments[:7]
        wanted = 1
    else:
        _, image, weight, _, stride, padding, dilation, transposed = arguments[:8]
        wanted = sum(arguments[-1][:2])
    if transposed:
        places = math.prod(image[2:])
    else:
        sides = zip(image[2:], weight[2:], stride, padding, dilation, strict=True)
        places = math.prod((n + 2 * p - d * (k - 1) - 1) // s + 1 for n, k, s, p, d in sides)
    return int(2 * wanted * image[0] * places * math.prod(weight))


CONTENDER_STEPS: Mapping[str, Callable[[Setup, Batch], Made]] = {
    "default": lambda setup, batch: plain(setup, batch, best=False),
    "best": lambda setup, batch: plain(setup, batch, best=True),
    **dict.fromkeys(OURS, ours),
    "ceiling": ceiling,
    "smp-default": lambda setup, batch: peer(setup, batch, best=False),
    "smp-best": lambda setup, batch: peer(setup, batch, best=True),
}


if __name__ == "__main__":
    main()
