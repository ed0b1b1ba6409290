"""Cross-validation: K runs with one config, prepared or resumed by the first process and trained by all."""

import logging
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

from pixelwise.api.config_diff import require_same_config
from pixelwise.api.train_options import TrainOptions
from pixelwise.api.train_run import (
    PreparedRun,
    load_exclusions,
    make_prepared_run,
    require_same_classes,
    require_trainable,
    train_run,
    write_description,
)
from pixelwise.config import Config, load_config
from pixelwise.errors import CheckpointError, InvalidArgumentError
from pixelwise.evaluation.evaluate import score_samples
from pixelwise.inference.predictor import load
from pixelwise.output_files import claim_output
from pixelwise.planning.prepare_data import TrainingData, prepare_folds
from pixelwise.reports.commands import make_commands
from pixelwise.training.checkpoint import load_checkpoint
from pixelwise.training.cross_validation import CLOSING_SECONDS, CrossValidation, load_cross_validation, schedule_start
from pixelwise.training.distributed import World
from pixelwise.training.results import CrossValidationResult
from pixelwise.training.run_dir import claim_default_folder
from pixelwise.training.trainer import draw_val_samples

logger = logging.getLogger(__name__)


def cross_validate(options: TrainOptions, world: World, claims: ExitStack) -> CrossValidationResult:
    """Train and score the folds that are not finished; all processes call it together.

    `claims` gets the claim on the folder.
    """

    def prepare() -> tuple[CrossValidation, list[PreparedRun]]:
        if options.output:
            claims.enter_context(claim_output(options.output))
        is_resumed = options.resume and options.output and CrossValidation(path=options.output).summary.exists()
        return resume_folds(options, world) if is_resumed else start_folds(options, world, claims)

    folds, runs = world.call_on_first(prepare)
    begun = time.monotonic()
    remaining = [run for run in runs if run.folder.path.name not in folds.scores]
    for position, run in enumerate(remaining):
        logger.info(f"fold {run.folder.path.name.rpartition('-')[2]} of {folds.num_folds}")
        config = run.config.training
        seconds = (config.budget_seconds or 0.0) if config.steps is None else 0.0
        started = schedule_start(begun, position, seconds)
        try:
            scores = train_fold(run, options, world, started)
        except InvalidArgumentError:
            if world.is_first and not folds.folds[0].last_checkpoint.exists():
                folds.discard()
            raise
        if world.is_first:
            folds.add_scores(run.folder, scores)
    if runs and world.is_first:
        dataset = runs[0].arguments["dataset"]
        commands = make_commands(folds.folds[0].path, dataset, None, folds.path / "evaluation.html")
        folds.write_report(runs[0].arguments["spec"].classes, commands)
    return world.call_on_first(folds.make_result)


def start_folds(options: TrainOptions, world: World, claims: ExitStack) -> tuple[CrossValidation, list[PreparedRun]]:
    """Plan once, and describe every fold in its folder."""
    num_folds = options.folds or 0
    if options.output:
        CrossValidation(path=options.output, num_folds=num_folds).require_free()
    options = options.check()
    given = options.complete(options.config or Config())
    data = prepare_folds(options.data, given, num_folds, skip_invalid=options.skip_invalid)
    for note in dict.fromkeys(note for fold in data for note in fold.notes):
        logger.info(note)
    config = _plan_folds(data, given, options)
    folds = CrossValidation(
        path=options.output or claim_default_folder(options.data, config.network.name, claims),
        num_folds=num_folds,
        budget_seconds=given.training.budget_seconds,
    )
    runs = [make_prepared_run(*pair, config, options) for pair in zip(folds.folds, data, strict=True)]
    require_trainable(runs[0], world)
    folds.unfinished.parent.mkdir(parents=True, exist_ok=True)
    folds.unfinished.touch()
    for run, fold in zip(runs, data, strict=True):
        write_description(run.folder, fold, config)
    folds.write()  # last, because folds.json marks folds that can be resumed
    folds.unfinished.unlink(missing_ok=True)
    return folds, runs


def _plan_folds(data: Sequence[TrainingData], given: Config, options: TrainOptions) -> Config:
    """Return one config for all folds, so that only their images differ; each gets an equal part of the budget."""
    total = given.training.budget_seconds if given.training.steps is None else None
    if total is None:
        return replace(options, started=time.monotonic()).make_config(data[0])
    share = max(options.started + total - time.monotonic(), 1.0) / len(data)
    changes = {**options.changes, "training.budget_seconds": share}
    config = replace(options, changes=changes, started=time.monotonic()).make_config(data[0])
    if config.training.steps is not None:
        return config
    share = (options.started + total - time.monotonic() - CLOSING_SECONDS) / len(data)
    if share <= 0:
        raise InvalidArgumentError(
            f"The budget of {total:.0f} s ends before the first fold could start. Give a longer budget."
        )
    reasons = {"training.budget_seconds": f"of {total:.0f} s for {len(data)} folds"}
    return config.replace({"training.budget_seconds": round(share, 1)}, reasons=reasons)


def resume_folds(options: TrainOptions, world: World) -> tuple[CrossValidation, list[PreparedRun]]:
    """Prepare the folds with the config, splits and exclusions that their folders hold; none if all are finished."""
    output, num_folds = options.output, options.folds
    assert output is not None
    folds = load_cross_validation(output)
    if options.allow_changes:
        raise InvalidArgumentError(
            f"{output} contains folds, which are comparable only without changes. Resume without --allow-changes."
        )
    if num_folds not in (None, folds.num_folds):
        raise CheckpointError(
            f"{output} was started with {folds.num_folds} folds, not {num_folds}. Resume without changing it, or start "
            f"new folds in another folder."
        )
    first = folds.folds[0]
    config = load_config(first.config)
    whole = config.replace({"training.budget_seconds": folds.budget_seconds})
    require_same_config(first, whole, options.complete_resumed(whole), is_changeable=False)
    if folds.is_finished and folds.report.exists():
        logger.info(f"{output} is finished; nothing to do.")
        return folds, []
    exclusions = load_exclusions(first, options)
    splits_files = [run.splits for run in folds.folds]
    data = prepare_folds(options.data, config, folds.num_folds, splits_files=splits_files, exclusions=exclusions)
    require_same_classes(first, data[0])
    world.require_divisible(config.training.batch_size)
    runs = [
        make_prepared_run(folder, fold, config, options, load_weights=not load_checkpoint(folder))
        for folder, fold in zip(folds.folds, data, strict=True)
    ]
    return folds, runs


def train_fold(run: PreparedRun, options: TrainOptions, world: World, started: float) -> Mapping[str, Any]:
    """Train a fold as far as it is not finished; return its scores on its validation images."""
    names = run.arguments["spec"].classes.names

    def score_finished() -> Mapping[str, Any] | None:
        checkpoint = load_checkpoint(run.folder)
        if not (checkpoint and checkpoint.finished and run.folder.report.exists()):
            return None
        predictor = load(run.folder.path, device=str(options.device), precision="fp32", engine="torch")
        samples = draw_val_samples(run.config, run.arguments["splits"])
        return score_samples(predictor, run.arguments["dataset"], samples).compute_scores(names)

    # A fold may have finished just before its scores were stored.
    scores = world.call_on_first(score_finished)
    return scores or train_run(run, options, world, started=started).compute_scores(names)
