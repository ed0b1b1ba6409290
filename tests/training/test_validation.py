from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from pixelwise.data.io.images import Array
from pixelwise.data.sample import Sample
from pixelwise.evaluation.evaluate import score_samples
from pixelwise.model_file import load_model
from pixelwise.training.run_dir import RunFolder
from pixelwise.training.trainer import Job, Trainer
from pixelwise.training.validation import (
    REPORT_SECONDS,
    compare_precision,
    evaluate_and_keep_best,
    score_best,
    time_to_finish,
)

MakeJob = Callable[..., Job]


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    return RunFolder(tmp_path)


def test_a_better_model_is_kept_and_a_worse_one_is_not(make_job: MakeJob, run: RunFolder) -> None:
    trainer = Trainer(make_job())
    scores = evaluate_and_keep_best(trainer, run, -1.0)
    first = run.model.read_bytes()
    assert load_model(run.model)[1].scores["mean_iou"] == scores["mean_iou"]
    for tensor in trainer.average.state.values():
        tensor.zero_()
    evaluate_and_keep_best(trainer, run, 1.0)
    assert run.model.read_bytes() == first


def test_the_averaged_weights_are_what_is_kept(make_job: MakeJob, run: RunFolder) -> None:
    trainer = Trainer(make_job())
    trainer.average.state["network.classify.bias"].fill_(7.0)
    evaluate_and_keep_best(trainer, run, -1.0)
    assert load_model(run.model)[0].state_dict()["network.classify.bias"].unique().tolist() == [7.0]
    assert (trainer.model.state_dict()["network.classify.bias"] != 7.0).all()


def test_evaluation_leaves_the_training_model_as_it_is(make_job: MakeJob, run: RunFolder) -> None:
    trainer = Trainer(make_job())
    trainer.model.train()
    before = {name: tensor.clone() for name, tensor in trainer.model.state_dict().items()}
    evaluate_and_keep_best(trainer, run, -1.0)
    assert trainer.model.training
    assert all(torch.equal(before[name], tensor) for name, tensor in trainer.model.state_dict().items())


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_final_scores_are_those_of_float32(make_job: MakeJob, run: RunFolder, precision: str) -> None:
    job = make_job({"training.precision": precision})
    evaluate_and_keep_best(Trainer(job), run, -1.0)
    scored = score_best(job, run)
    spec = load_model(run.model)[1]
    expected = scored.tally.compute_scores(spec.classes.names)
    kept = dict(spec.scores)
    measured = kept.pop("bf16", None)
    assert kept == {key: expected[key] for key in kept}
    assert set(kept) == {
        "mean_iou", "global_accuracy", "mean_class_accuracy", "mean_dice", "boundary_f1", "num_images",
    }  # fmt: skip
    assert scored.predictor.precision == "fp32"
    assert scored.predictor.spec == spec
    assert (measured is not None) == (precision == "bf16")
    if measured:
        assert 0 < measured["agreement"] <= 1


def labels_of(predictor: Any, job: Job) -> tuple[dict[Sample, Array], Any]:
    labels: dict[Sample, Array] = {}

    def keep(sample: Sample, _: Array, prediction: Array) -> None:
        labels[sample] = prediction

    return labels, score_samples(predictor, job.dataset, job.val_samples(), boundaries=False, on_image=keep)


def test_a_precision_agrees_with_itself(make_job: MakeJob) -> None:
    job = make_job()
    predictor = Trainer(job).predictor("fp32")
    labels, tally = labels_of(predictor, job)
    assert compare_precision(predictor, job, labels, tally) == {"agreement": 1.0, "mean_iou_difference": 0.0}


def test_labels_that_differ_are_counted(make_job: MakeJob) -> None:
    job = make_job()
    predictor = Trainer(job).predictor("fp32")
    labels, tally = labels_of(predictor, job)
    first = min(labels)
    labels[first] = labels[first].copy()
    labels[first][:32] = 200  # half of one image of four
    measured: Mapping[str, float] = compare_precision(predictor, job, labels, tally)
    assert measured["agreement"] == pytest.approx(7 / 8)


def test_the_end_takes_at_least_the_time_of_the_report(make_job: MakeJob) -> None:
    assert time_to_finish(Trainer(make_job())) > REPORT_SECONDS


def test_many_validation_images_are_sampled_by_seed(make_job: MakeJob) -> None:
    job = make_job({"data.max_val_images": 2})
    assert len(job.val_samples()) == 2
    assert job.val_samples() == job.val_samples() == sorted(job.val_samples())
    others = [replace(job, config=job.config.replace({"training.seed": seed})).val_samples() for seed in range(8)]
    assert any(samples != job.val_samples() for samples in others)
