import shutil
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn

from pixelwise.data.unet_weight_map import border_weights
from pixelwise.devices import enable_deterministic_algorithms
from pixelwise.errors import InvalidArgumentError
from pixelwise.losses import cross_entropy_and_dice, focal, lovasz
from pixelwise.networks.summary import count_saved_bytes
from pixelwise.training.trainer import Trainer

MakeTrainer = Callable[..., Trainer]
BORDERS = {"loss.border_weight": 10.0, "loss.border_sigma": 3.0}


def test_border_weights_are_off_unless_asked_for(make_trainer: MakeTrainer) -> None:
    assert make_trainer().batches.make(0).pixel_weights is None


def test_a_job_weighs_the_labels_as_trained(make_trainer: MakeTrainer) -> None:
    trainer = make_trainer(BORDERS, class_weights=None)
    batch = trainer.batches.make(0)
    assert batch.pixel_weights is not None
    ignore_index = trainer.spec.classes.ignore_index
    for labels, weights in zip(batch.labels.numpy(), batch.pixel_weights.numpy(), strict=True):
        assert (weights == border_weights(labels, ignore_index=ignore_index, w0=10.0, sigma=3.0)).all()
    assert batch.pixel_weights.max() > 2


def test_with_class_weights_the_product_on_background_is_the_sum_of_the_paper(make_trainer: MakeTrainer) -> None:
    plain = make_trainer(BORDERS, class_weights=None)
    class_weights = (0.25, *[1.0] * (len(plain.spec.classes.names) - 1))
    alone = plain.batches.make(0).pixel_weights
    weights = plain.rebuild(class_weights=class_weights).batches.make(0).pixel_weights
    assert alone is not None
    assert weights is not None
    border = weights > 1
    assert border.any()
    torch.testing.assert_close(0.25 * weights[border], 0.25 + (alone - 1)[border])


@pytest.mark.parametrize("dice", [0.0, 0.5])
def test_a_step_weighs_the_loss_of_each_pixel(make_trainer: MakeTrainer, dice: float) -> None:
    trainer = make_trainer({"loss.dice_weight": dice, "optimizer.lr": 1e-9})
    batch = trainer.batches.make(0)
    batch = replace(batch, pixel_weights=torch.linspace(0, 6, batch.labels.numel()).view_as(batch.labels))
    with torch.no_grad():
        logits = trainer.model.train()(batch.images)

    def expected(weights: torch.Tensor | None) -> float:
        loss = cross_entropy_and_dice(
            logits,
            batch.labels,
            ignore_index=trainer.spec.classes.ignore_index,
            class_weights=trainer.class_weights,
            pixel_weights=weights,
            dice_weight=dice,
        )
        return loss.item()

    assert trainer.step(batch, 0.0).item() == pytest.approx(expected(batch.pixel_weights), rel=1e-4)
    assert trainer.step(replace(batch, pixel_weights=None), 0.0).item() == pytest.approx(expected(None), rel=1e-3)
    assert expected(batch.pixel_weights) > 1.5 * expected(None)


@pytest.mark.parametrize("name", ["adamw", "sgd", "muon"])
def test_frozen_stages_keep_weights_and_batch_statistics(make_trainer: MakeTrainer, name: str) -> None:
    trainer = make_trainer({"optimizer.freeze_stages": 2, "optimizer.name": name, "optimizer.lr": 0.1})
    before = {key: tensor.clone() for key, tensor in trainer.model.state_dict().items()}
    trainer.step(trainer.batches.make(0), 0.5)
    kept = {key for key, tensor in trainer.model.state_dict().items() if torch.equal(tensor, before[key])}
    frozen = {key for key in before if key.startswith(("network.first.", "network.down.0."))}
    assert kept == frozen | {"mean", "std"}


def test_more_frozen_stages_than_there_are_is_an_error(make_trainer: MakeTrainer) -> None:
    with pytest.raises(
        InvalidArgumentError, match=r"optimizer.freeze_stages is 4, but UNet has 3 encoder stages. Set it to at"
    ):
        make_trainer({"optimizer.freeze_stages": 4})


def test_layer_decay_slows_the_encoder_from_coarse_to_fine(make_trainer: MakeTrainer) -> None:
    trainer = make_trainer({"optimizer.layer_decay": 0.5, "optimizer.lr": 0.8, "schedule.name": "constant"})
    trainer.step(trainer.batches.make(0), 0.5)
    rates = {p: group["lr"] for group in trainer.optimizer.param_groups for p in group["params"]}
    found = {key.split(".block")[0]: rates[p] for key, p in trainer.model.network.named_parameters() if "block" in key}
    assert found == pytest.approx({"down.0": 0.2, "down.1": 0.4, "up.0": 0.8, "up.1": 0.8})
    assert rates[next(iter(trainer.model.network.parameters()))] == pytest.approx(0.1)


def test_a_step_takes_the_loss_of_the_config(make_trainer: MakeTrainer) -> None:
    trainer = make_trainer({"loss.name": "focal", "loss.lovasz_weight": 0.5, "optimizer.lr": 1e-9})
    batch = trainer.batches.make(0)
    with torch.no_grad():
        logits = trainer.model.train()(batch.images)
        options = {"ignore_index": trainer.spec.classes.ignore_index, "class_weights": trainer.class_weights}
        expected = focal(logits, batch.labels, **options) + 0.5 * lovasz(logits, batch.labels, **options)
    assert trainer.step(batch, 0.0).item() == pytest.approx(expected.item(), rel=1e-4)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"training.precision": "bf16"},
        {"training.gradient_accumulation_steps": 2, "loss.dice_weight": 0.5},
        {"optimizer.freeze_stages": 2},
    ],
)
def test_recomputing_changes_no_number(make_trainer: MakeTrainer, changes: dict[str, Any]) -> None:
    states = []
    for recompute in (False, True):
        trainer = make_trainer({**changes, "training.activation_checkpointing": recompute})
        batches = trainer.batches
        with enable_deterministic_algorithms(True):
            losses = [trainer.step(batches.make(step), step / 3) for step in range(3)]
        states.append({**trainer.model.state_dict(), "loss": torch.stack(losses), **trainer.state()["random"]})
    kept, again = states
    assert [name for name, tensor in kept.items() if not torch.equal(again[name], tensor)] == []


def test_the_config_decides_whether_the_network_is_compiled(
    make_trainer: MakeTrainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiled: list[nn.Module] = []
    monkeypatch.setattr(nn.Module, "compile", lambda module, **options: compiled.append(module))
    kept, other = (make_trainer({"training.compile": choice}) for choice in (False, True))
    assert compiled == [other.model]
    assert kept.model not in compiled


@pytest.mark.slow
@pytest.mark.skipif(not (shutil.which("c++") or shutil.which("g++")), reason="torch.compile needs a C++ compiler")
@pytest.mark.parametrize("network", ["unet", "segnet-basic"])
def test_a_compiled_network_learns_the_same(make_trainer: MakeTrainer, network: str) -> None:
    losses, names = [], []
    for choice in (False, True):
        trainer = make_trainer({"network.name": network, "network.depth": 4, "training.compile": choice})
        batches = trainer.batches
        losses.append(torch.stack([trainer.step(batches.make(step), step / 3) for step in range(3)]))
        names.append(list(trainer.state()["average"]))
    torch.testing.assert_close(losses[1], losses[0], rtol=1e-3, atol=1e-3)
    assert names[1] == names[0]  # a checkpoint of one is read by the other


def test_the_config_decides_whether_maps_are_made_again(make_trainer: MakeTrainer) -> None:
    kept, again = (
        make_trainer({"training.activation_checkpointing": choice}).model.train() for choice in (False, True)
    )
    images = torch.zeros(2, 3, 64, 96)
    assert count_saved_bytes(again, images) < 0.6 * count_saved_bytes(kept, images)


@pytest.mark.parametrize(("gflops", "variable", "expected"), [(1.4, None, 1), (1.6, None, 2), (1.4, "2", 2)])
def test_small_steps_use_one_thread_unless_the_user_chose(
    make_trainer: MakeTrainer, monkeypatch: pytest.MonkeyPatch, gflops: float, variable: str | None, expected: int
) -> None:
    """The number follows from the config, so that a run can be repeated bit for bit."""
    if variable is None:
        monkeypatch.delenv("OMP_NUM_THREADS")
    monkeypatch.setattr("pixelwise.training.trainer.count_gflops", lambda network, shape: gflops)
    trainer, used = make_trainer(), []
    loss = trainer.loss
    trainer.loss = lambda *arguments, **keywords: used.append(torch.get_num_threads()) or loss(*arguments, **keywords)
    trainer.step(trainer.batches.make(0), 0.5)
    assert used == [expected]
    assert torch.get_num_threads() == 2
