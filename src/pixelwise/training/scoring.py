"""Validation inside a run: keeping the best model, and the final word on it."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from pixelwise.data.images import Array
from pixelwise.data.sample import Sample
from pixelwise.evaluation.evaluate import Tally, score_samples
from pixelwise.inference.predictor import Predictor, make_predictor
from pixelwise.model_file import load_model, save_model
from pixelwise.progress import Progress
from pixelwise.training.run_folder import RunFolder
from pixelwise.training.trainer import Job, Trainer

REPORT_SECONDS = 6.0
"""Writing the report and leaving, seen on two slow cores."""

SCORING_RESERVE = 1.25
"""The last evaluation is given this many times what a few of its images took."""


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
        seconds += (time.monotonic() - start) / len(few) * len(job.val_samples())
    return seconds


def evaluate_and_keep_best(
    trainer: Trainer,
    run: RunFolder,
    best_score: float,
    on_image: Callable[[Sample, Array, Array], None] = lambda sample, labels, prediction: None,
) -> Mapping[str, Any]:
    """Scores the averaged weights on the validation images; above `best_score` they become the model."""
    job = trainer.job
    predictor = trainer.predictor()
    tally = score_samples(predictor, job.dataset, job.val_samples(), boundaries=False, on_image=on_image)
    scores = tally.scores(job.spec.classes.names)
    if (scores["mean_iou"] or 0.0) > best_score:
        short = {"mean_iou": scores["mean_iou"], "global_accuracy": scores["global_accuracy"]}
        save_model(run.model, job.spec.with_scores(short), predictor.module.state_dict())
    return scores


@dataclass(frozen=True, slots=True, kw_only=True)
class Scored:
    """The best model of a run, ready to predict in float32, and its count on the validation images."""

    predictor: Predictor
    tally: Tally


def score_best(job: Job, run: RunFolder, progress: Progress) -> Scored:
    """The final word on the best model: float32 scores, and how far bf16 agrees, kept in its file."""
    module, spec = load_model(run.model)
    samples = job.val_samples()
    labels: dict[Sample, Array] = {}
    reference = make_predictor(module, spec, job.device, "fp32")
    tally = score_samples(
        reference,
        job.dataset,
        samples,
        progress=progress,
        on_image=lambda sample, _, prediction: labels.__setitem__(sample, prediction),
    )
    scores = tally.scores(spec.classes.names)
    kept = {
        k: scores[k]
        for k in ("mean_iou", "global_accuracy", "mean_class_accuracy", "mean_dice", "boundary_f1", "num_images")
    }
    if job.recipe.training.precision == "bf16":
        kept["bf16"] = compare_precision(replace(reference, precision="bf16"), job, labels, tally)
    spec = spec.with_scores(kept)
    save_model(run.model, spec, module.state_dict())
    return Scored(predictor=replace(reference, spec=spec), tally=tally)


def compare_precision(
    predictor: Predictor, job: Job, reference: Mapping[Sample, Array], scored: Tally
) -> dict[str, float]:
    """Share of labels equal to float32's on the validation images, and the difference in mean IoU."""
    equal = total = 0

    def count(sample: Sample, _: Array, prediction: Array) -> None:
        nonlocal equal, total
        equal += int((prediction == reference[sample]).sum())
        total += prediction.size

    tally = score_samples(predictor, job.dataset, list(reference), boundaries=False, on_image=count)
    names = predictor.classes.names
    before, after = (t.scores(names)["mean_iou"] or 0.0 for t in (scored, tally))
    return {"agreement": equal / total, "mean_iou_difference": after - before}
