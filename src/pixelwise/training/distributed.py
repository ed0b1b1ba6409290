"""Several processes that train one model, started by torchrun or by `--devices`.

Every process runs the same training loop on its part of each batch. The first one (rank 0) plans, reads the clock,
logs and writes files. Its decisions reach the others in one small tensor per step (`World.broadcast_decision`). With
one process nothing is sent.
"""

import logging
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, NamedTuple, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.distributed_c10d import PrefixStore
from torch.distributed.rendezvous import rendezvous
from torch.nn.parallel import DistributedDataParallel

from pixelwise.devices import choose_device
from pixelwise.errors import InvalidArgumentError, PixelwiseError, TrainingError
from pixelwise.progress import use_reporter

Value = TypeVar("Value")

TIMEOUT = timedelta(minutes=30)
"""Time until a silent process counts as lost. A process that ends is noticed at once, because its connections close.
The first process plans, reads the data and writes the report while the others wait."""

TORCHRUN_VARIABLES = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
"""Environment variables that torchrun sets for each process."""


class ProcessLostError(TrainingError):
    """Another process of the run ended or cannot be reached."""

    def __init__(self) -> None:
        super().__init__(
            "Another process of this run has ended or cannot be reached. See its message. With torchrun --max-restarts "
            "the run restarts and resumes by itself."
        )


class Decision(NamedTuple):
    """The first process's decision on what all processes do next."""

    progress: float
    stop: bool = False
    """Save and end, because a process received Ctrl-C or SIGTERM."""
    evaluate: bool = False
    save: bool = False
    finish: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """The processes of a run. With one process, every method returns its argument and sends nothing."""

    rank: int = 0
    size: int = 1
    control: Any = None
    """Group of all processes on the CPU (gloo), so that no decision waits for a GPU."""

    @property
    def is_first(self) -> bool:
        """True for rank 0, which plans, logs and writes files."""
        return self.rank == 0

    def broadcast_decision(self, decision: Decision) -> Decision:
        """Return the decision of the first process; `stop` is set if any process asks for it."""
        if self.size == 1:
            return decision
        values = decision if self.is_first else Decision(0.0, stop=decision.stop)
        tensor = torch.tensor(values, dtype=torch.float64)
        with explain_lost_process():
            dist.all_reduce(tensor, dist.ReduceOp.MAX, group=self.control)
        progress, *flags = tensor.tolist()
        return Decision(progress, *map(bool, flags))

    def broadcast_object(self, value: Value) -> Value:
        """Return the first process's value on all processes."""
        if self.size == 1:
            return value
        box = [value]
        with explain_lost_process():
            dist.broadcast_object_list(box, src=0, group=self.control)
        return box[0]

    def call_on_first(self, function: Callable[[], Value]) -> Value:
        """Call `function` on the first process; return its result, or raise its PixelwiseError, on all processes."""
        if self.size == 1:
            return function()
        result: Any = None
        if self.is_first:
            try:
                result = function()
            except PixelwiseError as error:
                self.broadcast_object(error)
                raise
        result = self.broadcast_object(result)
        if isinstance(result, PixelwiseError):
            raise result
        return result  # type: ignore[no-any-return]

    def gather(self, value: Value) -> list[Value]:
        """Return the values of all processes, by rank."""
        if self.size == 1:
            return [value]
        values: list[Any] = [None] * self.size
        with explain_lost_process():
            dist.all_gather_object(values, value, group=self.control)
        return values

    def broadcast_tensors(self, tensors: Iterable[Tensor]) -> None:
        """Overwrite tensors, all on the training device, with those of the first process."""
        if self.size > 1:
            with explain_lost_process():
                for tensor in tensors:
                    dist.broadcast(tensor, src=0)

    def sum(self, tensor: Tensor) -> Tensor:
        """Add the tensors of all processes in place. Does not wait for a GPU."""
        if self.size > 1:
            dist.all_reduce(tensor)
        return tensor

    def gather_rows(self, tensor: Tensor) -> Tensor:
        """Concatenate tensors (B, ...) of all processes, equal in shape, to (B * size, ...) by rank."""
        if self.size == 1:
            return tensor
        rows = [torch.empty_like(tensor, memory_format=torch.contiguous_format) for _ in range(self.size)]
        dist.all_gather(rows, tensor.contiguous())
        return torch.cat(rows)

    def own_rows(self, tensor: Tensor) -> Tensor:
        """Return this process's rows: the inverse of `gather_rows`."""
        return tensor.tensor_split(self.size)[self.rank]

    def own_items(self, items: Sequence[Value]) -> Sequence[Value]:
        """Return this process's part of `items`; every item belongs to exactly one process."""
        return items[self.rank :: self.size]

    def replicate(self, model: nn.Module) -> nn.Module:
        """Wrap a model for training: gradients are averaged over all processes."""
        if self.size == 1:
            return model
        with explain_lost_process():
            return DistributedDataParallel(model)

    def require_divisible(self, batch_size: int) -> None:
        """Raise InvalidArgumentError if a batch cannot be divided evenly among the processes."""
        if batch_size % self.size:
            below = batch_size // self.size * self.size
            choices = " or ".join(str(size) for size in (below, below + self.size) if size)
            raise InvalidArgumentError(
                f"A batch of {batch_size} images cannot be divided among {self.size} processes. Use a multiple of "
                f"{self.size}: --set training.batch_size={choices}."
            )


SINGLE_PROCESS = World()


def skip_gradient_sync(model: nn.Module) -> AbstractContextManager[None]:
    """Accumulate gradients in this process only; the next backward pass outside the block averages them."""
    return model.no_sync() if isinstance(model, DistributedDataParallel) else nullcontext()


def is_distributed() -> bool:
    """Return whether torchrun started this process as one of several, or it is in a process group."""
    if dist.is_initialized():
        return dist.get_world_size() > 1
    return all(name in os.environ for name in TORCHRUN_VARIABLES) and int(os.environ["WORLD_SIZE"]) > 1


def is_first_process() -> bool:
    """Return whether this process prints the result: rank 0, or the only process."""
    return not is_distributed() or os.environ["RANK"] == "0"


def require_devices(devices: int, device: str) -> None:
    """Raise InvalidArgumentError for a number of processes that this machine cannot run."""
    if devices < 1:
        raise InvalidArgumentError(f"--devices is {devices}. Expected 1 or more.")
    if is_distributed() and os.environ["WORLD_SIZE"] != str(devices):
        num_started = os.environ["WORLD_SIZE"]
        raise InvalidArgumentError(
            f"--devices is {devices}, but torchrun has started {num_started} processes. Leave --devices out."
        )
    if choose_device(device).type == "cuda" and devices > torch.cuda.device_count():
        num_gpus = torch.cuda.device_count()
        raise InvalidArgumentError(
            f"--devices is {devices}, but this machine has {num_gpus} GPUs. Use at most {num_gpus}, or --device cpu."
        )


def choose_process_device(device: str, devices: int | None) -> str:
    """Return the device name of this process, which is one of `devices` if given."""
    if devices is not None:
        require_devices(devices, device)
        if devices > 1 and not is_distributed():
            raise InvalidArgumentError(
                f"devices is {devices}, but Python runs in one process. Start the script with torchrun, or give "
                f"--devices on the command line."
            )
    if not is_distributed() or choose_device(device).type != "cuda":
        return device
    if ":" in device:
        raise InvalidArgumentError(
            f"--device {device} is one GPU for several processes. Use --device cuda: each process takes its own GPU."
        )
    return f"cuda:{os.environ.get('LOCAL_RANK', '0')}"


def name_attempt() -> str:
    """Return a name for this start of all processes.

    torchrun keeps its store when it restarts processes, with the addresses of the lost ones. A name per start keeps
    the new processes from connecting to those. Agents on several machines count restarts differently, so there
    TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1 must give each start its own store (docs/distributed.md).
    """
    is_one_machine = os.environ.get("GROUP_WORLD_SIZE", "1") == "1"
    return f"attempt-{os.environ.get('TORCHELASTIC_RESTART_COUNT', '0') if is_one_machine else '0'}"


class _SilentReporter:
    """Drops the messages and the progress of all processes but the first."""

    def log(self, message: str) -> None:
        pass

    def track(self, label: str, done: float, total: float, note: str = "") -> None:
        pass


@contextmanager
def open_world(device: str) -> Iterator[World]:
    """Join the processes that torchrun started; without torchrun, yield a world of one process.

    An existing process group is used and stays open. Only the first process logs and reports progress.
    """
    if not is_distributed():
        yield SINGLE_PROCESS
        return
    torch_device = choose_device(device)
    if torch_device.type == "cuda":
        torch.cuda.set_device(torch_device)
    with ExitStack() as stack:
        with explain_lost_process():
            if not dist.is_initialized():
                store, rank, size = next(rendezvous("env://", timeout=TIMEOUT))
                backend = "nccl" if torch_device.type == "cuda" else "gloo"
                dist.init_process_group(
                    backend, store=PrefixStore(name_attempt(), store), rank=rank, world_size=size, timeout=TIMEOUT
                )
                stack.callback(dist.destroy_process_group)
            control = dist.new_group(backend="gloo", timeout=TIMEOUT)
        if dist.get_rank() > 0:
            stack.enter_context(use_reporter(_SilentReporter(), level=logging.CRITICAL))
        yield World(rank=dist.get_rank(), size=dist.get_world_size(), control=control)


@contextmanager
def explain_lost_process() -> Iterator[None]:
    """Raise ProcessLostError instead of the errors of PyTorch that mean the same."""
    try:
        yield
    except RuntimeError as error:
        if isinstance(error, dist.DistError) or "gloo" in str(error).lower():
            raise ProcessLostError from error
        raise
