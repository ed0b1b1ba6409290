"""Two nodes of Ray on this machine, one CPU each; `kill` takes the second one away as a lost machine would go.

It says `ready` and the address, and ends with its input. `kill` waits until a worker is on the second node.
"""

import os
import signal
import sys
import time
from pathlib import Path

from ray.cluster_utils import Cluster

WORKER = "MapBatches(Worker)"
os.environ.setdefault("RAY_raylet_start_wait_time_s", "120")  # of a machine that other tests keep busy
PATIENCE_SECONDS = 120


def command_and_parent(pid: str) -> tuple[str, int]:
    try:
        command = Path("/proc", pid, "cmdline").read_text().replace("\0", " ")
        parent = int(Path("/proc", pid, "stat").read_text().rpartition(")")[2].split()[1])
    except OSError:  # it has ended
        return "", 0
    return command, parent


def has_worker(raylet: int) -> bool:
    found = (command_and_parent(pid) for pid in os.listdir("/proc") if pid.isdecimal())
    return any(WORKER in command and parent == raylet for command, parent in found)


def main() -> None:
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    second = cluster.add_node(num_cpus=1)
    raylet = second.all_processes["raylet"][0].process.pid
    print(f"ready\n{cluster.address}", flush=True)
    for line in sys.stdin:
        if line == "kill\n":
            until = time.monotonic() + PATIENCE_SECONDS
            while not (found := has_worker(raylet)) and time.monotonic() < until:
                time.sleep(0.05)
            os.kill(raylet, signal.SIGKILL)
            print("killed" if found else "killed, but there was no worker", flush=True)
    cluster.shutdown()


if __name__ == "__main__":
    main()
