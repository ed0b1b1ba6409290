"""`pixelwise train --devices N`: the same command in N processes of this machine, started by PyTorch's launcher."""

import os
import sys
from collections.abc import Sequence

import torch

from pixelwise.devices import choose_device
from pixelwise.errors import InvalidArgumentError
from pixelwise.progress import STARTED_VARIABLE, budget_start
from pixelwise.training.distributed import is_distributed


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


def launch(arguments: Sequence[str], devices: int) -> int:
    """Run `pixelwise` with these arguments in several processes, wait for them, and return their exit code."""
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    os.environ[STARTED_VARIABLE] = str(budget_start())
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // devices)))
    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=devices,
        run_id=f"pixelwise-{os.getpid()}",
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        max_restarts=0,
    )
    try:
        elastic_launch(config, sys.executable)("-m", "pixelwise", *arguments)
    except ChildFailedError as error:
        code: int = error.get_first_failure()[1].exitcode
        return code if code >= 0 else 128 - code  # the convention of shells
    except SignalException as error:
        return 128 + int(error.sigval)
    return 0
