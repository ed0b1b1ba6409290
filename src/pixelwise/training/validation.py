"""Evaluation on the validation images: during the run, and of the best model at the end."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from pixelwise.data.io.images import Array
from pixelwise.data.sample import Sample
from pixelwise.evaluation.evaluate import EvaluationCounts, ScoredImage, score_samples
from pixelwise.inference.predictor import Predictor
from pixelwise.metrics import ConfusionMatrix
from pixelwise.model_file import load_model, save_model
from pixelwise.reports.gallery import ImageGallery, merge_galleries
from pixelwise.training.results import SCORE_NAMES
from pixelwise.training.run_dir import RunFolder
from pixelwise.training.trainer import Trainer, space_evenly

REPORT_SECONDS = 6.0
"""Time to write the report and exit, measured on two slow cores."""

SCORING_RESERVE = 1.25
"""Time reserved for the final evaluation, relative to the estimate from a few images."""

MAX_COMPARED_IMAGES = 32
"""Validation images on which the agreement of bf16 with float32 is measured."""

ImageCallback = Callable[[ScoredImage], object]


def estimate_closing_seconds(trainer: Trainer) -> float:
    """Estimate the time of the final evaluation and the report."""
    return SCORING_RESERVE * estimate_scoring_seconds(trainer)[0] + REPORT_SECONDS


def estimate_scoring_seconds(trainer: Trainer) -> tuple[float, float]:
    """Estimate the time of the final evaluation, and of one that scores the same images during the run.

    The first is in float32 with pictures and boundaries; bf16 adds its comparison.
    """
    samples, val_samples = trainer.val_samples[:3], trainer.val_samples
    gallery = ImageGallery(len(val_samples), trainer.spec.classes)
    per_image = []
    for predictor, on_image in [(trainer.predictor("fp32"), gallery.add), (trainer.predictor(), None)]:
        score_samples(predictor, trainer.dataset, samples[:1], boundaries=False)
        start = time.monotonic()
        score_samples(predictor, trainer.dataset, samples, boundaries=on_image is not None, on_image=on_image)
        per_image.append((time.monotonic() - start) / len(samples))
    exact, fast = per_image
    num_images = len(trainer.world.own_items(val_samples))
    num_compared = min(MAX_COMPARED_IMAGES, len(val_samples)) if trainer.config.training.precision == "bf16" else 0
    return exact * num_images + fast * num_compared, fast * num_images


def score_validation(
    trainer: Trainer,
    predictor: Predictor,
    samples: Sequence[Sample],
    *,
    boundaries: bool = True,
    report: bool = False,
    on_image: ImageCallback | None = None,
) -> EvaluationCounts:
    """Score validation images, each process its part; `on_image` and the progress report see this part only."""
    own = score_samples(
        predictor,
        trainer.dataset,
        trainer.world.own_items(samples),
        boundaries=boundaries,
        report=report,
        on_image=on_image,
    )
    return add_counts(trainer.world.gather(own), samples)


def add_counts(parts: Sequence[EvaluationCounts], samples: Sequence[Sample]) -> EvaluationCounts:
    """Add the counts of parts of `samples`."""
    first, *others = parts
    confusion, boundary, margins, per_image = first.confusion, first.boundary, first.margins, dict(first.per_image)
    for other in others:
        confusion = confusion + other.confusion
        boundary = boundary + other.boundary if boundary and other.boundary else None
        margins = margins + other.margins if margins and other.margins else None
        per_image |= other.per_image
    return EvaluationCounts(
        confusion, boundary, margins=margins, per_image={sample: per_image[sample] for sample in samples}
    )


def score_and_keep_best(trainer: Trainer, run: RunFolder, on_image: ImageCallback | None = None) -> Mapping[str, Any]:
    """Score the averaged weights; if the mean IoU is the best so far, write them as the model file."""
    predictor = trainer.predictor()
    counts = score_validation(trainer, predictor, trainer.evaluation_samples, boundaries=False, on_image=on_image)
    scores = counts.compute_scores(trainer.spec.classes.names)
    if trainer.world.is_first and (scores["mean_iou"] or 0.0) > trainer.best_score:
        summary = {"mean_iou": scores["mean_iou"], "global_accuracy": scores["global_accuracy"]}
        save_model(run.model, trainer.spec.with_scores(summary), predictor.module.state_dict())
    return scores


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoredModel:
    """The best model of a run, as a float32 predictor, and its evaluation counts on the validation images."""

    predictor: Predictor
    counts: EvaluationCounts
    gallery: ImageGallery
    """The pictures of the validation images."""


def score_best_model(trainer: Trainer, run: RunFolder) -> ScoredModel:
    """Score the best model in float32, and its agreement in bf16 if it was trained so; store both in its file."""
    first = trainer.world.is_first
    module, spec = load_model(run.model) if first else (trainer.spec.build(), trainer.spec)
    labels: dict[Sample, Array] = {}
    gallery = ImageGallery(len(trainer.val_samples), spec.classes)
    compared = set(space_evenly(trainer.val_samples, MAX_COMPARED_IMAGES))

    def keep(scored: ScoredImage) -> None:
        if scored.sample in compared:
            labels[scored.sample] = scored.prediction
        gallery.add(scored)

    predictor = replace(trainer.broadcast_predictor(module, "fp32"), spec=spec)
    counts = score_validation(trainer, predictor, trainer.val_samples, report=True, on_image=keep)
    gallery = merge_galleries(trainer.world.gather(gallery))
    if not first:
        return ScoredModel(predictor=predictor, counts=counts, gallery=gallery)
    scores = counts.compute_scores(spec.classes.names)
    stored = {name: scores[name] for name in (*SCORE_NAMES, "per_class", "num_images")}
    if trainer.config.training.precision == "bf16":
        stored["bf16"] = compare_precision(replace(predictor, precision="bf16"), trainer, labels, counts)
    spec = spec.with_scores(stored)
    save_model(run.model, spec, module.state_dict())
    return ScoredModel(predictor=replace(predictor, spec=spec), counts=counts, gallery=gallery)


def compare_precision(
    predictor: Predictor, trainer: Trainer, reference: Mapping[Sample, Array], scored: EvaluationCounts
) -> dict[str, float]:
    """Compare with float32 label maps: the fraction of equal labels, and the difference in mean IoU."""
    equal = total = 0

    def compare(scored: ScoredImage) -> None:
        nonlocal equal, total
        equal += int((scored.prediction == reference[scored.sample]).sum())
        total += scored.prediction.size

    counts = score_samples(predictor, trainer.dataset, list(reference), boundaries=False, on_image=compare)
    names = predictor.classes.names
    same_images = EvaluationCounts(ConfusionMatrix(len(names)), None)
    for sample in reference:
        same_images.confusion = same_images.confusion + scored.per_image[sample]
    before, after = (t.compute_scores(names)["mean_iou"] or 0.0 for t in (same_images, counts))
    return {"agreement": equal / total, "mean_iou_difference": after - before}
