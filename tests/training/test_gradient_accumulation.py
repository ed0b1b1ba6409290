from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import pytest
import torch

from pixelwise.training.gradient_accumulation import is_mean_over_pixels
from pixelwise.training.trainer import Trainer

MakeTrainer = Callable[..., Trainer]
PLAIN = {"network.normalization": "none", "optimizer.name": "sgd", "optimizer.clip_norm": 0.0, "optimizer.lr": 0.05}


def weights_after_a_step(trainer: Trainer, parts: int) -> tuple[float, Mapping[str, Any]]:
    """In float64: in float32, sums over 24,576 pixels round by 1e-6 and more, depending on the threads."""
    trainer = trainer.rebuild()
    trainer.model.double()
    trainer.num_accumulation_steps = parts
    batch = trainer.batches.make(0)
    labels = batch.labels.clone()
    labels[0, :50] = trainer.spec.classes.ignore_index  # parts of unequal numbers of pixels
    weights = torch.linspace(0.5, 2, labels.numel()).view(labels.shape)
    loss = trainer.step(replace(batch, labels=labels, pixel_weights=weights), 0.5)
    return float(loss), trainer.model.state_dict()


@pytest.mark.parametrize(
    "loss", [{}, {"loss.dice_weight": 0.7}, {"loss.name": "focal"}, {"loss.name": "tversky"}, {"loss.name": "lovasz"}]
)
@pytest.mark.parametrize("parts", [2, 3])
def test_parts_have_the_gradient_of_the_whole_batch(make_trainer: MakeTrainer, parts: int, loss: Any) -> None:
    trainer = make_trainer({**PLAIN, **loss}, class_weights=(2.0, *[0.5] * 7))
    loss_of_whole, whole = weights_after_a_step(trainer, 1)
    loss_of_parts, of_parts = weights_after_a_step(trainer, parts)
    exact = {"rel": 1e-7 if is_mean_over_pixels(trainer.config.loss) else 1e-13}  # shares of pixels are float32
    assert loss_of_parts == pytest.approx(loss_of_whole, **exact)
    start = trainer.rebuild().model.state_dict()
    moved = max(float((start[name] - whole[name]).abs().max()) for name in start)
    apart = max(float((of_parts[name] - whole[name]).abs().max()) for name in start)
    assert moved > 1e-3
    assert apart <= exact["rel"] * moved


def test_the_pass_that_counts_leaves_no_trace(make_trainer: MakeTrainer) -> None:
    """Batch statistics move as often with Dice as without, and dropout drops the same in both passes."""
    plain, dice = (make_trainer({"loss.dice_weight": weight}) for weight in (0.0, 0.5))
    counted = [
        {n: t for n, t in weights_after_a_step(trainer, 2)[1].items() if "running" in n} for trainer in (plain, dice)
    ]
    assert counted[0]
    for name, tensor in counted[0].items():
        assert torch.equal(counted[1][name], tensor), name


def test_the_config_decides_the_parts(make_trainer: MakeTrainer) -> None:
    assert make_trainer({"training.gradient_accumulation_steps": 2}).num_accumulation_steps == 2
