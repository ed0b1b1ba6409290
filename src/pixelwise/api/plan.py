"""`pixelwise plan`: a config for a dataset, this machine and a budget."""

import time
from pathlib import Path
from typing import Any

from pixelwise.config import Config, parse_duration
from pixelwise.devices import choose_device, choose_precision
from pixelwise.files import write_atomically
from pixelwise.planning.plan import Plan
from pixelwise.planning.planner import make_plan
from pixelwise.planning.prepare_data import prepare


def plan(
    data: str | Path,
    *,
    budget: str = "20m",
    format: str | None = None,
    group_by: str | None = None,
    output: str | Path | None = None,
    device: str = "auto",
    precision: str = "auto",
    seed: int = 0,
) -> Plan:
    """A config for a dataset, this machine and a budget such as "20m", each choice with its reason."""
    started = time.monotonic()
    changes: dict[str, Any] = {
        "data.format": format,
        "training.budget_seconds": parse_duration(budget),
        "training.seed": seed,
        **({"data.group_by": group_by} if group_by is not None else {}),
    }
    prepared = prepare(data, Config().replace(changes))
    place = choose_device(device)
    made = make_plan(prepared, place, choose_precision(precision, place), changes, started)
    if output:
        write_atomically(Path(output), made.to_yaml().encode())
    return made
