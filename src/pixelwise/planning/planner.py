"""The planner: from a fingerprint and a timed machine to a config, with a reason for each choice."""

import dataclasses
import itertools
import logging
import math
import time
from collections.abc import Mapping, Sequence, Set
from typing import Any

import torch

from pixelwise.config import DEFAULT_BUDGET_SECONDS, Config
from pixelwise.data.loader import prefetch
from pixelwise.devices import Precision, synchronize
from pixelwise.errors import InvalidArgumentError
from pixelwise.networks.geometry.network_geometry import trace_geometry
from pixelwise.networks.packaged_weights import PACKAGED_WEIGHTS
from pixelwise.planning.candidates import NetworkCandidate, list_candidates, suits_pretrained
from pixelwise.planning.estimate import RunEstimate, TimeEstimate, format_epochs
from pixelwise.planning.fingerprint import Fingerprint
from pixelwise.planning.heuristics import (
    LEARNING_RATES,
    MIN_CROP_PIXELS,
    Choices,
    choose_augmentation,
    choose_cache,
    choose_fine_tuning_loss,
    choose_loss,
    choose_rare_classes,
    choose_samples,
    compute_crop,
    describe_details,
    describe_lengths,
)
from pixelwise.planning.memory_estimate import (
    MEMORY_FRACTION,
    MemoryBudget,
    MemoryEstimate,
    build_meta_segmenter,
    estimate_memory,
    format_gib,
    measure_memory_budget,
)
from pixelwise.planning.prepare_data import TrainingData
from pixelwise.progress import format_duration
from pixelwise.shapes import Size, round_up
from pixelwise.training.trainer import Trainer, draw_val_samples
from pixelwise.training.validation import REPORT_SECONDS, SCORING_RESERVE, estimate_scoring_seconds

logger = logging.getLogger(__name__)

MAX_EVALUATION_FRACTION = 0.08
"""Largest fraction of the budget that the final evaluation may use; larger validation sets are sampled."""

MAX_EVALUATIONS_FRACTION = 0.06
"""Largest fraction of the budget for all evaluations before the final one; if needed, they score fewer images."""

TARGET_STEPS = 1000
"""Optimizer steps that a run should have before its samples grow beyond `MIN_CROP_PIXELS`, and then its network."""

FINE_TUNING_STEPS = 400
"""`TARGET_STEPS` with pretrained weights, which need fewer steps and more context (benchmarks/LOG.md)."""

MIN_STEPS = 300
"""Optimizer steps for which batches are halved."""

MIN_BATCH_GAIN = 1.4
"""Smallest factor on the number of steps for which a batch is halved. Where most of a step does not depend on the
batch, half of the samples would be lost for few more steps."""

USEFUL_STEPS = 100
"""Runs with fewer optimizer steps rarely give a useful model, and the user is warned."""

MIN_VAL_IMAGES = 4

MAX_SLOWDOWN = 2.0
"""A candidate whose operations predict a time above the limit by this factor is not timed. Larger networks compute up
to 1.6 times as many operations per second."""

PRETRAINED_LR_FACTOR = 0.25
"""Factor on the peak learning rate for the weights of another model; by custom, not measured here."""

PRETRAINED_ENCODER = "tf_efficientnet_lite0"
"""Encoder whose ImageNet weights are installed with Pixelwise."""

MIN_FINE_TUNING_STEPS = 250
"""Optimizer steps with the smallest samples below which a small network from scratch is taken (benchmarks/LOG.md)."""

MIN_FINE_TUNING_CLASSES = 5
"""Number of classes below which a small network from scratch is taken: in few steps, thin lines and textures are
learned better without ImageNet's features (benchmarks/LOG.md)."""

ENCODER_LR = 5e-4
"""Peak learning rate of an encoder with pretrained weights (benchmarks/LOG.md)."""

DECODER_CHANNELS = 32
"""Channels of the finest map of a decoder on an encoder that the user chose."""

NETWORK_KEYS = frozenset(
    f"network.{key}"
    for key in ("name", "base_channels", "depth", "max_channels", "stem_stride", "encoder", "encoder_weights")
)
"""If the user sets one of these keys, `PRETRAINED_ENCODER` is not considered."""


TIMING_FRACTION = 0.05
"""Fraction of the remaining time after which the steps of a network are no longer repeated to time them."""

TRAINING_FRACTION = 0.8
"""Fraction of the remaining time that is left for steps when samples are chosen."""

RESERVE = 0.2
"""Fraction of the remaining time that a run with fixed steps reserves for evaluation and surprises."""

MIN_CROP_SIDE = 64
"""Smallest side to which crops are reduced."""


def make_plan(
    data: TrainingData, device: torch.device, precision: Precision, changes: Mapping[str, Any], started: float
) -> Config:
    """Plan a config for this data, machine and budget.

    With `training.steps`, nothing depends on a measured time. With `training.budget_seconds`, the network is chosen by
    the time of its training step; a deterministic run then fixes its steps.

    Args:
        data: the dataset.
        device: device to train on.
        precision: arithmetic to train with.
        changes: keys that the user set; they stay.
        started: instant (`time.monotonic`) from which the budget counts.

    Returns:
        The config, with its reasons and the estimate of the run.

    Raises:
        InvalidArgumentError: the smallest plan does not fit into memory.
    """
    return Planner(data, device, precision, changes, started).plan()


class Planner:
    """Plans one run; see `make_plan`."""

    def __init__(
        self,
        data: TrainingData,
        device: torch.device,
        precision: Precision,
        changes: Mapping[str, Any],
        started: float,
    ) -> None:
        self.data, self.device, self.precision, self.started = data, device, precision, started
        self.fixed = frozenset(changes)
        self.config = Config().replace(changes, reasons=dict.fromkeys(changes, "set by the user"))
        self.fingerprint = data.fingerprint
        self.memory = measure_memory_budget(device)
        self.memory_note = ""
        """Added to the reason of the network if memory excluded larger ones."""
        self.planning_peak = 0
        """Bytes at the peak of the networks that were timed."""
        self.largest_crop: Size = (1, 1)
        """The crop before the budget made it smaller."""
        self.step_seconds = 0.0
        self.scoring_seconds = self.evaluation_seconds = 0.0
        """Time of the final evaluation, and of one during the run, on all validation images that are used."""

    def plan(self) -> Config:
        """Choose every value that the user left open."""
        if self.config.training.steps is None:
            self.choose({"training.budget_seconds": (DEFAULT_BUDGET_SECONDS, "the default")})
        self.choose({"training.precision": (self.precision, "the fastest on this device")})
        self.choose(choose_samples(self.fingerprint))
        self.choose(choose_loss(self.fingerprint))
        self.choose(choose_rare_classes(self.fingerprint))
        self.choose(choose_augmentation(self.fingerprint))
        self.choose_optimizer()
        self.choose(choose_cache(self.fingerprint, measure_memory_budget(torch.device("cpu"))))
        self.choose_encoder()
        candidates = self.fit_memory(self.list_candidates())
        if self.config.training.steps is not None:
            if candidates:
                middle = candidates[min(1, len(candidates) - 1)]
                self.choose_network(middle, "the middle size, because nothing is timed if the steps are given")
        else:
            self.choose_samples_by_time(candidates[0] if candidates else None)
            if candidates:
                self.choose_network_by_time(candidates)
            self.choose_validation()
            self.require_steps()
            self.fix_steps()
        self.estimate = self.estimate_run()
        self.explain_length()
        self.config = dataclasses.replace(self.config, estimate=self.estimate.lines())
        return self.config

    def choose(self, choices: Choices) -> None:
        """Set values with reasons, except those that the user fixed."""
        for key, (value, reason) in choices.items():
            if key not in self.fixed:
                self.config = self.config.replace({key: value}, reasons={key: reason})

    def choose_optimizer(self) -> None:
        """Choose the optimizer and its peak learning rate."""
        self.choose({"optimizer.name": ("muon", "halves the loss of AdamW in the same time")})
        name = self.config.optimizer.name
        self.choose({"optimizer.lr": (LEARNING_RATES[name], f"a good peak for {name}")})
        if self.config.training.init_from:
            lr = PRETRAINED_LR_FACTOR * self.config.optimizer.lr
            self.choose({"optimizer.lr": (lr, "a quarter of the usual peak, to preserve the pretrained weights")})
        if self.config.network.encoder_weights != "none":
            self.choose_fine_tuning()

    def choose_fine_tuning(self) -> None:
        """Choose learning rate, decoder and class weights for an encoder with pretrained weights."""
        network = self.config.network
        self.choose({"optimizer.encoder_lr": (ENCODER_LR, "AdamW at this rate preserves the pretrained weights")})
        self.choose(choose_fine_tuning_loss(self.fingerprint))
        if network.name == "unet" and network.skips in (None, "concat") and network.upsampling != "switches":
            self.choose({"network.base_channels": (DECODER_CHANNELS, "a decoder that can be wider than the encoder")})

    def choose_encoder(self) -> None:
        """Take `PRETRAINED_ENCODER` if it suits the images and the budget, and the user chose no network."""
        if self.fixed & NETWORK_KEYS or self.config.training.init_from:
            return
        package = PACKAGED_WEIGHTS[PRETRAINED_ENCODER].distribution
        keys = {"network.encoder": PRETRAINED_ENCODER, "network.encoder_weights": "imagenet"}
        if obstacle := self.explain_obstacle(self.config.replace(keys)):
            self.choose({"network.encoder": (None, obstacle)})
            return
        reason = f"ImageNet weights, from the package {package}; --weights none for random weights"
        self.choose({key: (value, reason) for key, value in keys.items()})
        self.choose_fine_tuning()

    def explain_obstacle(self, config: Config) -> str | None:
        """Return why a config with `PRETRAINED_ENCODER` does not suit the data or the budget; None if it does."""
        source, count = PACKAGED_WEIGHTS[PRETRAINED_ENCODER], len(self.fingerprint.class_pixels)
        if not suits_pretrained(self.fingerprint):
            return "ImageNet weights need images with 3 channels of 8 bits"
        if count < MIN_FINE_TUNING_CLASSES:
            return f"{count} classes are learned faster from scratch; for photos of objects, try --encoder"
        if not source.find():
            return f"the package {source.distribution} is not installed"
        steps = config.training.steps
        if steps is None:
            crop = config.data.crop_size if "data.crop_size" in self.fixed else self.shrink_crop(MIN_CROP_PIXELS)
            config = config.replace({"data.crop_size": crop})
            if self.estimate_peak(config) > self.memory.allowed:
                return f"{config.network.encoder} does not fit into {format_gib(self.memory.allowed)} of memory"
            steps = int(self.count_steps(config))
        if steps >= MIN_FINE_TUNING_STEPS:
            return None
        return f"{steps} steps are too few for {config.network.encoder}; it needs {MIN_FINE_TUNING_STEPS}"

    def list_candidates(self) -> Sequence[NetworkCandidate]:
        """Return the networks to choose from. Only the U-Net has sizes; other networks are used as published."""
        network = self.config.network
        if network.name != "unet" or network.encoder or self.config.training.init_from:
            return ()
        return list_candidates(self.config.data.crop_size)

    def fit_memory(self, candidates: Sequence[NetworkCandidate]) -> Sequence[NetworkCandidate]:
        """Reduce the samples until the smallest network fits into memory; return the candidates that fit."""
        smallest = candidates[0] if candidates else None
        self.choose(fit_samples(self.config, self.fixed, smallest, self.fingerprint, self.device, self.memory))
        fitting = [
            candidate
            for candidate in candidates
            if self.estimate_peak(candidate.apply_to(self.config, self.fixed)) <= self.memory.allowed
        ]
        if len(fitting) < len(candidates):
            self.memory_note = f", among those that fit into {format_gib(self.memory.allowed)} of memory"
        return fitting

    def estimate_peak(self, config: Config) -> int:
        """Estimate the peak memory of a config."""
        return estimate_memory(config, self.fingerprint, self.device, self.memory).peak

    def choose_network(self, candidate: NetworkCandidate, reason: str) -> None:
        """Choose a network, with a reason for each of its sizes."""
        reason += self.memory_note
        self.choose({key: (value, reason) for key, value in candidate.keys.items()})
        channels, num_classes = self.fingerprint.channels, len(self.fingerprint.class_pixels)
        network = build_meta_segmenter(self.config.network, channels, num_classes).network
        field = max(trace_geometry(network, in_channels=channels).receptive_field)
        height, width = self.config.data.crop_size
        lengths = describe_lengths(self.fingerprint.components)
        choices: Choices = {
            "network.depth": (candidate.depth, f"receptive field of {field} pixels for {height}x{width}; {lengths}")
        }
        if self.config.network.stem_stride > 1:
            details = describe_details(self.fingerprint)
            stem_reason = f"allows more channels and loses no pixel; {details}"
            choices["network.stem_stride"] = (candidate.stem_stride, stem_reason)
        self.choose(choices)

    def choose_network_by_time(self, candidates: Sequence[NetworkCandidate]) -> None:
        """Choose the largest candidate that still sees enough images within the budget."""
        wanted = count_wanted_images(self.fingerprint)
        chosen, reason = candidates[0], f"the smallest, because the budget does not allow {wanted} whole images"
        batch = self.config.training.batch_size
        is_whole = self.config.data.crop_size == self.largest_crop
        if is_whole and self.count_images_within(self.step_seconds / batch) >= wanted:
            reason = f"the largest that sees {wanted} images within the budget"
            for candidate in candidates[1:]:
                expected = self.step_seconds * candidate.gflops / chosen.gflops
                if self.count_images_within(expected / batch / MAX_SLOWDOWN) < wanted:
                    break
                seconds = self.time_step(candidate.apply_to(self.config, self.fixed))
                if self.count_images_within(seconds / batch) < wanted:
                    break
                chosen, self.step_seconds = candidate, seconds
        height, width = self.config.data.crop_size
        rate = f"{batch / self.step_seconds:.1f} samples of {height}x{width} per second"
        logger.info(f"network: {chosen.title}: {rate}")
        self.choose_network(chosen, f"{reason}: {rate}")

    def time_step(self, config: Config, repeats: int = 3) -> float:
        """Time a training step of a config."""
        self.planning_peak = max(self.planning_peak, self.estimate_peak(config))
        eager = config.replace({"training.compile": False})  # compiling a candidate takes longer than timing it
        limit = TIMING_FRACTION * compute_seconds_left(self.budget, self.started)
        return measure_step(self.data.make_trainer(eager, self.device), repeats, limit)

    def count_images_within(self, seconds_per_image: float) -> float:
        """Return the number of images that the rest of the budget allows."""
        return 0.9 * compute_seconds_left(self.budget, self.started) / seconds_per_image

    @property
    def budget(self) -> float:
        """The budget in seconds."""
        budget = self.config.training.budget_seconds
        assert budget is not None
        return budget

    def choose_samples_by_time(self, smallest: NetworkCandidate | None) -> None:
        """Choose the size and number of samples per step, so that the budget has enough steps.

        Many steps with small crops teach more than few with whole images (benchmarks/LOG.md).
        """
        self.largest_crop = self.config.data.crop_size
        size = self.fingerprint.median_size
        least = self.largest_crop if "data.crop_size" in self.fixed else self.shrink_crop(MIN_CROP_PIXELS)
        trial = self.config.replace({"data.crop_size": least})
        steps = self.choose_batch_by_time(smallest.apply_to(trial, self.fixed) if smallest else trial)
        target = TARGET_STEPS if self.config.network.encoder_weights == "none" else FINE_TUNING_STEPS
        crop = self.shrink_crop(least[0] * least[1] * steps / target)
        if crop != self.largest_crop:
            reason = f"of {size[0]}x{size[1]}: larger crops would leave fewer than {target} steps"
            self.choose({"data.crop_size": (crop, reason)})
        self.step_seconds = self.time_step(smallest.apply_to(self.config, self.fixed) if smallest else self.config)

    def choose_batch_by_time(self, trial: Config) -> float:
        """Halve the batch until the budget has enough steps, while that makes steps faster; return their number."""
        steps = self.count_steps(trial)
        while steps < MIN_STEPS and trial.training.batch_size > 1 and "training.batch_size" not in self.fixed:
            smaller = trial.replace({"training.batch_size": trial.training.batch_size // 2})
            more_steps = self.count_steps(smaller)
            if more_steps < MIN_BATCH_GAIN * steps:
                break
            trial, steps = smaller, more_steps
            reason = f"allows about {steps:.0f} steps; larger batches fewer than {MIN_STEPS}"
            self.choose({"training.batch_size": (trial.training.batch_size, reason)})
        return steps

    def count_steps(self, config: Config) -> float:
        """Time a step of a config, and return how many fit into the rest of the budget."""
        seconds = self.time_step(config, repeats=1)
        return TRAINING_FRACTION * compute_seconds_left(self.budget, self.started) / seconds

    def shrink_crop(self, pixels: float) -> Size:
        """Return the largest crop with about that number of pixels, at least `MIN_CROP_PIXELS` if there are as many."""
        height, width = compute_crop(self.fingerprint.median_size, max(pixels, MIN_CROP_PIXELS))
        largest = self.config.data.crop_size
        return min(height, largest[0]), min(width, largest[1])

    def require_steps(self) -> None:
        """Refuse a budget that is too short for one step, and warn about one that is too short for a useful model."""
        expected = self.estimate_time()
        steps = int(expected.steps / self.step_seconds)
        if steps >= USEFUL_STEPS:
            return
        missing = USEFUL_STEPS * self.step_seconds - expected.steps
        advice = f"--budget {format_budget(self.budget + missing)} allows about {USEFUL_STEPS} steps"
        if steps < 1:
            raise InvalidArgumentError(
                f"The budget of {format_duration(self.budget)} is too short for one training step of "
                f"{self.step_seconds:.1f} s after reading the data and before the final evaluation. {advice}."
            )
        logger.warning(f"The budget allows about {steps} steps, too few for a useful model. {advice}.")

    def choose_validation(self) -> None:
        """Use all validation images, or a sample if scoring them takes too much of the budget."""
        splits = self.data.splits
        count, used = len(splits["val"]), len(draw_val_samples(self.config, splits))
        trainer = self.data.make_trainer(self.config, self.device)
        self.scoring_seconds, self.evaluation_seconds = estimate_scoring_seconds(trainer)
        affordable = int(used * MAX_EVALUATION_FRACTION * self.budget / self.scoring_seconds)
        limit = max(MIN_VAL_IMAGES, affordable)
        if limit < used:
            reason = f"of {count}: scoring all would take {self.scoring_seconds:.0f} s"
            self.choose({"data.max_val_images": (limit, reason)})
            used, before = len(draw_val_samples(self.config, splits)), used
            self.scoring_seconds, self.evaluation_seconds = (
                seconds * used / before for seconds in (self.scoring_seconds, self.evaluation_seconds)
            )
        self.choose_images_per_evaluation(used)

    def choose_images_per_evaluation(self, used: int) -> None:
        """Score all validation images that are used at each evaluation, or a part of them."""
        seconds = self.config.training.num_evaluations * self.evaluation_seconds
        count = max(MIN_VAL_IMAGES, int(used * MAX_EVALUATIONS_FRACTION * self.budget / max(seconds, 1e-9)))
        if count < used:
            reason = f"of {used}, so that evaluations leave time for training; the best model is scored on all"
            self.choose({"training.images_per_evaluation": (count, reason)})
        self.evaluation_seconds *= min(used, self.config.training.images_per_evaluation or used) / used

    def fix_steps(self) -> None:
        """Fix the steps of a deterministic run, which does not read the clock again."""
        if self.config.training.deterministic:
            steps = compute_steps_within(self.budget, self.step_seconds, self.started)
            self.choose({"training.steps": (steps, "measured once, for a deterministic run")})

    def estimate_run(self) -> RunEstimate:
        """Estimate steps, time and memory of the config."""
        training = self.config.training
        timed = self.estimate_time() if self.step_seconds else None
        steps = training.steps
        if steps is None:
            assert timed is not None
            steps = int(timed.steps / self.step_seconds)
        memory = estimate_memory(self.config, self.fingerprint, self.device, self.memory)
        return RunEstimate(
            memory=memory,
            planning_peak=max(self.planning_peak, memory.peak),
            device=str(self.device),
            num_steps=steps,
            epochs=steps * training.batch_size / self.fingerprint.num_train,
            time=timed,
        )

    def explain_length(self) -> None:
        """Add the number of steps and epochs to the reason of the steps or the budget."""
        key = "training.budget_seconds" if self.config.training.steps is None else "training.steps"
        epochs = format_epochs(self.estimate.epochs)
        text = f"{self.estimate.num_steps:,} steps, {epochs} of {self.fingerprint.num_train} images"
        before = self.config.reasons.get(key)
        reason = f"{before}; {text}" if before else text
        self.config = dataclasses.replace(self.config, reasons={**self.config.reasons, key: reason})

    def estimate_time(self) -> TimeEstimate:
        """Estimate the time of each part of the run."""
        training, evaluation = self.config.training, self.evaluation_seconds
        start = time.monotonic() - self.started
        evaluations = (training.num_evaluations - 1) * evaluation
        if training.steps is not None:
            steps = training.steps * self.step_seconds
        else:
            reserve = SCORING_RESERVE * self.scoring_seconds + REPORT_SECONDS
            steps = self.budget - start - reserve - evaluations
        end = evaluation + self.scoring_seconds + REPORT_SECONDS
        return TimeEstimate(start=start, steps=steps, evaluations=evaluations, end=end)


def format_budget(seconds: float) -> str:
    """Format a time for `--budget`, rounded up to half minutes, above ten minutes to minutes."""
    unit = 30 if seconds < 600 else 60
    rounded = math.ceil(seconds / unit) * unit
    return f"{rounded // 60}m" if rounded % 60 == 0 else f"{rounded}s"


def count_wanted_images(fingerprint: Fingerprint) -> int:
    """Return the number of augmented samples that a network should see before more capacity pays."""
    return max(2000, min(8000, 20 * fingerprint.num_train))


def fit_samples(
    config: Config,
    fixed: Set[str],
    candidate: NetworkCandidate | None,
    fingerprint: Fingerprint,
    device: torch.device,
    budget: MemoryBudget,
) -> Choices:
    """Halve the batch, then the crop, until the run of this network (None: that of the config) fits into memory.

    Raises:
        InvalidArgumentError: the run does not fit with the smallest samples, or keys that the user fixed prevent it.
    """
    choices: Choices = {}
    reason = f"larger samples do not fit into {format_gib(budget.allowed)} of memory"
    while True:
        network = candidate.apply_to(config, fixed) if candidate else config
        memory = estimate_memory(network, fingerprint, device, budget)
        if memory.peak <= budget.allowed:
            return choices
        batch, crop = config.training.batch_size, config.data.crop_size
        if batch > 1 and "training.batch_size" not in fixed:
            choices["training.batch_size"] = (batch // 2, reason)
        elif min(crop) > MIN_CROP_SIDE and "data.crop_size" not in fixed:
            choices["data.crop_size"] = ((round_up(crop[0] // 2, 32), round_up(crop[1] // 2, 32)), reason)
        else:
            raise _explain_shortage(memory, budget, fingerprint, config)
        config = config.replace({key: value for key, (value, _) in choices.items()})


def _explain_shortage(
    memory: MemoryEstimate, budget: MemoryBudget, fingerprint: Fingerprint, config: Config
) -> InvalidArgumentError:
    checkpointing = config.training.activation_checkpointing
    advice = "" if checkpointing else "set training.activation_checkpointing=true, "
    advice = (
        f"Free memory, {advice}or set smaller values of training.batch_size, data.crop_size and network.base_channels"
    )
    without_evaluation = memory.process + memory.images + memory.model + max(memory.step, memory.checkpoint)
    if without_evaluation <= budget.allowed:
        height, width = fingerprint.largest_val_size
        size = format_gib(memory.evaluation)
        advice = f"Cut the images into smaller ones: predicting one of {height}x{width} takes {size}"
    return InvalidArgumentError(
        f"Training would take {format_gib(memory.peak)} of memory at its peak, but a plan may use "
        f"{format_gib(budget.allowed)}, {MEMORY_FRACTION:.0%} of the memory. {advice}. A config given with --config is "
        f"not limited."
    )


def measure_step(trainer: Trainer, repeats: int = 3, limit: float = math.inf) -> float:
    """Return the median seconds of a training step at full resolution, with batches prefetched as in a run.

    After `limit` seconds the step is not repeated, so that a slow machine does not spend the budget on timing.
    """
    times: list[float] = []
    _ = trainer.num_threads  # counts operations, for which PyTorch imports much once
    # Always the first batch: a run decodes each image only once, not in each step.
    upcoming = prefetch(lambda _: trainer.batches.make(0), itertools.count())
    for step, batch in itertools.islice(upcoming, repeats + 1):
        start = time.monotonic()
        trainer.step(batch, 0.0)
        trainer.update_average(step, 1.0)
        synchronize(trainer.device)
        times.append(time.monotonic() - start)
        if sum(times) > limit:
            break
    measured = sorted(times[1:] or times)  # the first step compiles and allocates
    return measured[len(measured) // 2]


def compute_seconds_left(budget: float, started: float) -> float:
    """Return the rest of a budget that began at `started` (`time.monotonic`)."""
    return budget - (time.monotonic() - started)


def compute_steps_within(budget: float, step_seconds: float, started: float) -> int:
    """Return the steps that fit into the rest of a budget, minus the reserve."""
    return max(1, int((1 - RESERVE) * compute_seconds_left(budget, started) / step_seconds))
