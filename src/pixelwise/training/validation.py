"""Validation inside a run: keeping the best model, and the final word on it."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor

from pixelwise.data.io.images import Array
from pixelwise.data.sample import Sample
from pixelwise.devices import Precision
from pixelwise.evaluation.evaluate import EvaluationCounts, score_samples
from pixelwise.inference.predictor import Predictor, make_predictor
from pixelwise.metrics import ConfusionMatrix
from pixelwise.model_file import load_model, save_model
from pixelwise.training.distributed import Order, What
from pixelwise.training.run_dir import RunFolder
from pixelwise.training.trainer import Job, Trainer

REPORT_SECONDS = 6.0
"""Writing the report and leaving, seen on two slow cores."""

SCORING_RESERVE = 1.25
"""The last evaluation is given this many times what a few of its images took."""


OnImage = Callable[[Sample, Array, Array], None]
"""Is given a sample, its labels and their prediction."""


def _pass_over(sample: Sample, labels: Array, prediction: Array) -> None:
    pass


def time_to_finish(trainer: Trainer) -> float:
    """Seconds for the last evaluation and the report."""
    return SCORING_RESERVE * time_to_score(trainer) + REPORT_SECONDS


def time_to_score(trainer: Trainer) -> float:
    """Seconds for the last evaluation, in both precisions, measured on a few validation images."""
    job = trainer.job
    few = job.val_samples()[:3]
    predictors = [trainer.predictor("fp32"), trainer.predictor()]
    seconds = 0.0
    for predictor in predictors:
        score_samples(predictor, job.dataset, few[:1], boundaries=False)
        start = time.monotonic()
        score_samples(predictor, job.dataset, few)
        seconds += (time.monotonic() - start) / len(few) * len(job.world.share_of(job.val_samples()))
    return seconds


class Question(NamedTuple):
    """What is to be scored on the validation images."""

    weights: Mapping[str, Tensor]
    precision: Precision
    boundaries: bool


def score_together(
    predictor: Predictor,
    job: Job,
    *,
    boundaries: bool = True,
    report: bool = False,
    on_image: OnImage = _pass_over,
) -> EvaluationCounts:
    """Counts over all validation images, each process its share of them, added up. `on_image` and
    `progress` see the share of this process.
    """
    world, samples = job.world, job.val_samples()
    if world.size > 1:
        world.lead(Order(What.SCORE))
        weights = {name: tensor.cpu() for name, tensor in predictor.module.state_dict().items()}
        world.share(Question(weights, predictor.precision, boundaries))
    own = score_samples(
        predictor, job.dataset, world.share_of(samples), boundaries=boundaries, report=report, on_image=on_image
    )
    return add_up(world.gather(own), samples)


def score_own_share(job: Job) -> None:
    """What the other processes do while the first one scores."""
    question = cast(Question, job.world.share(None))
    with torch.random.fork_rng([]):
        module = job.spec.build()
    module.load_state_dict(question.weights)
    predictor = make_predictor(module, job.spec, job.device, question.precision)
    own = score_samples(predictor, job.dataset, job.world.share_of(job.val_samples()), boundaries=question.boundaries)
    job.world.gather(own)


def add_up(tallies: Sequence[EvaluationCounts], samples: Sequence[Sample]) -> EvaluationCounts:
    """The count over all samples, from those of its parts."""
    first, *others = tallies
    confusion, boundary, per_image = first.confusion, first.boundary, dict(first.per_image)
    for other in others:
        confusion = confusion + other.confusion
        boundary = boundary + other.boundary if boundary and other.boundary else None
        per_image |= other.per_image
    return EvaluationCounts(confusion, boundary, {sample: per_image[sample] for sample in samples})


def evaluate_and_keep_best(
    trainer: Trainer,
    run: RunFolder,
    best_score: float,
    on_image: OnImage = _pass_over,
) -> Mapping[str, Any]:
    """Scores the averaged weights on the validation images; above `best_score` they become the model."""
    job = trainer.job
    predictor = trainer.predictor()
    tally = score_together(predictor, job, boundaries=False, on_image=on_image)
    scores = tally.compute_scores(job.spec.classes.names)
    if (scores["mean_iou"] or 0.0) > best_score:
        short = {"mean_iou": scores["mean_iou"], "global_accuracy": scores["global_accuracy"]}
        save_model(run.model, job.spec.with_scores(short), predictor.module.state_dict())
    return scores


@dataclass(frozen=True, slots=True, kw_only=True)
class Scored:
    """The best model of a run, ready to predict in float32, and its count on the validation images."""

    predictor: Predictor
    tally: EvaluationCounts


def score_best(job: Job, run: RunFolder) -> Scored:
    """The final word on the best model: float32 scores, and how far bf16 agrees, kept in its file."""
    module, spec = load_model(run.model)
    labels: dict[Sample, Array] = {}
    reference = make_predictor(module, spec, job.device, "fp32")
    tally = score_together(
        reference,
        job,
        report=True,
        on_image=lambda sample, _, prediction: labels.__setitem__(sample, prediction),
    )
    scores = tally.compute_scores(spec.classes.names)
    kept = {
        k: scores[k]
        for k in ("mean_iou", "global_accuracy", "mean_class_accuracy", "mean_dice", "boundary_f1", "num_images")
    }
    if job.config.training.precision == "bf16":
        kept["bf16"] = compare_precision(replace(reference, precision="bf16"), job, labels, tally)
    spec = spec.with_scores(kept)
    save_model(run.model, spec, module.state_dict())
    return Scored(predictor=replace(reference, spec=spec), tally=tally)


def compare_precision(
    predictor: Predictor, job: Job, reference: Mapping[Sample, Array], scored: EvaluationCounts
) -> dict[str, float]:
    """Share of labels equal to float32's on the images of `reference`, and the difference in mean IoU."""
    equal = total = 0

    def count(sample: Sample, _: Array, prediction: Array) -> None:
        nonlocal equal, total
        equal += int((prediction == reference[sample]).sum())
        total += prediction.size

    tally = score_samples(predictor, job.dataset, list(reference), boundaries=False, on_image=count)
    names = predictor.classes.names
    same_images = EvaluationCounts(ConfusionMatrix(len(names)), None)
    for sample in reference:
        same_images.confusion = same_images.confusion + scored.per_image[sample]
    before, after = (t.compute_scores(names)["mean_iou"] or 0.0 for t in (same_images, tally))
    return {"agreement": equal / total, "mean_iou_difference": after - before}
