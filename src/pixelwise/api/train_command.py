"""Start or resume one run or the folds of a cross-validation, in one or several processes."""

import logging
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from pixelwise.api.launch import require_devices
from pixelwise.api.options import StrPath
from pixelwise.api.train_folds import resume_folds, start_folds
from pixelwise.api.train_options import Request
from pixelwise.api.train_run import resume_run, start_run
from pixelwise.config import Config
from pixelwise.data.splits.splits import require_valid_num_folds
from pixelwise.devices import choose_device, choose_precision
from pixelwise.errors import InvalidArgumentError, unknown_name
from pixelwise.networks import NETWORKS
from pixelwise.progress import budget_start
from pixelwise.training.cross_validation import FoldsFolder
from pixelwise.training.distributed import device_of_process, is_one_of_several, open_world
from pixelwise.training.following import follow
from pixelwise.training.loggers import require_loggers
from pixelwise.training.results import CrossValidationResult, TrainResult
from pixelwise.training.run_dir import RunFolder, default_run_folder

logger = logging.getLogger(__name__)


def start_or_resume(
    data: Path,
    output: Path | None,
    *,
    changes: Mapping[str, Any],
    config: Config | None,
    weights: StrPath | None,
    folds: int | None,
    resume: bool,
    allow_changes: bool,
    profile: bool,
    skip_invalid: bool,
    devices: int | None,
    device: str,
    precision: str,
) -> TrainResult | CrossValidationResult:
    """Train with the arguments of `pixelwise.api.train`, whose configuration keys are in `changes`."""
    if folds is not None:
        require_valid_num_folds(folds)
    if devices is not None:
        require_devices(devices, device)
        if devices > 1 and not is_one_of_several():
            raise InvalidArgumentError(
                f"devices is {devices}, but Python runs in one process. Start the script with torchrun, or use "
                f"`pixelwise train --devices {devices}`."
            )
    request = Request(
        data=data,
        given=config,
        changes=changes,
        weights=None if weights is None else os.fspath(weights),
        skip_invalid=skip_invalid,
        allow_changes=allow_changes,
        profile=profile,
        device=device_of_process(device),
        precision=precision,
        started=budget_start(),
    )
    with open_world(request.device) as world:
        if not world.is_first:
            result: TrainResult | CrossValidationResult = follow(world, request.place)
            return result
        request = replace(request, world=world)
        return world.share(_resume(output, folds, request) if resume and output else _start(output, folds, request))


def _start(folder: Path | None, folds: int | None, request: Request) -> TrainResult | CrossValidationResult:
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


def _resume(folder: Path, folds: int | None, request: Request) -> TrainResult | CrossValidationResult:
    if FoldsFolder(folder).summary.exists():
        return resume_folds(FoldsFolder(folder), folds, request)
    if RunFolder(folder).config.exists():
        return resume_run(RunFolder(folder), request)
    logger.info(f"{folder} holds no run yet: starting from the beginning")
    return _start(folder, folds, request)
