"""Runs functions of this file in several processes that train together, without a launcher.

Started once, because the imports take seconds; each request (a line of JSON) is `size` forks:
{"call": NAME, "size": 2, "arguments": {...}, "output": FOLDER}. Each rank writes what it says to
FOLDER/rank-N.txt. The answer is a list of their exit codes, negative for a signal.

With arguments it is `pixelwise ARGUMENTS` under torchrun, killed once in its second process.
"""

import importlib
import json
import os
import signal
import socket
import sys
from pathlib import Path
from typing import Any

import torch

RUN_MODULES = (
    *("pixelwise.api.train_run", "pixelwise.cli.main", "pixelwise.reports.training_report", "pixelwise.training.loop"),
    *("torch._dynamo", "torch.utils.tensorboard"),
)


def main() -> None:
    if len(sys.argv) > 1:
        killed_once(sys.argv[1:])
    # All that a run imports.
    for name in (*RUN_MODULES, "torch.nn.parallel", "torch.distributed.fsdp"):
        importlib.import_module(name)
    print("ready", flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        children = [start(rank, port, **request) for rank in range(request["size"])]
        codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
        print(json.dumps(codes), flush=True)


def start(rank: int, port: int, call: str, size: int, arguments: dict[str, Any], output: str) -> int:
    """Forks one rank, told of the others as torchrun does it; its process id."""
    child = os.fork()
    if child:
        return child
    place = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": size, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    if size > 1:
        os.environ.update({name: str(value) for name, value in place.items()} | {"GLOO_SOCKET_IFNAME": "lo"})
    file = os.open(f"{output}/rank-{rank}.txt", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(file, 1)
    os.dup2(file, 2)
    torch.set_num_threads(1)
    code: Any = 1
    try:
        globals()[call](Path(output), **arguments)
        code = 0
    except SystemExit as error:
        code = error.code
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code if isinstance(code, int) else 1)


def command(output: Path, arguments: list[str], instant: dict[str, int] | None = None) -> None:
    """`pixelwise ARGUMENTS`; `instant` is the rank, step and signal of the one that is stopped."""
    from pixelwise.cli import main

    if instant and int(os.environ.get("RANK", "0")) == instant["rank"]:
        signal_itself(instant["step"], instant["signal"])
    note_samples(output)
    try:
        main.main(arguments)
    except SystemExit as error:
        if error.code:
            raise


def join(output: Path) -> None:
    """The world of a process group that is there already, without torchrun's variables; it stays."""
    import torch.distributed as dist

    from pixelwise.training.distributed import open_world

    dist.init_process_group("gloo")
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT"):
        del os.environ[name]
    with open_world("cpu") as world:
        print(world.rank, "of", world.gather(world.rank), flush=True)
    dist.barrier()


def optimize(output: Path) -> None:
    """Each optimizer moves sharded weights, cut evenly or not, as it moves whole ones; so do clipping and averages."""
    from typing import get_args, get_type_hints

    from pixelwise.config import OptimizerConfig
    from pixelwise.networks import Segmenter
    from pixelwise.networks.unet import UNet
    from pixelwise.training.distributed import open_world
    from pixelwise.training.fsdp import (
        gather_state,
        gather_tensor,
        get_local,
        shard_like,
        shard_model,
        shard_optimizer_state,
    )
    from pixelwise.training.optimizers import AveragedWeights, build_optimizer

    def three_steps(config: OptimizerConfig, sharded: bool) -> tuple[Any, Any]:
        torch.manual_seed(0)
        network = UNet(3, 1, base_channels=3, depth=1, padding="same", normalization="group")
        model = Segmenter(network, mean=[100.0] * 3, std=[50.0] * 3)
        if sharded:
            shard_model(model, torch.device("cpu"))
        optimizer, average = build_optimizer(model, config), AveragedWeights(model, 0.5)
        for step in range(3):
            optimizer.zero_grad()
            model(images).square().mean().backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 0.1)
            optimizer.step()
            average.update(model, step, 0.3)
        for parameter in model.parameters():
            assert torch.equal(
                get_local(shard_like(gather_tensor(parameter).detach(), parameter)), get_local(parameter)
            )
        state = gather_state({"model": model.state_dict(), "average": average.state}, keep=True)
        numbers = gather_state(optimizer.state_dict(), keep=True)
        optimizer.load_state_dict(shard_optimizer_state(numbers, optimizer))
        torch.testing.assert_close(gather_state(optimizer.state_dict(), keep=True), numbers, rtol=0, atol=0)
        return state, numbers["state"]

    images = torch.randint(0, 256, (2, 3, 16, 16), generator=torch.Generator().manual_seed(0))
    with open_world("cpu"):
        for name in get_args(get_type_hints(OptimizerConfig)["name"]):
            config = OptimizerConfig(name=name, lr=0.01)
            for found, expected in zip(three_steps(config, True), three_steps(config, False), strict=True):
                torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-5)
            print(name, flush=True)


def note_samples(output: Path) -> None:
    """Every batch that is made adds a line to `samples-RANK.txt`: step and names."""
    from pixelwise.data.loader import Batches

    make = Batches.make_sized
    rank = os.environ.get("RANK", "0")

    def noted(self: Batches, step: int, size: tuple[int, int]) -> Any:
        count = self.batch_size // self.world_size
        first = step * self.batch_size + self.rank * count
        names = [self._draw_sample(position)[0].name for position in range(first, first + count)]
        with (output / f"samples-{rank}.txt").open("a") as file:
            file.write(json.dumps([step, names]) + "\n")
        return make(self, step, size)

    Batches.make_sized = noted  # type: ignore[method-assign]


def signal_itself(step: int, number: int) -> None:
    """Before the step of that number, counted from 1."""
    from pixelwise.training.trainer import Trainer

    take, taken = Trainer.step, [0]

    def watched(self: Trainer, *arguments: Any) -> Any:
        taken[0] += 1
        if taken[0] == step:
            os.kill(os.getpid(), number)
        return take(self, *arguments)

    Trainer.step = watched  # type: ignore[method-assign]


def killed_once(arguments: list[str]) -> None:
    from pixelwise.cli import main

    if os.environ["RANK"] == "1" and os.environ["TORCHELASTIC_RESTART_COUNT"] == "0":
        signal_itself(13, signal.SIGKILL)
    main.main(arguments)


if __name__ == "__main__":
    main()
