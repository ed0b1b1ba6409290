from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from pixelwise.data.io.images import Array
from pixelwise.data.sample import Sample
from pixelwise.evaluation.evaluate import ScoredImage, score_samples
from pixelwise.model_file import load_model
from pixelwise.training import validation
from pixelwise.training.run_dir import RunFolder
from pixelwise.training.trainer import Trainer, space_evenly
from pixelwise.training.validation import (
    REPORT_SECONDS,
    compare_precision,
    estimate_closing_seconds,
    score_and_keep_best,
    score_best_model,
)

MakeTrainer = Callable[..., Trainer]


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    return RunFolder(tmp_path)


def test_a_better_model_is_kept_and_a_worse_one_is_not(make_trainer: MakeTrainer, run: RunFolder) -> None:
    trainer = make_trainer()
    scores = score_and_keep_best(trainer, run)
    first = run.model.read_bytes()
    assert load_model(run.model)[1].scores["mean_iou"] == scores["mean_iou"]
    for tensor in trainer.average.state.values():
        tensor.zero_()
    trainer.best_score = 1.0
    score_and_keep_best(trainer, run)
    assert run.model.read_bytes() == first


def test_the_averaged_weights_are_saved(make_trainer: MakeTrainer, run: RunFolder) -> None:
    trainer = make_trainer()
    trainer.average.state["network.classify.bias"].fill_(7.0)
    score_and_keep_best(trainer, run)
    assert load_model(run.model)[0].state_dict()["network.classify.bias"].unique().tolist() == [7.0]
    assert (trainer.model.state_dict()["network.classify.bias"] != 7.0).all()


def test_evaluation_leaves_the_training_model_as_it_is(make_trainer: MakeTrainer, run: RunFolder) -> None:
    trainer = make_trainer()
    trainer.model.train()
    before = {name: tensor.clone() for name, tensor in trainer.model.state_dict().items()}
    score_and_keep_best(trainer, run)
    assert trainer.model.training
    assert all(torch.equal(before[name], tensor) for name, tensor in trainer.model.state_dict().items())


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_final_scores_are_those_of_float32(make_trainer: MakeTrainer, run: RunFolder, precision: str) -> None:
    trainer = make_trainer({"training.precision": precision})
    score_and_keep_best(trainer, run)
    scored = score_best_model(trainer, run)
    spec = load_model(run.model)[1]
    expected = scored.counts.compute_scores(spec.classes.names)
    kept = dict(spec.scores)
    measured = kept.pop("bf16", None)
    assert kept == {key: expected[key] for key in kept}
    assert set(kept) == {
        "mean_iou", "global_accuracy", "mean_class_accuracy", "mean_dice", "boundary_f1", "per_class", "num_images",
    }  # fmt: skip
    assert scored.predictor.precision == "fp32"
    assert scored.predictor.spec == spec
    assert (measured is not None) == (precision == "bf16")
    if measured:
        assert 0 < measured["agreement"] <= 1


def labels_of(predictor: Any, trainer: Trainer) -> tuple[dict[Sample, Array], Any]:
    labels: dict[Sample, Array] = {}

    def keep(scored: ScoredImage) -> None:
        labels[scored.sample] = scored.prediction

    return labels, score_samples(predictor, trainer.dataset, trainer.val_samples, boundaries=False, on_image=keep)


def test_a_precision_agrees_with_itself(make_trainer: MakeTrainer) -> None:
    trainer = make_trainer()
    predictor = trainer.predictor("fp32")
    labels, tally = labels_of(predictor, trainer)
    assert compare_precision(predictor, trainer, labels, tally) == {"agreement": 1.0, "mean_iou_difference": 0.0}


def test_labels_that_differ_are_counted(make_trainer: MakeTrainer) -> None:
    trainer = make_trainer()
    predictor = trainer.predictor("fp32")
    labels, tally = labels_of(predictor, trainer)
    first = min(labels)
    labels[first] = labels[first].copy()
    labels[first][:32] = 200  # half of one image of four
    measured: Mapping[str, float] = compare_precision(predictor, trainer, labels, tally)
    assert measured["agreement"] == pytest.approx(7 / 8)


def test_the_end_takes_at_least_the_time_of_the_report(make_trainer: MakeTrainer) -> None:
    assert estimate_closing_seconds(make_trainer()) > REPORT_SECONDS


def test_the_precisions_are_compared_on_some_images(
    make_trainer: MakeTrainer, run: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = make_trainer({"training.precision": "bf16"})
    compared: list[int] = []
    monkeypatch.setattr(validation, "MAX_COMPARED_IMAGES", 2)
    monkeypatch.setattr(
        validation, "compare_precision", lambda predictor, trainer, labels, counts: compared.append(len(labels)) or {}
    )
    score_and_keep_best(trainer, run)
    assert score_best_model(trainer, run).counts.per_image.keys() == set(trainer.val_samples)
    assert compared == [2]


def test_evaluations_during_the_run_can_score_fewer_images(make_trainer: MakeTrainer, run: RunFolder) -> None:
    trainer = make_trainer({"training.images_per_evaluation": 2})
    first, second = trainer.evaluation_samples
    assert (first, second) == (trainer.val_samples[0], trainer.val_samples[2])
    assert score_and_keep_best(trainer, run)["num_images"] == 2
    assert score_best_model(trainer, run).counts.per_image.keys() == set(trainer.val_samples)


@pytest.mark.parametrize(
    ("count", "spaced"), [(None, [0, 1, 2, 3, 4]), (7, [0, 1, 2, 3, 4]), (2, [0, 2]), (3, [0, 1, 3])]
)
def test_samples_are_spaced_evenly(count: int | None, spaced: list[int]) -> None:
    samples = [
        Sample(name=str(i), image_path=Path(f"{i}.png"), mask_path=Path(f"{i}.png"), split=None) for i in range(5)
    ]
    assert space_evenly(samples, count) == [samples[i] for i in spaced]


def test_many_validation_images_are_sampled_by_seed(make_trainer: MakeTrainer) -> None:
    trainer = make_trainer({"data.max_val_images": 2})
    assert len(trainer.val_samples) == 2
    assert trainer.val_samples == trainer.val_samples == sorted(trainer.val_samples)
    others = [make_trainer({"data.max_val_images": 2, "training.seed": seed}).val_samples for seed in range(8)]
    assert any(samples != trainer.val_samples for samples in others)
