"""K runs of one dataset: begun and gone on with, one config for all."""

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from pixelwise.api.config_diff import require_unchanged
from pixelwise.api.train_options import Request
from pixelwise.api.train_run import (
    read_or_refuse_left_out,
    require_network,
    require_same_classes,
    train_and_report,
    with_first_weights,
    write_description,
)
from pixelwise.config import Config, load_config
from pixelwise.errors import CheckpointError, InvalidArgumentError
from pixelwise.evaluation.evaluate import score_samples
from pixelwise.inference.predictor import load
from pixelwise.planning.plan import Plan
from pixelwise.planning.prepare_data import Prepared, prepare_folds
from pixelwise.training.checkpoint import load_checkpoint
from pixelwise.training.cross_validation import (
    CLOSING_SECONDS,
    Folds,
    FoldsFolder,
    read_folds,
    result_of,
    train_folds,
    write_folds,
)
from pixelwise.training.results import CrossValidationResult
from pixelwise.training.run_dir import RunFolder
from pixelwise.training.signals import INTERRUPTIONS

logger = logging.getLogger(__name__)


def start_folds(folder: FoldsFolder, num_folds: int, request: Request) -> CrossValidationResult:
    """Plans once, describes every fold, and trains them."""
    asked = request.taken(request.given or Config())
    prepared = prepare_folds(request.data, asked, num_folds, skip_invalid=request.skip_invalid)
    for note in dict.fromkeys(note for one in prepared for note in one.notes):
        logger.info(note)
    made = _plan_fold(prepared, asked, request)
    require_network(made.config, prepared[0])
    for number, one in enumerate(prepared, start=1):
        write_description(folder.fold(number), one, made)
    # Written last, because it marks folds that can be resumed.
    folds = Folds(num_folds=num_folds, budget_seconds=asked.training.budget_seconds)
    write_folds(folder, folds)
    try:
        return _train_folds(folder, folds, prepared, made.config, request)
    except InvalidArgumentError:
        if not folder.fold(1).last_checkpoint.exists():
            folder.take_back(num_folds)
        raise


def _plan_fold(prepared: Sequence[Prepared], asked: Config, request: Request) -> Plan:
    """One config for all folds, so that they differ in nothing but their images; each has its share of the budget."""
    total = asked.training.budget_seconds if asked.training.steps is None else None
    if total is None:
        return replace(request, started=time.monotonic()).plan(prepared[0])
    share = max(request.seconds_left(total), 1.0) / len(prepared)
    changes = {**request.changes, "training.budget_seconds": share}
    made = replace(request, changes=changes, started=time.monotonic()).plan(prepared[0])
    if made.config.training.steps is not None:
        return made
    share = (request.seconds_left(total) - CLOSING_SECONDS) / len(prepared)
    if share <= 0:
        raise InvalidArgumentError(f"the budget of {total:.0f} s ends before the first fold could start; give more.")
    reason = f"of {total:.0f} s for {len(prepared)} folds"
    config = made.config.replace({"training.budget_seconds": round(share, 1)})
    return Plan(config=config, reasons={**made.reasons, "training.budget_seconds": reason})


def resume_folds(folder: FoldsFolder, num_folds: int | None, request: Request) -> CrossValidationResult:
    """Goes on with the folds that are not done; those that are stay as they are."""
    folds = read_folds(folder)
    if request.allow_changes:
        raise InvalidArgumentError(
            f"{folder.path} holds folds, which are only alike without --allow-changes; resume without it."
        )
    if num_folds not in (None, folds.num_folds):
        raise CheckpointError(
            f"{folder.path} was started with {folds.num_folds} folds, not {num_folds}; resume without "
            f"changing it, or start new folds elsewhere."
        )
    runs = [folder.fold(number) for number in range(1, folds.num_folds + 1)]
    config = load_config(runs[0].config)
    whole = config.replace({"training.budget_seconds": folds.budget_seconds})
    require_unchanged(runs[0], whole, request.again(whole), changeable=False)
    if folds.finished and folder.page.exists():
        logger.info(f"{folder.path} is finished; nothing to do.")
        return result_of(folder, folds)
    left_out = read_or_refuse_left_out(runs[0], request.skip_invalid)
    made_splits = [run.splits for run in runs]
    prepared = prepare_folds(request.data, config, folds.num_folds, made_splits=made_splits, left_out=left_out)
    require_same_classes(runs[0], prepared[0])
    return _train_folds(folder, folds, prepared, config, request)


def _train_folds(
    folder: FoldsFolder, folds: Folds, prepared: Sequence[Prepared], config: Config, request: Request
) -> CrossValidationResult:
    def train_fold(number: int, started: float) -> Mapping[str, Any]:
        own = replace(request, started=started)
        return _train_fold(folder.fold(number), prepared[number - 1], config, own)

    seconds = config.training.budget_seconds if config.training.steps is None else None
    classes = prepared[0].classes
    try:
        return train_folds(folder, folds, train_fold, seconds_each=seconds, classes=classes)
    except INTERRUPTIONS:
        root = prepared[0].dataset.root
        logger.info(f"all folds go on with: pixelwise train {root} -o {folder.path} --resume")
        raise


def _train_fold(run: RunFolder, prepared: Prepared, config: Config, request: Request) -> Mapping[str, Any]:
    """The scores of one fold on its validation images, trained as far as it is not yet."""
    job = prepared.job(config, request.place)
    names = prepared.classes.names
    checkpoint = load_checkpoint(run)
    if checkpoint and checkpoint.finished and run.report.exists():  # stopped before its scores were written down
        predictor = load(run.path, device=str(job.device), precision="fp32", engine="torch")
        return score_samples(predictor, job.dataset, job.val_samples()).compute_scores(names)
    if not checkpoint:
        job = with_first_weights(job, request)
    return train_and_report(run, prepared, job, request, resume=True).tally.compute_scores(names)
