"""From a fingerprint and a measured machine to a config, each choice with its reason."""

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from pixelwise.config import Config
from pixelwise.devices import Precision
from pixelwise.networks.geometry.network_geometry import trace_geometry
from pixelwise.planning.candidates import Candidate, candidates_for, suit_pretrained
from pixelwise.planning.estimate import Forecast, TimeForecast, times
from pixelwise.planning.fingerprint import Fingerprint
from pixelwise.planning.fit_memory import fit_samples
from pixelwise.planning.heuristics import (
    choose_augmentation,
    choose_cache,
    choose_loss,
    choose_optimizer,
    choose_samples,
    describe_details,
    describe_lengths,
)
from pixelwise.planning.memory_estimate import Room, forecast_memory, gib, look_for_room, segmenter_without_data
from pixelwise.planning.plan import Draft, Plan
from pixelwise.planning.prepare_data import Prepared
from pixelwise.planning.pretrained_lookup import Found, find_pretrained
from pixelwise.planning.timing import measure_step, seconds_left, steps_within
from pixelwise.training.trainer import Trainer
from pixelwise.training.validation import REPORT_SECONDS, SCORING_RESERVE, time_to_score

logger = logging.getLogger(__name__)

DEFAULT_BUDGET_SECONDS = 1200.0
"""Where neither steps nor a budget are given."""

EVALUATION_SHARE = 0.08
"""Of the budget, for the last evaluation at most; a larger validation set is sampled."""

STEPS_WANTED = 300
"""Of the optimizer, before a batch of more than one image pays."""

MIN_VAL_IMAGES = 4
"""Never fewer than that."""

HOPELESS = 2.0
"""A candidate that would be too slow by this factor, by its operations, is not timed. Larger networks
compute faster by up to 1.6 than their operations tell."""

PRETRAINED_LR_SHARE = 0.25
"""Of the peak learning rate, for a network that starts from trained weights; by custom, not measured here."""

NETWORK_KEYS = frozenset(
    f"network.{key}"
    for key in ("name", "base_channels", "depth", "max_channels", "stem_stride", "encoder", "encoder_weights")
)
"""Where the user decides one of these, no pretrained encoder is looked for."""


def make_plan(
    prepared: Prepared,
    device: torch.device,
    precision: Precision,
    changes: Mapping[str, Any],
    started: float,
) -> Plan:
    """The config for this data, this machine and this budget; `changes` are the user's own and stay.

    With `training.steps` nothing depends on a measured time. With `training.budget_seconds`, the
    network is chosen by the time its training step takes here; a deterministic run then fixes its
    steps and does not look at the clock again.

    Raises:
        InvalidArgumentError: less memory than the smallest plan needs.
    """
    draft, seen = Draft(changes), prepared.seen
    if draft.config.training.steps is None:
        draft.put("training.budget_seconds", DEFAULT_BUDGET_SECONDS, "the default")
    draft.put("training.precision", precision, "what this device computes fastest")
    choose_samples(draft, seen)
    choose_loss(draft, seen)
    choose_augmentation(draft, seen)
    choose_optimizer(draft)
    if draft.config.training.init_from:
        spare_trained_weights(draft)
    planner = _Planner(draft=draft, prepared=prepared, device=device, room=look_for_room(device), started=started)
    choose_cache(draft, seen, look_for_room(torch.device("cpu")))
    candidates = planner.fit(_candidates(draft, seen))
    if draft.config.training.steps is not None:
        if candidates:
            middle = candidates[min(1, len(candidates) - 1)]
            planner.take(middle, "the middle size; only steps are given, so nothing is timed")
    elif candidates:
        planner.choose_network_by_clock(candidates)
    else:
        planner.choose_batch_by_clock()
    if draft.config.training.steps is None:
        planner.choose_validation()
        planner.fix_steps()
    return Plan(config=draft.config, reasons=draft.reasons, forecast=planner.forecast())


def _candidates(draft: Draft, seen: Fingerprint) -> tuple[Candidate, ...]:
    """What there is to choose from. Only the U-Net comes in sizes; others are taken as they were published."""
    network = draft.config.network
    if network.name != "unet" or network.encoder or draft.config.training.init_from:
        return ()
    found: list[Found] = []
    if not draft.decided & NETWORK_KEYS:
        if suit_pretrained(seen):
            found = find_pretrained()
            names = ", ".join(one.encoder for one in found)
            missing = "no ImageNet weights are at hand or can be downloaded"
            draft.put("network.encoder", None, f"{names} would be too slow or too large" if found else missing)
        else:
            draft.put("network.encoder", None, "ImageNet weights are for images of 3 channels of 8 bit")
    return candidates_for(draft.config.data.crop_size, found)


def spare_trained_weights(draft: Draft) -> None:
    """A lower peak for a network that is not fresh."""
    share = PRETRAINED_LR_SHARE * draft.config.optimizer.lr
    draft.put("optimizer.lr", share, "a quarter of the usual peak, so that the trained weights are not lost")


@dataclass(slots=True, kw_only=True)
class _Planner:
    """What a plan is made for, and what was measured on the way."""

    draft: Draft
    prepared: Prepared
    device: torch.device
    room: Room
    started: float
    """time.monotonic at the start of the command."""
    memory_note: str = ""
    """Which networks memory has ruled out."""
    tried_peak: int = 0
    """Bytes at the peak of what was tried."""
    step_seconds: float = 0.0
    scoring_seconds: float = 0.0
    """For one evaluation in both precisions."""

    def fit(self, candidates: Sequence[Candidate]) -> Sequence[Candidate]:
        """The candidates for which there is memory, with samples small enough for the smallest one."""
        draft, seen = self.draft, self.prepared.seen
        fit_samples(draft, candidates[0] if candidates else None, seen, self.device, self.room)
        fitting = [one for one in candidates if self._peak(draft.with_network(one)) <= self.room.allowed]
        if len(fitting) < len(candidates):
            self.memory_note = f", of those that fit into {gib(self.room.allowed)} of memory"
        return fitting

    def _peak(self, config: Config) -> int:
        return forecast_memory(config, self.prepared.seen, self.device, self.room).peak

    def take(self, candidate: Candidate, why: str) -> None:
        """Puts the network into the config, with a reason for each of its sizes."""
        draft = self.draft
        draft.put_network(candidate, why + self.memory_note)
        if candidate.encoder:
            draft.put("network.encoder_weights", "imagenet", f"{candidate.origin}; --weights none for fresh ones")
            spare_trained_weights(draft)
        else:
            self._explain_geometry(candidate)

    def _explain_geometry(self, candidate: Candidate) -> None:
        """What the network sees, beside what there is to see."""
        draft, seen = self.draft, self.prepared.seen
        network = segmenter_without_data(draft.config.network, seen.channels, len(seen.class_pixels)).network
        seen_by_pixel = max(trace_geometry(network, in_channels=seen.channels).receptive_field)
        height, width = draft.config.data.crop_size
        draft.put(
            "network.depth",
            candidate.depth,
            f"a pixel sees {seen_by_pixel} pixels around it of {height}x{width}; {describe_lengths(seen.objects)}",
        )
        if draft.config.network.stem_stride > 1:
            draft.put(
                "network.stem_stride",
                candidate.stem_stride,
                f"pays for the width and loses no pixel; {describe_details(seen)}",
            )

    def choose_network_by_clock(self, candidates: Sequence[Candidate]) -> None:
        """The largest candidate that still sees enough images in the time there is."""
        wanted = images_wanted(self.prepared.seen)
        chosen, why = candidates[0], f"the smallest: the budget is too short for {wanted} images"
        self.step_seconds = self._time_step(self.draft.with_network(chosen))
        batch = self.draft.config.training.batch_size
        if self._images_within(self.step_seconds / batch) >= wanted:
            why = f"the largest that sees {wanted} images in the budget"
            for candidate in candidates[1:]:
                expected = self.step_seconds * candidate.gflops / chosen.gflops
                if self._images_within(expected / batch / HOPELESS) < wanted:
                    break
                seconds = self._time_step(self.draft.with_network(candidate))
                if self._images_within(seconds / batch) < wanted:
                    break
                chosen, self.step_seconds = candidate, seconds
        rate = f"{batch / self.step_seconds:.1f} images a second here"
        logger.info(f"network: {chosen.title}: {rate}")
        self.take(chosen, f"{why}: {rate}")

    def _time_step(self, config: Config, repeats: int = 3) -> float:
        self.tried_peak = max(self.tried_peak, self._peak(config))
        plain = config.replace({"training.compile": False})  # compiling each candidate takes longer than the timing
        return measure_step(self.prepared.job(plain, self.device), repeats)

    def _images_within(self, seconds_per_image: float) -> float:
        return 0.9 * seconds_left(self._budget, self.started) / seconds_per_image

    @property
    def _budget(self) -> float:
        budget = self.draft.config.training.budget_seconds
        assert budget is not None
        return budget

    def choose_batch_by_clock(self) -> None:
        """Smaller batches for a network that is given and slow, so that the budget holds enough steps."""
        config = self.draft.config
        one = config.replace({"training.batch_size": 1})
        seconds = self._time_step(one, repeats=1)
        images = 0.8 * seconds_left(self._budget, self.started) / seconds
        fitting = max(1, int(images / STEPS_WANTED))
        if fitting < config.training.batch_size:
            reason = (
                f"about {images:.0f} images fit into the budget, which are at least {STEPS_WANTED} steps if possible"
            )
            self.draft.put("training.batch_size", fitting, reason)
        if self.draft.config.training.batch_size > 1:
            seconds = self._time_step(self.draft.config, repeats=1)
        self.step_seconds = seconds

    def choose_validation(self) -> None:
        """All validation images, unless scoring them would take too much of the budget."""
        job = self.prepared.job(self.draft.config, self.device)
        count, used = len(job.splits["val"]), len(job.val_samples())
        self.scoring_seconds = time_to_score(Trainer(job))
        fitting = max(MIN_VAL_IMAGES, int(used * EVALUATION_SHARE * self._budget / self.scoring_seconds))
        if fitting < used:
            reason = f"of {count}: scoring them all would take {self.scoring_seconds:.0f} s"
            self.draft.put("data.max_val_images", fitting, reason)
            self.scoring_seconds *= len(self.prepared.job(self.draft.config, self.device).val_samples()) / used

    def fix_steps(self) -> None:
        """A deterministic run does not look at the clock again."""
        if self.draft.config.training.deterministic:
            steps = steps_within(self._budget, self.step_seconds, self.started)
            self.draft.put("training.steps", steps, "measured once; the clock is not looked at again")

    def forecast(self) -> Forecast:
        """Of the config as it stands; says in its reasons how long the run is."""
        config, seen = self.draft.config, self.prepared.seen
        timed = self._time() if self.step_seconds else None
        steps = config.training.steps
        if steps is None:
            assert timed is not None
            steps = max(1, int(timed.steps / self.step_seconds))
        epochs = steps * config.training.batch_size / seen.num_train
        key = "training.budget_seconds" if config.training.steps is None else "training.steps"
        self.draft.explain(key, f"{steps:,} steps show each of {seen.num_train} images {times(epochs)}")
        memory = forecast_memory(config, seen, self.device, self.room)
        return Forecast(
            memory=memory,
            tried_peak=max(self.tried_peak, memory.peak),
            device=str(self.device),
            num_steps=steps,
            epochs=epochs,
            time=timed,
        )

    def _time(self) -> TimeForecast:
        """Evaluations while training take half of the last one, which is in two precisions."""
        training, once = self.draft.config.training, self.scoring_seconds / 2
        start = time.monotonic() - self.started
        evaluations = (training.num_evaluations - 1) * once
        if training.steps is not None:
            steps = training.steps * self.step_seconds
        else:
            reserve = SCORING_RESERVE * self.scoring_seconds + REPORT_SECONDS
            steps = max(self._budget - start - reserve - evaluations, self.step_seconds)
        return TimeForecast(
            start=start,
            steps=steps,
            evaluations=evaluations,
            end=once + self.scoring_seconds + REPORT_SECONDS,
        )


def images_wanted(seen: Fingerprint) -> int:
    """How many augmented samples a network should see before more capacity pays."""
    return max(2000, min(8000, 20 * seen.num_train))
