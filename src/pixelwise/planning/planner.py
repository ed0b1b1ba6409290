"""From a fingerprint and a measured machine to a recipe, each choice with its reason."""

import dataclasses
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from pixelwise.devices import Precision, synchronize
from pixelwise.planning.fingerprint import Fingerprint
from pixelwise.planning.prepare import Prepared
from pixelwise.progress import Progress
from pixelwise.recipe import Recipe
from pixelwise.shapes import Size, round_up
from pixelwise.training.scoring import time_to_score
from pixelwise.training.trainer import Job, Trainer

MAX_CROP_PIXELS = 512 * 512
"""Pixels of a training sample at most; larger images are seen through random crops."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A size of network that the planner may choose; fields are keys of the network section."""

    width: int
    depth: int
    max_width: int
    stem_stride: int


CANDIDATES = (
    Candidate(width=16, depth=4, max_width=256, stem_stride=2),
    Candidate(width=32, depth=4, max_width=256, stem_stride=2),
    Candidate(width=48, depth=4, max_width=512, stem_stride=2),
    Candidate(width=64, depth=4, max_width=512, stem_stride=2),
    Candidate(width=64, depth=4, max_width=512, stem_stride=1),
)
"""Small to large: 4, 15, 34, 60 and 240 GFLOP forward for an image of 352x480."""

LEARNING_RATES = {"muon": 0.02, "adamw": 2e-3, "sgd": 0.05}

DEFAULT_BUDGET_SECONDS = 1200.0
"""Where neither steps nor a budget are given."""

EVALUATION_SHARE = 0.08
"""Of the budget, for the last evaluation at most; a larger validation set is sampled."""

STEPS_WANTED = 300
"""Of the optimizer, before a batch of more than one image pays."""

MIN_VAL_IMAGES = 4
"""Never fewer than that."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    recipe: Recipe
    reasons: Mapping[str, str]
    """`section.key` → why."""


def make_plan(
    prepared: Prepared,
    device: torch.device,
    precision: Precision,
    changes: Mapping[str, Any],
    started: float,
    progress: Progress,
) -> Plan:
    """The recipe for this data, this machine and this budget; `changes` are the user's own and stay.

    With `training.steps` nothing depends on a measured time. With `training.budget_seconds`, the
    network is chosen by the time its training step takes here; a deterministic run then fixes its
    steps and does not look at the clock again.
    """
    plan = _Plan(changes)
    seen = prepared.seen
    if plan.recipe.training.steps is None:
        plan.put("training.budget_seconds", DEFAULT_BUDGET_SECONDS, "the default")
    plan.put("training.precision", precision, "what this device computes fastest")
    _choose_samples(plan, seen)
    _choose_augmentation(plan, seen)
    _choose_optimizer(plan)
    # Only the U-Net comes in sizes; others are taken as they were published.
    candidates = CANDIDATES if plan.recipe.network.name == "unet" and not plan.recipe.network.encoder else ()
    if plan.recipe.training.steps is not None:
        if candidates:
            plan.put_network(candidates[1], "the middle size; only steps are given, so nothing is timed")
    else:
        if candidates:
            seconds_per_image = _choose_network_by_clock(plan, prepared, device, started, progress)
        else:
            seconds_per_image = _choose_batch_by_clock(plan, prepared, device, started)
        _fix_steps(plan, seconds_per_image, started)
        _choose_validation(plan, prepared, device)
    return Plan(recipe=plan.recipe, reasons=plan.reasons)


class _Plan:
    """A recipe in the making: what the user decided stays, everything else gets a reason."""

    def __init__(self, decided: Mapping[str, Any]) -> None:
        self.decided = set(decided)
        self.recipe = Recipe().replace(decided)
        self.reasons = dict.fromkeys(decided, "as asked for")

    def put(self, key: str, value: Any, reason: str) -> None:
        if key not in self.decided:
            self.recipe = self.recipe.replace({key: value})
            self.reasons[key] = reason

    def with_network(self, candidate: Candidate) -> Recipe:
        """The recipe with this network, where the user left the choice."""
        wanted = {f"network.{k}": v for k, v in dataclasses.asdict(candidate).items()}
        return self.recipe.replace({k: v for k, v in wanted.items() if k not in self.decided})

    def put_network(self, candidate: Candidate, reason: str) -> None:
        for key, value in dataclasses.asdict(candidate).items():
            self.put(f"network.{key}", value, reason)


def _choose_samples(plan: _Plan, seen: Fingerprint) -> None:
    crop = crop_for(seen.median_size)
    whole = crop[0] >= seen.median_size[0] and crop[1] >= seen.median_size[1]
    shown = f"{seen.median_size[0]}x{seen.median_size[1]}"
    reason = f"whole images of {shown}" if whole else f"the largest crop of {shown} that trains well"
    plan.put("data.crop", crop, reason)
    plan.put("training.batch_size", min(8, max(1, seen.num_train)), f"{seen.num_train} training images")


def _choose_augmentation(plan: _Plan, seen: Fingerprint) -> None:
    if seen.upright:
        plan.put("augmentation.rotate", 5.0, "top and bottom differ: the images are upright")
    else:
        plan.put("augmentation.flip_vertical", 0.5, "top and bottom are alike: any way up")
        plan.put("augmentation.rotate", 180.0, "top and bottom are alike: any way up")


def _choose_optimizer(plan: _Plan) -> None:
    plan.put("optimizer.name", "muon", "halves the loss of AdamW in the same time")
    name = plan.recipe.optimizer.name
    plan.put("optimizer.lr", LEARNING_RATES[name], f"the peak that suits {name}")


def _choose_network_by_clock(
    plan: _Plan, prepared: Prepared, device: torch.device, started: float, progress: Progress
) -> float:
    """The largest candidate that still sees enough images in the time there is, and its seconds for one."""
    budget = plan.recipe.training.budget_seconds
    assert budget is not None
    wanted = images_wanted(prepared.seen)
    chosen, seconds_per_image = CANDIDATES[0], math.inf
    why = f"the smallest: the budget is too short for {wanted} images"
    for candidate in CANDIDATES:
        recipe = plan.with_network(candidate)
        seconds = _seconds_per_image(prepared, recipe, device)
        left = 0.9 * (budget - (time.monotonic() - started))
        enough = left / seconds >= wanted
        if enough or seconds_per_image == math.inf:
            chosen, seconds_per_image = candidate, seconds
        if enough:
            why = f"the largest that sees {wanted} images in the budget"
        if not enough:
            break
    rate = f"{1 / seconds_per_image:.1f} images a second here"
    progress.say(f"network: width {chosen.width}, depth {chosen.depth}, stem {chosen.stem_stride}: {rate}")
    plan.put_network(chosen, f"{why}: {rate}")
    return seconds_per_image


def _choose_batch_by_clock(plan: _Plan, prepared: Prepared, device: torch.device, started: float) -> float:
    """Smaller batches for a network that is given and slow, so that the budget holds enough steps. Returns
    its seconds for one image.
    """
    budget = plan.recipe.training.budget_seconds
    assert budget is not None
    one = plan.recipe.replace({"training.batch_size": 1})
    seconds = measure_step(prepared.job(one, device), repeats=1)
    images = 0.8 * (budget - (time.monotonic() - started)) / seconds
    fitting = max(1, int(images / STEPS_WANTED))
    if fitting < plan.recipe.training.batch_size:
        reason = f"about {images:.0f} images fit into the budget, which are at least {STEPS_WANTED} steps if possible"
        plan.put("training.batch_size", fitting, reason)
    return seconds


def _seconds_per_image(prepared: Prepared, recipe: Recipe, device: torch.device) -> float:
    return measure_step(prepared.job(recipe, device)) / recipe.training.batch_size


def _fix_steps(plan: _Plan, seconds_per_image: float, started: float) -> None:
    """A deterministic run does not look at the clock again."""
    recipe = plan.recipe.training
    if recipe.deterministic:
        assert recipe.budget_seconds is not None
        steps = steps_within(recipe.budget_seconds, seconds_per_image * recipe.batch_size, started)
        plan.put("training.steps", steps, "measured once; the clock is not looked at again")


def _choose_validation(plan: _Plan, prepared: Prepared, device: torch.device) -> None:
    """All validation images, unless scoring them would take too much of the budget."""
    budget = plan.recipe.training.budget_seconds
    assert budget is not None
    job = prepared.job(plan.recipe, device)
    seconds = time_to_score(Trainer(job))
    count = len(job.splits["val"])
    fitting = max(MIN_VAL_IMAGES, int(count * EVALUATION_SHARE * budget / seconds))
    if fitting < count:
        reason = f"of {count}: scoring them all would take {seconds:.0f} s"
        plan.put("data.max_val_images", fitting, reason)


def steps_within(budget: float, seconds_per_step: float, started: float) -> int:
    """Steps that a run can take in the rest of its budget, a fifth left for evaluation and surprises."""
    left = 0.8 * (budget - (time.monotonic() - started))
    return max(1, int(left / seconds_per_step))


def images_wanted(seen: Fingerprint) -> int:
    """How many augmented samples a network should see before more capacity pays."""
    return max(2000, min(8000, 20 * seen.num_train))


def crop_for(size: Size, multiple: int = 32) -> Size:
    """The whole image where it is small, else its largest window of the same shape, in multiples."""
    height, width = size
    shrink = min(1.0, (MAX_CROP_PIXELS / (height * width)) ** 0.5)
    return round_up(int(height * shrink), multiple), round_up(int(width * shrink), multiple)


def measure_step(job: Job, repeats: int = 3) -> float:
    """Seconds of one training step at full resolution: the loop's own step on a real batch."""
    trainer, batch = Trainer(job), job.batches().make(0)
    times = []
    for _ in range(repeats + 1):
        start = time.monotonic()
        trainer.step(batch, 0.0)
        synchronize(job.device)
        times.append(time.monotonic() - start)
    return sorted(times[1:])[len(times[1:]) // 2]
