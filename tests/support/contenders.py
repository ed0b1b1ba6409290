"""Runs command lines in processes that write to one place at the same time.

Started once, because the imports take seconds. Each request (a line of JSON) is {"commands": [[...], ...], "hold":
"module:attribute", "number", "kill", "folder"}: a fork for each command waits before the call with that
number of a function, until all have come there or have ended. Then they continue, or are killed. The answer is the
list of their exit codes, negative for a signal.
"""

import importlib
import json
import os
import signal
import sys
from operator import attrgetter
from typing import Any

IMPORTS = (
    *("pixelwise.api.models", "pixelwise.api.train_run", "pixelwise.cli.main", "pixelwise.cli.results"),
    *("pixelwise.conversion", "pixelwise.exporting.export", "pixelwise.prediction.predict"),
    *("pixelwise.reports.training_report", "pixelwise.training.loop", "torch._dynamo", "torch.utils.tensorboard"),
)
"""All that the commands import."""


def main() -> None:
    import torch

    for name in IMPORTS:
        importlib.import_module(name)
    torch.set_num_threads(1)
    print("ready", flush=True)
    for line in sys.stdin:
        print(json.dumps(run_all(**json.loads(line))), flush=True)


def run_all(commands: list[list[str]], hold: str, number: int, kill: bool, folder: str) -> list[int]:
    """Run the commands; return their exit codes."""
    children, arrivals, releases = [], [], []
    os.chdir(folder)
    for position, arguments in enumerate(commands, start=1):
        arrival, release = os.pipe(), os.pipe()
        child = os.fork()
        if child == 0:
            for pipe in (arrival[0], release[1], *arrivals, *releases):  # whose ends tell of another process
                os.close(pipe)
            run(arguments, hold, number, arrival[1], release[0], f"said{position}.txt")
        os.close(arrival[1])
        os.close(release[0])
        children.append(child)
        arrivals.append(arrival[0])
        releases.append(release[1])
    for pipe in arrivals:
        os.read(pipe, 1)  # a byte, or nothing from a process that has ended
        os.close(pipe)
    if kill:
        for child in children:
            os.kill(child, signal.SIGKILL)
    for pipe in releases:
        os.close(pipe)
    return [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]


def run(arguments: list[str], hold: str, number: int, arrival: int, release: int, output: str) -> None:
    """Run one command in this process, and end it."""
    from pixelwise.cli import main

    file = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(file, 1)
    os.dup2(file, 2)
    module, _, path = hold.partition(":")
    parent, _, name = path.rpartition(".")
    owner: Any = importlib.import_module(module)
    owner = attrgetter(parent)(owner) if parent else owner
    function, calls = getattr(owner, name), [0]

    def held(*given: Any, **options: Any) -> Any:
        calls[0] += 1
        if calls[0] == number:
            os.write(arrival, b".")
            os.read(release, 1)
        return function(*given, **options)

    setattr(owner, name, held)
    code: Any = 0
    try:
        main.main(arguments)
    except SystemExit as error:
        code = error.code
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code if isinstance(code, int) else int(bool(code)))


if __name__ == "__main__":
    main()
