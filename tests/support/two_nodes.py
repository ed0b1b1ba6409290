"""Two nodes of Ray on this machine, one CPU each; `kill` takes the second one away as a lost machine would go.

It says `ready` and the address, and ends with its input. `kill` waits until the second node is at work.
"""

import contextlib
import os
import signal
import sys
import tempfile
import time
from pathlib import Path

from ray.cluster_utils import Cluster

WORKER = "MapBatches(predict_chunks)"
PATIENCE_SECONDS = 120


def command_and_parent(pid: str) -> tuple[str, int]:
    try:
        command = Path("/proc", pid, "cmdline").read_text().replace("\0", " ")
        parent = int(Path("/proc", pid, "stat").read_text().rpartition(")")[2].split()[1])
    except OSError:  # it has ended
        return "", 0
    return command, parent


def children(raylet: int) -> dict[int, str]:
    """The processes of a node, with their command lines."""
    found = {int(pid): command_and_parent(pid) for pid in os.listdir("/proc") if pid.isdecimal()}
    return {pid: command for pid, (command, parent) in found.items() if parent == raylet}


def kill(raylet: int) -> bool:
    """Ends all processes of a node, once a worker is among them; whether one was."""
    until = time.monotonic() + PATIENCE_SECONDS
    while not (at_work := any(WORKER in command for command in children(raylet).values())):
        if time.monotonic() > until:
            break
        time.sleep(0.05)
    for pid in (raylet, *children(raylet)):
        with contextlib.suppress(ProcessLookupError):  # it has ended by itself
            os.kill(pid, signal.SIGKILL)
    return at_work


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="ray", ignore_cleanup_errors=True) as folder:
        os.environ["RAY_TMPDIR"] = folder  # nobody else's `ray.init` shall find these nodes
        serve()


def serve() -> None:
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    second = cluster.add_node(num_cpus=1)
    raylet = second.all_processes["raylet"][0].process.pid
    print(f"ready\n{cluster.address}", flush=True)
    for line in sys.stdin:
        if line == "kill\n":
            print("killed" if kill(raylet) else "killed, but no worker was there", flush=True)
    cluster.shutdown()


if __name__ == "__main__":
    main()
