"""Runs the command line in processes that send themselves a signal at a chosen instant.

Started once, because the imports take seconds; each request (a line of JSON) is a fork of its own:
{"arguments": [...], "instant": {...} or null, "output": FILE}. The answer is its exit code, negative for
a signal. An instant is {"call", "name", "number", "when", "signal"}: before or after the call with that
number of a function on a file of that name; or `half` through the bytes of a file.
"""

import importlib
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

RUN_MODULES = (
    *("pixelwise.api.train_run", "pixelwise.cli.main", "pixelwise.reports.training_report", "pixelwise.training.loop"),
    *("torch._dynamo", "torch.utils.tensorboard"),
)


def main() -> None:
    for name in RUN_MODULES:
        importlib.import_module(name)
    print("ready", flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        child = os.fork()
        if child == 0:
            run(**request)
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


def run(arguments: list[str], instant: dict[str, Any] | None, output: str) -> None:
    import torch

    from pixelwise.cli import main
    from pixelwise.training import loop

    file = os.open(output, os.O_WRONLY | os.O_CREAT)
    os.dup2(file, 1)
    os.dup2(file, 2)
    torch.set_num_threads(2)  # as in the other tests: sums over more threads round differently
    loop.compute_checkpoint_interval = lambda *arguments, **more: 0.0  # a checkpoint after each step
    if instant:
        die_at(**instant)
    try:
        main.main(arguments)
    except SystemExit as error:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(error.code if isinstance(error.code, int) else 1 if error.code else 0)


def die_at(call: str, name: str = "", number: int = 1, when: str = "before", signal: int = 9) -> None:
    """Wraps the function `call` (see `places`)."""
    owner, attribute, name_of = places()[call]
    function, seen = getattr(owner, attribute), [0]

    def watched(*arguments: Any, **more: Any) -> Any:
        seen[0] += name_of(*arguments) == name if name else 1
        now = seen[0] == number and (not name or name_of(*arguments) == name)
        if now and when == "half":
            os.truncate(arguments[0], os.fstat(arguments[0]).st_size // 2)
        if now and when != "after":
            os.kill(os.getpid(), signal)
        result = function(*arguments, **more)
        if now and when == "after":
            os.kill(os.getpid(), signal)
        return result

    setattr(owner, attribute, watched)


def places() -> dict[str, tuple[Any, str, Callable[..., str]]]:
    """Function → where it is, and the name of the file it is about."""
    from pixelwise.training import loop
    from pixelwise.training.run_dir import RunFolder
    from pixelwise.training.trainer import Trainer

    def being_written(file: int) -> str:
        """`.last.checkpoint.123.part` is `last.checkpoint`."""
        return Path(os.readlink(f"/proc/self/fd/{file}")).name[1:].rpartition(".part")[0].rpartition(".")[0]

    return {
        "rename": (os, "replace", lambda source, target: Path(target).name),
        "write": (os, "fsync", being_written),
        "step": (Trainer, "step", lambda *arguments: ""),
        "average": (Trainer, "update_average", lambda *arguments: ""),
        "log": (RunFolder, "append_metrics", lambda *arguments: ""),
        "evaluate": (loop, "score_and_keep_best", lambda *arguments: ""),
        "save": (loop, "save_checkpoint", lambda *arguments: ""),
        "finish": (loop, "score_best_model", lambda *arguments: ""),
    }


if __name__ == "__main__":
    main()
