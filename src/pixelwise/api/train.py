"""`pixelwise train`: from a folder of images and masks to a model file."""

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from pixelwise.api.train_folds import resume_folds, start_folds
from pixelwise.api.train_options import Request
from pixelwise.api.train_run import TrainResult, resume_run, start_run
from pixelwise.config import Config, load_config, parse_duration, parse_settings
from pixelwise.data.splits.splits import require_valid_num_folds
from pixelwise.devices import choose_device, choose_precision
from pixelwise.errors import InvalidArgumentError, unknown_name
from pixelwise.networks import NETWORKS
from pixelwise.progress import budget_start
from pixelwise.training.cross_validation import FoldsFolder, FoldsResult
from pixelwise.training.distributed import device_of_process, open_world
from pixelwise.training.following import follow
from pixelwise.training.loggers import require_loggers
from pixelwise.training.run_dir import RunFolder, default_run_folder

logger = logging.getLogger(__name__)


def train(
    data: str | Path,
    output: str | Path | None = None,
    *,
    format: str | None = None,
    group_by: str | None = None,
    folds: int | None = None,
    config: str | Path | None = None,
    network: str | None = None,
    encoder: str | None = None,
    weights: str | Path | None = None,
    init_from: str | Path | None = None,
    budget: str | None = None,
    steps: int | None = None,
    resume: bool = False,
    allow_changes: bool = False,
    profile: bool = False,
    skip_invalid: bool = False,
    settings: Sequence[str] = (),
    seed: int | None = None,
    deterministic: bool = False,
    device: str = "auto",
    precision: str = "auto",
) -> TrainResult | FoldsResult:
    """Plans, trains, scores and reports: from a folder of images and masks to a model file.

    The whole takes the `budget` (default 20m), counted from `started` (time.monotonic) where the
    caller's own start is to be paid for; or it takes `steps` optimizer steps. `weights` are those of
    the `encoder`: "imagenet", "none" or a file of a classifier's weights. `config` replaces the plan;
    `init_from` is a run folder or model file to go on from, on other data and perhaps with other
    classes: its network is taken unless another is named, and its weights as far as they fit.
    `settings` are "section.key=value" and win over both. The run folder is `output`, else
    `runs/DATA-NETWORK-N`; one that holds a run is refused without `resume`.

    `group` is what may not be in two splits: a regular expression on the names, or FILE.csv:COLUMN.
    With `folds`, the training and validation images are dealt into so many folds, one run each in
    `output`/fold-1, ..., which share the budget; a FoldsResult says how the scores vary.
    Errors in the data stop, unless `skip_invalid`: then each is said, the pairs they name are left out, listed
    in `left_out.yaml` and in the report, and the rest is trained on if it can be. A run that is resumed
    goes on with what it began with; another config or dataset is refused, unless `allow_changes` takes it
    from there on and writes the difference into `changes.yaml`. SIGTERM saves the run and exits with 143.
    With `profile`, a few steps of a copy are timed first: a table by part and by operator, in `profile.txt`,
    and every operator on a time line, in `profile.json.gz`.
    Of several processes that torchrun has started, each on its part of every batch, the first one plans, writes
    and says; all return the same.
    """
    if budget is not None and steps is not None:
        raise InvalidArgumentError("--budget and --steps both say how long to train; give one of them.")
    if resume and output is None:
        raise InvalidArgumentError("--resume needs the folder of the run: give it with -o.")
    if init_from is not None and weights not in (None, "none"):
        raise InvalidArgumentError("--init-from and --weights both set the initial weights; give one of them.")
    if allow_changes and not resume:
        raise InvalidArgumentError("--allow-changes is for a run that goes on; give it with --resume.")
    if folds is not None:
        require_valid_num_folds(folds)
    request = Request(
        data=Path(data),
        given=load_config(config) if config else None,
        changes=_changes(
            format, group_by, network, encoder, weights, init_from, budget, steps, seed, deterministic, settings
        ),
        weights=weights,
        skip_invalid=skip_invalid,
        allow_changes=allow_changes,
        profile=profile,
        device=device_of_process(device),
        precision=precision,
        started=budget_start(),
    )
    folder = Path(output) if output else None
    with open_world(request.device) as world:
        if not world.is_first:
            result: TrainResult | FoldsResult = follow(world, request.place)
            return result
        request = replace(request, world=world)
        return world.share(_resume(folder, folds, request) if resume and folder else _start(folder, folds, request))


def _start(folder: Path | None, folds: int | None, request: Request) -> TrainResult | FoldsResult:
    """What can be refused at once is refused before the data is read."""
    if folder and (folds or FoldsFolder(folder).summary.exists()):
        FoldsFolder(folder).require_free()
    if folder:
        RunFolder(folder).require_free()
    RunFolder(folder or Path("runs")).require_writable()
    choose_precision(request.precision, choose_device(request.device))
    request = request.with_network_of_model()
    asked = (request.given or Config()).replace(request.changes)
    require_loggers(asked.training.loggers)
    network = asked.network.name
    if network not in NETWORKS:
        raise unknown_name("network", network, NETWORKS)
    if folds is None:
        return start_run(RunFolder(folder) if folder else None, request)
    return start_folds(FoldsFolder(folder or default_run_folder(request.data, network)), folds, request)


def _resume(folder: Path, folds: int | None, request: Request) -> TrainResult | FoldsResult:
    if FoldsFolder(folder).summary.exists():
        return resume_folds(FoldsFolder(folder), folds, request)
    if RunFolder(folder).config.exists():
        return resume_run(RunFolder(folder), request)
    logger.info(f"{folder} holds no run yet: starting from the beginning")
    return _start(folder, folds, request)


def _changes(
    format: str | None,
    group_by: str | None,
    network: str | None,
    encoder: str | None,
    weights: str | Path | None,
    init_from: str | Path | None,
    budget: str | None,
    steps: int | None,
    seed: int | None,
    deterministic: bool,
    settings: Sequence[str],
) -> dict[str, Any]:
    """What the caller decided, as config keys."""
    changes: dict[str, Any] = parse_settings(settings)
    named = {
        "data.format": format,
        "data.group_by": group_by,
        "network.name": network,
        "network.encoder": encoder,
        "network.encoder_weights": weights if weights in (None, "imagenet", "none") else "file",
        "training.init_from": None if init_from is None else str(init_from),
        "training.steps": steps,
        "training.budget_seconds": parse_duration(budget) if budget else None,
        "training.seed": seed,
        "training.deterministic": True if deterministic else None,
    }
    return {**changes, **{key: value for key, value in named.items() if value is not None}}
