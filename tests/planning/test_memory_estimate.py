import dataclasses

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pixelwise.config import Config
from pixelwise.planning import memory_estimate as home
from pixelwise.planning.memory_estimate import (
    MemoryBudget,
    build_meta_segmenter,
    estimate_memory,
    format_gib,
    measure_memory_budget,
)
from pixelwise.planning.prepare_data import prepare_data
from pixelwise.training.optimizers import build_optimizer

CPU, CUDA = torch.device("cpu"), torch.device("cuda")
ROOM = MemoryBudget(resident=500 * 2**20, total=8 * 2**30)
SMALL = {"network.base_channels": 4, "network.depth": 2, "data.crop_size": [64, 96]}


@pytest.fixture(scope="module")
def seen(streets):
    return prepare_data(streets, Config()).fingerprint


def forecast(seen, device=CPU, room=ROOM, **changes):
    return estimate_memory(Config().replace({**SMALL, **changes}), seen, device, room)


def test_the_model_s_part_counted_by_hand(seen):
    config = Config().replace(SMALL)
    parameters = sum(p.numel() for p in build_meta_segmenter(config.network, 3, 8).parameters())
    assert forecast(seen).model == 4 * parameters * 5  # weights, gradients, average, two of AdamW
    assert forecast(seen, **{"optimizer.name": "sgd"}).model == 4 * parameters * 4


@pytest.mark.parametrize("name", ["muon", "adamw", "sgd"])
def test_the_optimizer_state_is_counted_exactly(streets, make_trainer, seen, name):
    trainer = make_trainer({"optimizer.name": name})
    model = trainer.spec.build()
    optimizer = build_optimizer(model, trainer.config.optimizer)
    model(torch.zeros(1, 3, 64, 96)).sum().backward()
    optimizer.step()
    kept = [t for state in optimizer.state.values() for t in state.values() if isinstance(t, torch.Tensor)]
    expected = sum(4 * tensor.numel() for tensor in kept if tensor.dim())
    assert home._optimizer_bytes(model.network, trainer.config.optimizer) == expected


def test_the_cache_fills_with_the_images_of_the_run(seen):
    of_pair = 64 * 96 * 4
    batches = 4 * 2 * of_pair
    two = {"training.batch_size": 2}
    assert forecast(seen, **two).images == 12 * of_pair + batches
    assert forecast(seen, **two, **{"training.steps": 3}).images == 6 * of_pair + batches
    assert forecast(seen, **two, **{"data.cache_gib": 0}).images == batches


def test_bf16_halves_the_maps_and_evaluation_stays_in_float32(seen):
    half, full = forecast(seen, **{"training.precision": "bf16"}), forecast(seen)
    assert full.step / 2 < half.step < full.step
    assert half.evaluation == full.evaluation


def test_a_gpu_holds_no_process_and_no_images(seen):
    there, here = forecast(seen, CUDA, MemoryBudget(resident=0, total=None)), forecast(seen)
    assert (there.process, there.images, there.checkpoint) == (0, 0, 0)
    assert (there.model, there.step) == (here.model, here.step)
    assert here.process > ROOM.resident


def test_an_encoder_brings_its_libraries(seen):
    own = Config().replace({"data.crop_size": [64, 96]})
    with_encoder = own.replace({"network.encoder": "resnet18"})
    before, after = (estimate_memory(config, seen, CPU, ROOM).process for config in (own, with_encoder))
    assert after - before == home.ENCODER_LIBRARY_BYTES


def test_large_validation_images_count(seen):
    large = dataclasses.replace(seen, largest_val_size=(6400, 9600))
    assert forecast(large).evaluation > 1000 * forecast(seen).step / 10
    few = forecast(large, **{"data.max_val_images": 2})
    assert forecast(large).evaluation - few.evaluation == 2 * 6400 * 9600


@settings(max_examples=15)
@given(
    batch=st.integers(1, 16),
    more=st.integers(1, 16),
    width=st.sampled_from([4, 8]),
    precision=st.sampled_from(["fp32", "bf16"]),
)
def test_the_forecast_grows_with_batch_width_and_crop(seen, batch, more, width, precision):
    changes = {"training.batch_size": batch, "network.base_channels": width, "training.precision": precision}
    start = forecast(seen, **changes)
    for larger in (
        {"training.batch_size": batch + more},
        {"network.base_channels": width + more},
        {"data.crop_size": [64 + 16 * more, 96]},
    ):
        grown = forecast(seen, **{**changes, **larger})
        assert grown.step > start.step
        assert grown.peak >= start.peak


def test_the_turns_of_a_run_share_their_memory(seen):
    made = forecast(seen)
    assert made.peak == made.process + made.images + made.model + max(made.step, made.evaluation, made.checkpoint)


def test_the_budget_is_a_fraction_of_used_and_free_memory(monkeypatch):
    monkeypatch.setattr(home, "measure_free_memory", lambda device: 3 * 2**30)
    monkeypatch.setattr(home, "measure_resident_memory", lambda: 2**30)
    assert measure_memory_budget(CPU) == MemoryBudget(resident=2**30, total=4 * 2**30)
    assert measure_memory_budget(CPU).allowed == 3 * 2**30
    assert measure_memory_budget(CUDA) == MemoryBudget(resident=0, total=3 * 2**30)
    monkeypatch.setattr(home, "measure_free_memory", lambda device: None)
    assert measure_memory_budget(CPU).allowed == float("inf")


def test_bytes_in_words():
    assert format_gib(1.5 * 2**30) == "1.50 GiB"


def test_a_batch_in_parts_takes_the_step_of_one_part(seen):
    whole, parts = forecast(seen), forecast(seen, **{"training.gradient_accumulation_steps": 4})
    assert parts.step == pytest.approx(whole.step / 4, rel=1e-6)
    assert parts.images == whole.images


@pytest.mark.parametrize("network", [{}, {"network.name": "segnet", "network.depth": 4}])
def test_activation_checkpointing_reduces_only_the_step(seen, network):
    kept, again = forecast(seen, **network), forecast(seen, **network, **{"training.activation_checkpointing": True})
    assert 0.5 * kept.step < again.step < 0.8 * kept.step
    assert dataclasses.replace(again, step=kept.step) == kept


def test_a_network_without_stages_is_forecast_all_the_same(seen):
    network = {"network.encoder": "timm:hrnet_w18_small", "network.base_channels": None, "network.depth": 4}
    assert forecast(seen, **network).step > 0
