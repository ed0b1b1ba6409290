"""`train`: start or resume one run, or the folds of a cross-validation, in one or several processes."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pixelwise.api.launch import require_devices
from pixelwise.api.options import StrPath
from pixelwise.api.train_folds import cross_validate
from pixelwise.api.train_options import TrainOptions
from pixelwise.api.train_run import make_result, resume_run, start_run, train_run
from pixelwise.config import Config
from pixelwise.data.splits.splits import require_valid_num_folds
from pixelwise.errors import InvalidArgumentError
from pixelwise.progress import budget_start
from pixelwise.training.cross_validation import CrossValidation
from pixelwise.training.distributed import choose_process_device, is_distributed, open_world
from pixelwise.training.results import CrossValidationResult, TrainResult
from pixelwise.training.run_dir import RunFolder


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
        if devices > 1 and not is_distributed():
            raise InvalidArgumentError(
                f"devices is {devices}, but Python runs in one process. Start the script with torchrun, or use "
                f"`pixelwise train --devices {devices}`."
            )
    options = TrainOptions(
        data=data,
        config=config,
        changes=changes,
        weights=None if weights is None else os.fspath(weights),
        skip_invalid=skip_invalid,
        allow_changes=allow_changes,
        profile=profile,
        device_name=choose_process_device(device),
        precision=precision,
        started=budget_start(),
    )
    with open_world(options.device_name) as world:
        is_cross_validation = folds is not None or (
            output is not None and CrossValidation(path=output).summary.exists()
        )
        if world.share(is_cross_validation):
            return cross_validate(output, folds, options, world, resume=resume)
        is_resumed = resume and output is not None and RunFolder(output).config.exists()
        prepare_run = resume_run if is_resumed else start_run
        prepared = world.call_on_first(lambda: prepare_run(output, options, world))
        if prepared.arguments:
            train_run(prepared, options, world)
        return world.call_on_first(lambda: make_result(prepared.folder))
