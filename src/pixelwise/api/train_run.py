"""One run: begun, gone on with, trained and reported."""

import dataclasses
import logging
from collections.abc import Sequence
from pathlib import Path

import torch
import yaml

from pixelwise.api.config_diff import (
    Change,
    config_changes,
    data_changes,
    note_changes,
    read_change_notes,
    require_changeable,
    require_same_files,
    require_unchanged,
    rewrite_config,
    weighty,
    write_inventory,
)
from pixelwise.api.train_options import Request
from pixelwise.config import Config, load_config
from pixelwise.data.dataset import Dataset
from pixelwise.data.splits.splits import write_splits
from pixelwise.devices import enable_deterministic_algorithms
from pixelwise.errors import CheckpointError, InvalidArgumentError
from pixelwise.files import write_atomically
from pixelwise.model_file import load_model
from pixelwise.networks.activation_checkpointing import enable_activation_checkpointing
from pixelwise.networks.stages import compute_learning_rate_scales, get_first_stages
from pixelwise.planning.exclusions import LeftOut, read_left_out, without, write_left_out
from pixelwise.planning.plan import Plan
from pixelwise.planning.prepare_data import Prepared, prepare
from pixelwise.reports.training_report import TrainingReport, write_training_report
from pixelwise.training.checkpoint import Checkpoint, load_checkpoint
from pixelwise.training.early_stopping import early_stop_note
from pixelwise.training.loop import train_model
from pixelwise.training.profiler import profile_steps
from pixelwise.training.resource_errors import disk_trouble_explained
from pixelwise.training.results import TrainResult
from pixelwise.training.run_dir import RunFolder, default_run_folder
from pixelwise.training.signals import INTERRUPTIONS
from pixelwise.training.trainer import Job, alone
from pixelwise.training.validation import Scored

logger = logging.getLogger(__name__)


def start_run(run: RunFolder | None, request: Request) -> TrainResult:
    """Plans, describes the run in its folder and trains; None: the folder is the next free one of its name."""
    prepared = prepare(
        request.data,
        (request.given or Config()).replace(request.changes),
        skip_invalid=request.skip_invalid,
    )
    for note in prepared.notes:
        logger.info(note)
    made = request.plan(prepared)
    require_network(made.config, prepared)
    job = with_first_weights(prepared.job(made.config, request.place), request)
    run = run or RunFolder(default_run_folder(request.data, made.config.network.name))
    write_description(run, prepared, made)
    try:
        train_and_report(run, prepared, job, request, resume=False)
    except InvalidArgumentError:
        if not run.last_checkpoint.exists():
            run.take_back()
        raise
    return _result(run)


def resume_run(run: RunFolder, request: Request) -> TrainResult:
    """Goes on with the config and the splits that the folder holds, and without what it has left out."""
    started_with = load_config(run.config)
    config = request.again(started_with)
    changes = config_changes(started_with, config)
    if request.allow_changes:
        require_changeable(run, changes)
    else:
        require_unchanged(run, started_with, config)
    left_out = read_or_refuse_left_out(run, request.skip_invalid)
    checkpoint = load_checkpoint(run)
    if checkpoint and checkpoint.finished and run.report.exists() and not weighty(changes):
        logger.info(f"{run.path} is finished; nothing to do.")
        return _result(run)
    dataset = without(Dataset.load(request.data, config.data.format), left_out or ())
    if request.allow_changes:
        changes += data_changes(run, dataset)
    else:
        require_same_files(run, dataset)
    made_splits = run.splits if run.splits.exists() else None
    prepared = prepare(
        request.data, config, made_splits=made_splits, left_out=left_out, revise_splits=request.allow_changes
    )
    require_same_classes(run, prepared)
    job = prepared.job(config, request.place)
    if changes:
        take_changes(run, changes, checkpoint.step if checkpoint else 0, prepared, config)
    if checkpoint:
        job = normalizing_as(job, checkpoint) if request.allow_changes else job
    else:
        job = with_first_weights(job, request)
    train_and_report(run, prepared, job, request, resume=True)
    return _result(run)


def take_changes(run: RunFolder, changes: Sequence[Change], step: int, prepared: Prepared, config: Config) -> None:
    """Writes down that, and what, the run is from here on."""
    with disk_trouble_explained(run, "resume again."):
        note_changes(run, step, changes)
        write_splits(run.splits, prepared.splits, prepared.groups)
        write_inventory(run, prepared.dataset)
        rewrite_config(run.config, config, changes, step)


def normalizing_as(job: Job, checkpoint: Checkpoint) -> Job:
    """The job with the mean and std that its weights were trained with, whatever the images are now."""
    mean, std = (tuple(checkpoint.model[name].flatten().tolist()) for name in ("mean", "std"))
    return dataclasses.replace(job, spec=dataclasses.replace(job.spec, mean=mean, std=std))


def require_network(config: Config, prepared: Prepared) -> None:
    """A network that cannot be built is an error before anything is written."""
    with torch.device("meta"):
        network = prepared.job(config, torch.device("meta")).spec.build().network
    get_first_stages(network, config.optimizer.freeze_stages)
    compute_learning_rate_scales(network, config.optimizer.layer_decay)
    if config.training.activation_checkpointing:
        enable_activation_checkpointing(network)


def with_first_weights(job: Job, request: Request) -> Job:
    """The job with the trained weights that its config asks for; says what fitted."""
    source = job.config.network.encoder_weights
    if job.config.training.init_from:
        return with_weights_of_model(job, Path(job.config.training.init_from), request)
    if source == "none":
        if job.config.optimizer.freeze_stages:
            logger.info("warning: optimizer.freeze_stages keeps random weights; give --weights or --init-from")
        return job
    if source == "file" and request.weights in (None, "imagenet", "none"):
        raise InvalidArgumentError("network.encoder_weights is 'file': say which, with --weights FILE.")
    from pixelwise.networks.weights.from_classifier import (
        load_classifier_weights,  # imports torchvision and timm: seconds
    )

    torch.manual_seed(job.config.training.seed)  # for the layers that are new
    network = job.spec.build().network
    report = load_classifier_weights(
        network, job.config.network, "imagenet" if source == "imagenet" else Path(str(request.weights))
    )
    logger.info(f"weights: {report.summary()}")
    return dataclasses.replace(job, initial=network.state_dict())


def with_weights_of_model(job: Job, model: Path, request: Request) -> Job:
    """The job with the weights of another model, as far as its classes and channels are the same."""
    if job.config.network.encoder_weights != "none":
        raise InvalidArgumentError(
            "training.init_from and network.encoder_weights both say where the first weights are from; set one of them."
        )
    from pixelwise.networks.weights.from_model import (  # imports torchvision and timm: seconds
        NetworkSpec,
        load_model_weights,
    )

    module, spec = load_model(model)
    theirs, ours = (
        NetworkSpec(network=one.network, channels=one.channels, classes=tuple(one.classes.names))
        for one in (spec, job.spec)
    )
    torch.manual_seed(job.config.training.seed)  # for the classes that are new
    network = job.spec.build().network
    try:
        carried = load_model_weights(network, ours, module.network.state_dict(), theirs)
    except InvalidArgumentError as error:
        raise InvalidArgumentError(f"{model} is no start for this run: {error}") from error
    logger.info(f"from {model}: {carried.summary()}")
    return dataclasses.replace(job, initial=network.state_dict())


def read_or_refuse_left_out(run: RunFolder, skip_invalid: bool) -> tuple[LeftOut, ...] | None:
    """What the run has left out; None if it was not forced."""
    if run.left_out.exists():
        return read_left_out(run.left_out)
    if skip_invalid:
        raise CheckpointError(f"{run.path} was started without --skip-invalid; resume without it, or start a new run.")
    return None


def require_same_classes(run: RunFolder, prepared: Prepared) -> None:
    if run.classes.exists() and yaml.safe_load(run.classes.read_text()) != prepared.classes.to_dict():
        raise CheckpointError(
            f"the classes of {prepared.dataset.root} are not those that the run started with (see {run.classes}); "
            f"put them back, or start a new run."
        )


def write_description(run: RunFolder, prepared: Prepared, made: Plan) -> None:
    """What a run starts from, readable by people; config.yaml last, because it marks a run."""
    try:
        run.path.mkdir(parents=True, exist_ok=True)
        classes = yaml.safe_dump(prepared.classes.to_dict(), sort_keys=False)
        write_atomically(run.classes, classes.encode())
        write_splits(run.splits, prepared.splits, prepared.groups)
        write_inventory(run, prepared.dataset)
        run.changes.unlink(missing_ok=True)  # of an earlier run that was cleared away in part
        if prepared.left_out is None:
            run.left_out.unlink(missing_ok=True)
        else:
            write_left_out(run.left_out, prepared.left_out)
        write_atomically(run.config, made.to_yaml().encode())
    except OSError as error:
        raise InvalidArgumentError(
            f"{run.path} cannot be written to ({error.strerror}); choose another folder with -o."
        ) from error


def train_and_report(run: RunFolder, prepared: Prepared, job: Job, request: Request, *, resume: bool) -> Scored:
    """From the first step, or the last checkpoint, to the report."""
    job = dataclasses.replace(job, world=request.world)
    config = job.config.training
    deadline = request.started + config.budget_seconds if config.budget_seconds and config.steps is None else None
    how_to_go_on = f"go on with: pixelwise train {prepared.dataset.root} -o {run.path} --resume"
    with disk_trouble_explained(run, how_to_go_on):
        try:
            with enable_deterministic_algorithms(config.deterministic):
                if request.profile:
                    for line in profile_steps(alone(job), run).lines():
                        logger.info(line)
                scored = train_model(job, run, deadline=deadline, resume=resume)
        except INTERRUPTIONS:
            logger.info(f"stopped; {how_to_go_on}")
            raise
        metrics = list(run.read_metrics())
        early = early_stop_note(metrics, config.early_stopping_patience)
        report = TrainingReport(
            title=run.path.name,
            dataset=prepared.dataset,
            splits=prepared.splits,
            class_shares=prepared.seen.class_shares,
            predictor=scored.predictor,
            counts=scored.tally,
            metrics=metrics,
            config=run.config.read_text(encoding="utf-8"),
            notes=(*([early] if early else ()), *prepared.overruled, *read_change_notes(run), *prepared.notes),
        )
        write_training_report(run.report, report)
    if early:
        logger.info(early)
    return scored


def _result(run: RunFolder) -> TrainResult:
    _, spec = load_model(run.model)
    return TrainResult(run=run.path, model=run.model, report=run.report, scores=spec.scores)
