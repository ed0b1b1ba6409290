"""One run: prepared or resumed by the first process, trained by all, and reported."""

import logging
from collections.abc import Sequence
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
import yaml

from pixelwise.api.config_diff import (
    Change,
    compare_configs,
    compare_files,
    describe_changes,
    require_changeable,
    require_same_config,
    require_same_files,
    select_effective,
    write_changes,
)
from pixelwise.api.train_options import TrainOptions
from pixelwise.config import Config, load_config
from pixelwise.data.file_records import record_files, write_file_records
from pixelwise.data.joined_dataset import load_datasets
from pixelwise.data.splits.splits import write_splits
from pixelwise.devices import enable_deterministic_algorithms
from pixelwise.errors import CheckpointError, InvalidArgumentError, TrainingError, convert_os_error
from pixelwise.evaluation.evaluate import EvaluationCounts
from pixelwise.files import write_atomically
from pixelwise.model_file import ModelSpec, load_model
from pixelwise.networks.stages import compute_learning_rate_scales, enable_activation_checkpointing, get_first_stages
from pixelwise.output_files import claim_output
from pixelwise.planning.exclusions import Exclusion, drop_excluded, read_exclusions, write_exclusions
from pixelwise.planning.prepare_data import TrainingData, prepare_data
from pixelwise.reports.commands import make_commands
from pixelwise.reports.evaluation_report import EvaluationReport
from pixelwise.reports.training_report import TrainingReport, write_training_report
from pixelwise.reports.verdict import TrainingFacts, judge
from pixelwise.training.checkpoint import load_checkpoint
from pixelwise.training.distributed import ProcessLostError, World
from pixelwise.training.live_report import LivePage
from pixelwise.training.loop import fit
from pixelwise.training.metrics_log import describe_early_stop
from pixelwise.training.profiler import profile_steps
from pixelwise.training.resource_errors import explain_disk_errors
from pixelwise.training.results import TrainResult
from pixelwise.training.run_dir import RunFolder, claim_default_folder
from pixelwise.training.signals import INTERRUPTIONS
from pixelwise.training.trainer import Trainer
from pixelwise.training.validation import ScoredModel

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class PreparedRun:
    """A run that the first process prepared and all processes train."""

    folder: RunFolder
    arguments: dict[str, Any]
    """Arguments of the Trainer; empty if the run is finished."""
    class_shares: tuple[float, ...] = ()
    notes: tuple[str, ...] = ()
    """For the report."""
    is_new: bool = False

    @property
    def config(self) -> Config:
        """The config of the run."""
        config: Config = self.arguments["config"]
        return config


def prepare_run(options: TrainOptions, world: World, claims: ExitStack) -> PreparedRun:
    """Start a run, or resume the one in the output folder; `claims` gets the claim on the folder."""
    if options.output:
        claims.enter_context(claim_output(options.output))
    is_resumed = options.resume and options.output and RunFolder(options.output).config.exists()
    return resume_run(options, world) if is_resumed else start_run(options, world, claims)


def start_run(options: TrainOptions, world: World, claims: ExitStack) -> PreparedRun:
    """Read the data, plan, and describe the run in its folder; by default the next free one."""
    if options.output:
        RunFolder(options.output).require_free()
    options = options.check()
    given = (options.config or Config()).replace(options.changes)
    data = prepare_data(options.data, given, skip_invalid=options.skip_invalid)
    for note in data.notes:
        logger.info(note)
    config = options.make_config(data)
    folder = RunFolder(options.output or claim_default_folder(options.data, config.network.name, claims))
    run = make_prepared_run(folder, data, config, options, is_new=True)
    require_trainable(run, world)
    write_description(folder, data, config)
    return run


def resume_run(options: TrainOptions, world: World) -> PreparedRun:
    """Prepare a run with the config, splits and exclusions that its folder holds."""
    assert options.output is not None
    folder = RunFolder(options.output)
    before = load_config(folder.config)
    config = options.complete_resumed(before)
    changes = compare_configs(before, config)
    if options.allow_changes:
        require_changeable(folder, changes)
    else:
        require_same_config(folder, before, config)
    exclusions = load_exclusions(folder, options)
    checkpoint = load_checkpoint(folder)
    if checkpoint and checkpoint.finished and folder.report.exists() and not select_effective(changes):
        logger.info(f"{folder.path} is finished; nothing to do.")
        return PreparedRun(folder, arguments={})
    dataset = drop_excluded(load_datasets(options.data, config.data.format, config.data.masks), exclusions or ())
    if options.allow_changes:
        changes += compare_files(folder, dataset)
    else:
        require_same_files(folder, dataset)
    data = prepare_data(
        options.data,
        config,
        splits_file=folder.splits if folder.splits.exists() else None,
        exclusions=exclusions,
        update_splits=options.allow_changes,
    )
    require_same_classes(folder, data)
    prepared = make_prepared_run(folder, data, config, options, load_weights=not checkpoint)
    world.require_divisible(config.training.batch_size)
    if changes:
        config = replace(config, reasons={**before.reasons, **config.reasons})
        accept_changes(folder, data, config, changes, checkpoint.step if checkpoint else 0)
    if checkpoint and options.allow_changes:  # the weights were trained with this mean and std
        mean, std = (tuple(checkpoint.model[name].flatten().tolist()) for name in ("mean", "std"))
        prepared.arguments["spec"] = replace(prepared.arguments["spec"], mean=mean, std=std)
    return prepared


def make_prepared_run(
    folder: RunFolder,
    data: TrainingData,
    config: Config,
    options: TrainOptions,
    *,
    load_weights: bool = True,
    is_new: bool = False,
) -> PreparedRun:
    """Collect what the trainer and the report need."""
    arguments = data.trainer_arguments(config)
    weights = load_initial_weights(config, arguments["spec"], options.weights) if load_weights else None
    notes = (*data.waived, *data.notes)
    return PreparedRun(folder, {**arguments, "initial_weights": weights}, data.class_shares, notes, is_new)


def require_trainable(prepared: PreparedRun, world: World) -> None:
    """Raise InvalidArgumentError before anything is written if the network or the batches cannot be trained."""
    config = prepared.config
    world.require_divisible(config.training.batch_size)
    with torch.device("meta"):
        network = prepared.arguments["spec"].build().network
    get_first_stages(network, config.optimizer.freeze_stages)
    compute_learning_rate_scales(network, config.optimizer.layer_decay)
    if config.training.activation_checkpointing:
        enable_activation_checkpointing(network)


def load_initial_weights(config: Config, spec: ModelSpec, weights: str | None) -> dict[str, torch.Tensor] | None:
    """Load the pretrained weights that the config names, and log what was loaded; None: random weights."""
    source = config.network.encoder_weights
    if config.training.init_from:
        if source != "none":
            raise InvalidArgumentError(
                "training.init_from and network.encoder_weights both set the initial weights. Set one of them."
            )
        return _load_model_weights(config, spec, Path(config.training.init_from))
    if source == "none":
        if config.optimizer.freeze_stages:
            logger.warning("optimizer.freeze_stages freezes random weights. Give --weights or --init-from.")
        return None
    if source == "file" and weights in (None, "imagenet", "none"):
        raise InvalidArgumentError("network.encoder_weights is 'file', but no file is given. Add --weights FILE.")
    from pixelwise.networks.weights import load_classifier_weights  # imports torchvision: seconds

    torch.manual_seed(config.training.seed)  # for layers without pretrained weights
    network = spec.build().network
    report = load_classifier_weights(
        network, config.network, "imagenet" if source == "imagenet" else Path(str(weights))
    )
    logger.info(f"weights: {report.summary()}")
    return network.state_dict()


def _load_model_weights(config: Config, spec: ModelSpec, model: Path) -> dict[str, torch.Tensor]:
    """Load the weights of another model, as far as its classes and channels are the same."""
    from pixelwise.networks.weights import NetworkSpec, load_model_weights  # imports torchvision: seconds

    module, model_spec = load_model(model)
    theirs, ours = (
        NetworkSpec(network=s.network, channels=s.channels, classes=tuple(s.classes.names)) for s in (model_spec, spec)
    )
    torch.manual_seed(config.training.seed)  # for new classes
    network = spec.build().network
    try:
        report = load_model_weights(network, ours, module.network.state_dict(), theirs)
    except InvalidArgumentError as error:
        raise InvalidArgumentError(f"The weights of {model} cannot be used for this run: {error}") from error
    logger.info(f"weights of {model}: {report.summary()}")
    return network.state_dict()


def load_exclusions(folder: RunFolder, options: TrainOptions) -> tuple[Exclusion, ...] | None:
    """Return the files that the run excludes; None if it was started without --skip-invalid."""
    if folder.exclusions.exists():
        return read_exclusions(folder.exclusions)
    if options.skip_invalid:
        raise CheckpointError(
            f"{folder.path} was started without --skip-invalid. Resume without it, or start a new run."
        )
    return None


def require_same_classes(folder: RunFolder, data: TrainingData) -> None:
    """Raise CheckpointError if the dataset has other classes than the run; they may have other colors."""
    if not folder.classes.exists():
        return
    stored, now = yaml.safe_load(folder.classes.read_text()) or {}, data.classes.to_dict()
    if any(stored.get(key) != now[key] for key in ("names", "label_mapping", "ignore", "coding")):
        raise CheckpointError(
            f"The classes of {data.dataset.location} differ from those of the run (see {folder.classes}). "
            f"Restore them, or start a new run."
        )


def write_description(folder: RunFolder, data: TrainingData, config: Config) -> None:
    """Write what the run starts from; config.yaml last, because it marks a run that can be resumed."""
    try:
        folder.begin_description()
        write_atomically(folder.classes, yaml.safe_dump(data.classes.to_dict(), sort_keys=False).encode())
        write_splits(folder.splits, data.splits, data.groups)
        write_file_records(folder.inventory, record_files(data.dataset))
        if data.exclusions is not None:
            write_exclusions(folder.exclusions, data.exclusions)
        write_atomically(folder.config, config.to_yaml().encode())
        folder.unfinished.unlink(missing_ok=True)
    except OSError as error:
        raise convert_os_error(error, folder.path, "be written to") from error


def accept_changes(folder: RunFolder, data: TrainingData, config: Config, changes: Sequence[Change], step: int) -> None:
    """Write the new config, splits and files of a run, and what changed."""
    with explain_disk_errors(folder, "resume again."):
        write_splits(folder.splits, data.splits, data.groups)
        write_file_records(folder.inventory, record_files(data.dataset))
        write_changes(folder, config, changes, step)


def train_run(
    prepared: PreparedRun, options: TrainOptions, world: World, *, started: float | None = None
) -> EvaluationCounts:
    """Train a run from its first step or last checkpoint, and write its report; all processes call it together.

    Args:
        prepared: the run.
        options: arguments of the call.
        world: the processes.
        started: instant (`time.monotonic`) from which the budget of the run counts; None: that of the call.

    Returns:
        The evaluation counts of the best model on the validation images.
    """
    folder, config = prepared.folder, prepared.config.training
    started = options.started if started is None else started
    deadline = started + config.budget_seconds if config.budget_seconds and config.steps is None else None
    root = folder.path.parent if options.is_cross_validation else folder.path
    resume_command = options.format_resume_command(prepared.arguments["dataset"], root)
    how_to_resume = f"resume with: {resume_command}"
    with explain_disk_errors(folder, how_to_resume):
        try:
            with enable_deterministic_algorithms(config.deterministic):
                if options.profile and world.is_first:
                    for line in profile_steps(Trainer(**prepared.arguments, device=options.device), folder).lines():
                        logger.info(line)
                trainer = Trainer(**prepared.arguments, device=options.device, world=world)
                samples = world.own_items(trainer.evaluation_samples)
                page = LivePage(folder, trainer.dataset, samples, resume_command) if world.is_first else None
                with page or nullcontext():
                    scored = fit(trainer, folder, deadline=deadline, resume=True, page=page)
                    if page:
                        page.early_stop = write_report(prepared, trainer, scored, is_fold=options.is_cross_validation)
        except INTERRUPTIONS:
            logger.info(f"stopped; {how_to_resume}")
            raise
        except ProcessLostError as error:
            raise TrainingError(f"{error} Or {how_to_resume}") from error
        except InvalidArgumentError:
            if prepared.is_new and world.is_first and not folder.last_checkpoint.exists():
                folder.discard()
            raise
    return scored.counts


def write_report(prepared: PreparedRun, trainer: Trainer, scored: ScoredModel, *, is_fold: bool) -> str | None:
    """Write the report, and log what is weak; return the note of a run that stopped early."""
    folder, config = prepared.folder, load_config(prepared.folder.config)
    metrics = list(folder.read_metrics())
    early_stop = describe_early_stop(metrics, config.training.early_stopping_patience)
    splits, dataset = trainer.splits, trainer.dataset
    example = next(iter([*splits["test"], *trainer.val_samples]), None)
    evaluation = EvaluationReport(
        title=folder.path.name,
        split="val",
        predictor=scored.predictor,
        counts=scored.counts,
        gallery=scored.gallery,
        commands=make_commands(folder.path, dataset, example, folder.path / "evaluation.html", config, is_fold=is_fold),
        training=TrainingFacts(
            config=config,
            num_images=len(splits["train"]),
            class_shares=dict(zip(scored.predictor.classes.names, prepared.class_shares, strict=True)),
            metrics=metrics,
            has_test=bool(splits["test"]),
        ),
    )
    notes = (*([early_stop] if early_stop else ()), *describe_changes(folder), *prepared.notes)
    write_training_report(folder.report, TrainingReport(evaluation=evaluation, splits=splits, notes=notes))
    for remark in judge(evaluation.facts).weak:
        logger.info(remark.text)
    if early_stop:
        logger.info(early_stop)
    return early_stop


def make_result(folder: RunFolder) -> TrainResult:
    """Return the result of a finished run."""
    _, spec = load_model(folder.model)
    return TrainResult(run=folder.path, model=folder.model, report=folder.report, scores=spec.scores)
