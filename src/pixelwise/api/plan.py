"""`pixelwise plan`: a recipe for a data set, this machine and a budget."""

import time
from pathlib import Path
from typing import Any

from pixelwise.config import Recipe, parse_duration
from pixelwise.data.io.images import write_atomically
from pixelwise.devices import choose_device, choose_precision
from pixelwise.planning.plan import Plan
from pixelwise.planning.planner import make_plan
from pixelwise.planning.prepare_data import prepare
from pixelwise.progress import Progress, Silent


def plan(
    data: str | Path,
    *,
    budget: str = "20m",
    layout: str | None = None,
    group: str | None = None,
    output: str | Path | None = None,
    device: str = "auto",
    precision: str = "auto",
    seed: int = 0,
    progress: Progress | None = None,
) -> Plan:
    """A recipe for a data set, this machine and a budget such as "20m", each choice with its reason."""
    started = time.monotonic()
    changes: dict[str, Any] = {
        "data.layout": layout,
        "training.budget_seconds": parse_duration(budget),
        "training.seed": seed,
        **({"data.group": group} if group is not None else {}),
    }
    prepared = prepare(data, Recipe().replace(changes))
    place = choose_device(device)
    made = make_plan(prepared, place, choose_precision(precision, place), changes, started, progress or Silent())
    if output:
        write_atomically(Path(output), made.to_yaml().encode())
    return made
