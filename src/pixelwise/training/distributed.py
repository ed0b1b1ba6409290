"""Several processes that train one model, as torchrun starts them, behind one small object.

The first process runs the training loop and tells the others by orders what comes next (`following.py`);
they compute beside it. So one clock, one schedule and one run folder rule, and a world of one
process is the same loop with nobody to tell.
"""

import os
import signal
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from datetime import timedelta
from enum import IntEnum
from typing import Any, NamedTuple, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.distributed_c10d import PrefixStore
from torch.distributed.rendezvous import rendezvous
from torch.nn.parallel import DistributedDataParallel

from pixelwise.devices import choose_device
from pixelwise.errors import InvalidArgumentError, TrainingError
from pixelwise.shapes import Size

Value = TypeVar("Value")

TIMEOUT = timedelta(minutes=30)
"""Until a process that says nothing is given up. One that dies is noticed at once, as its connections close;
the first one plans, reads the data and writes the report while the others wait.
"""

TORCHRUN = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
"""Variables of the environment by which a process knows that it is one of several."""


class LostError(TrainingError):
    """Another process of the run is gone."""

    def __init__(self) -> None:
        super().__init__(
            "another process of this run has ended or cannot be reached (its own message says why); the run goes on "
            "from its last checkpoint with --resume, which torchrun --max-restarts does by itself."
        )


class What(IntEnum):
    """What an order asks for."""

    END = 0
    MAKE = 1
    """Make the batch of `step` at `size`."""
    STEP = 2
    """Take the next batch, at `progress`."""
    SCORE = 3
    """Score validation images, as the first process shares it next."""
    GATHER = 4
    """Hand over the parts of a sharded state."""
    AVERAGE = 5
    """Of sharded weights: the average after `step`, which took `progress` of the run."""


class Order(NamedTuple):
    """What the first process has the others do."""

    what: What
    step: int = 0
    progress: float = 0.0
    size: Size = (0, 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """The processes of a run. In a world of one nothing is sent, and every method gives what it is given."""

    rank: int = 0
    size: int = 1
    control: Any = None
    """The group of processes (gloo) for what is decided on the CPU, so that no decision waits for a GPU."""

    @property
    def is_first(self) -> bool:
        return self.rank == 0

    def lead(self, order: Order) -> None:
        """Tells the others what comes next. If one of them was asked to stop, this process is stopped alike."""
        if self.size > 1:
            what, step, progress, size = order
            if self._agree([what, step, progress, *size, 0])[-1]:
                signal.raise_signal(signal.SIGTERM)

    def obey(self, *, stop: bool) -> Order:
        """The next order. With `stop` the first process hears that this one was asked to stop."""
        what, step, progress, height, width, _ = self._agree([0, 0, 0, 0, 0, stop])
        return Order(What(int(what)), int(step), progress, (int(height), int(width)))

    def share(self, value: Value) -> Value:
        """The first process's value, in all."""
        if self.size == 1:
            return value
        box = [value]
        with losses_explained():
            dist.broadcast_object_list(box, src=0, group=self.control)
        return box[0]

    def gather(self, value: Value) -> list[Value]:
        """The values of all, in their order."""
        if self.size == 1:
            return [value]
        values: list[Any] = [None] * self.size
        with losses_explained():
            dist.all_gather_object(values, value, group=self.control)
        return values

    def sum(self, tensor: Tensor) -> Tensor:
        """The sum over all; the tensor itself is changed. Does not wait for a GPU."""
        if self.size > 1:
            dist.all_reduce(tensor)
        return tensor

    def gather_rows(self, tensor: Tensor) -> Tensor:
        """(B, ...) of each, equal in shape → (B * size, ...) in the order of the processes."""
        if self.size == 1:
            return tensor
        rows = [torch.empty_like(tensor, memory_format=torch.contiguous_format) for _ in range(self.size)]
        dist.all_gather(rows, tensor.contiguous())
        return torch.cat(rows)

    def own_rows(self, tensor: Tensor) -> Tensor:
        """The inverse of `gather_rows`."""
        return tensor.tensor_split(self.size)[self.rank]

    def share_of(self, items: Sequence[Value]) -> Sequence[Value]:
        """This process's part; those of all have every item once."""
        return items[self.rank :: self.size]

    def replicate(self, model: nn.Module) -> nn.Module:
        """The model as it is trained: gradients become their mean over all, batch statistics the first one's."""
        if self.size == 1:
            return model
        with losses_explained():
            return DistributedDataParallel(model)

    def require_shares(self, batch_size: int) -> None:
        """InvalidArgumentError where a batch cannot be shared out evenly."""
        if batch_size % self.size:
            below = batch_size // self.size * self.size
            fitting = " or ".join(str(size) for size in (below, below + self.size) if size)
            raise InvalidArgumentError(
                f"a batch of {batch_size} images cannot be shared by {self.size} processes; take a multiple of "
                f"{self.size}: --set training.batch_size={fitting}."
            )

    def _agree(self, values: Sequence[float]) -> list[float]:
        """The larger of all processes' values, each."""
        tensor = torch.tensor(values, dtype=torch.float64)
        with losses_explained():
            dist.all_reduce(tensor, dist.ReduceOp.MAX, group=self.control)
        agreed: list[float] = tensor.tolist()
        return agreed


ALONE = World()


def keeping_gradients(model: nn.Module) -> AbstractContextManager[None]:
    """Inside, gradients are added up in this process alone; the next pass outside exchanges them."""
    return model.no_sync() if isinstance(model, DistributedDataParallel) else nullcontext()


def is_one_of_several() -> bool:
    """Whether this process was started as one of several, or is in a process group already."""
    if dist.is_initialized():
        return dist.get_world_size() > 1
    return all(name in os.environ for name in TORCHRUN) and int(os.environ["WORLD_SIZE"]) > 1


def device_of_process(name: str) -> str:
    """The name of this process's own device: of several GPUs, each process takes its own."""
    if not is_one_of_several() or choose_device(name).type != "cuda":
        return name
    if ":" in name:
        raise InvalidArgumentError(
            f"--device {name} is one GPU for several processes; give --device cuda, each takes its own."
        )
    return f"cuda:{os.environ.get('LOCAL_RANK', '0')}"


def attempt() -> str:
    """A name for this start of all processes.

    torchrun keeps its store when it starts the processes again, the addresses of the lost ones in it: without a name
    of their own the new ones would call those. Agents of several machines count restarts differently, so there
    TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1 has to give each start a store of its own (docs/distributed.md).
    """
    one_machine = os.environ.get("GROUP_WORLD_SIZE", "1") == "1"
    return f"attempt-{os.environ.get('TORCHELASTIC_RESTART_COUNT', '0') if one_machine else '0'}"


@contextmanager
def open_world(device: str) -> Iterator[World]:
    """The world that torchrun (or who sets the same variables, or has made a process group) has started; a world
    of one without.

    A process group that is there already is used and left as it is.
    """
    if not is_one_of_several():
        yield ALONE
        return
    place = choose_device(device)
    if place.type == "cuda":
        torch.cuda.set_device(place)
    mine = not dist.is_initialized()
    with losses_explained():
        if mine:
            store, rank, size = next(rendezvous("env://", timeout=TIMEOUT))
            backend = "nccl" if place.type == "cuda" else "gloo"
            dist.init_process_group(
                backend, store=PrefixStore(attempt(), store), rank=rank, world_size=size, timeout=TIMEOUT
            )
        control = dist.new_group(backend="gloo", timeout=TIMEOUT)
    try:
        yield World(rank=dist.get_rank(), size=dist.get_world_size(), control=control)
    finally:
        if mine:
            dist.destroy_process_group()


@contextmanager
def losses_explained() -> Iterator[None]:
    """What PyTorch raises when another process is gone becomes a LostError."""
    try:
        yield
    except RuntimeError as error:
        if isinstance(error, dist.DistError) or "gloo" in str(error).lower():
            raise LostError from error
        raise
