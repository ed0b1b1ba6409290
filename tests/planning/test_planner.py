import time

import pytest
import torch

from pixelwise.planning import planner
from pixelwise.planning.planner import CANDIDATES, crop_for, images_wanted, make_plan, measure_step
from pixelwise.planning.prepare import prepare
from pixelwise.progress import Silent
from pixelwise.recipe import Recipe, from_dict, to_yaml

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def prepared(streets):
    return prepare(streets, Recipe())


def plan(prepared, **changes):
    return make_plan(prepared, CPU, "fp32", changes, time.monotonic(), Silent())


@pytest.mark.parametrize(
    ("size", "crop"),
    [
        ((360, 480), (384, 480)),  # small: the whole image, rounded up
        ((64, 96), (64, 96)),
        ((1, 1), (32, 32)),
        ((1024, 1024), (512, 512)),  # large: a window of a quarter megapixel
        ((1000, 4000), (256, 1024)),  # of the same shape
    ],
)
def test_crop_is_the_image_or_its_largest_window(size, crop):
    assert crop_for(size) == crop


def test_with_steps_nothing_is_timed(prepared, monkeypatch):
    def refuse(*_):
        raise AssertionError("a step was timed")

    monkeypatch.setattr(planner, "measure_step", refuse)
    monkeypatch.setattr(planner, "time_to_score", refuse)
    first, second = plan(prepared, **{"training.steps": 5}), plan(prepared, **{"training.steps": 5})
    assert first == second
    assert first.recipe.training.steps == 5
    assert first.recipe.training.budget_seconds is None


@pytest.mark.parametrize(
    ("seconds_per_batch", "index"),
    [(0.001, len(CANDIDATES) - 1), (0.4, 1), (100.0, 0)],
)
def test_network_grows_with_the_speed_of_the_machine(prepared, monkeypatch, seconds_per_batch, index):
    # Each candidate takes four times as long as the one before it.
    sizes = {candidate.width * 10 + candidate.stem_stride: 4**i for i, candidate in enumerate(CANDIDATES)}

    def pretend(job):
        network = job.recipe.network
        return seconds_per_batch * sizes[network.width * 10 + network.stem_stride]

    monkeypatch.setattr(planner, "measure_step", pretend)
    monkeypatch.setattr(planner, "time_to_score", lambda trainer: 1.0)
    made = plan(prepared, **{"training.budget_seconds": 600.0})
    recipe = made.recipe
    too_short = "the budget is too short" in made.reasons["network.width"]
    assert too_short == (seconds_per_batch == 100.0)
    expected = CANDIDATES[index]
    assert (recipe.network.width, recipe.network.stem_stride) == (expected.width, expected.stem_stride)
    assert recipe.training.steps is None


def test_deterministic_budget_fixes_the_steps(prepared, monkeypatch):
    monkeypatch.setattr(planner, "measure_step", lambda job: 1.0)
    monkeypatch.setattr(planner, "time_to_score", lambda trainer: 1.0)
    changes = {"training.budget_seconds": 600.0, "training.deterministic": True}
    steps = plan(prepared, **changes).recipe.training.steps
    assert steps is not None
    assert 400 < steps < 600


@pytest.mark.parametrize(("seconds", "batch"), [(0.1, 8), (0.5, 3), (9.0, 1)])
def test_a_slow_network_that_is_given_takes_smaller_batches(prepared, monkeypatch, seconds, batch):
    """480 seconds are left: 300 steps of 8 images would fit at 0.2 seconds an image."""
    monkeypatch.setattr(planner, "measure_step", lambda job, repeats: seconds)
    monkeypatch.setattr(planner, "time_to_score", lambda trainer: 1.0)
    made = plan(prepared, **{"training.budget_seconds": 600.0, "network.name": "segnet"})
    assert made.recipe.training.batch_size == batch
    assert made.recipe.network.width is None  # as published
    assert ("at least 300 steps" in made.reasons["training.batch_size"]) == (batch < 8)


def test_only_the_unet_comes_in_sizes(prepared):
    made = plan(prepared, **{"training.steps": 5, "network.encoder": "resnet18"})
    assert made.recipe.network.width is None
    made = plan(prepared, **{"training.steps": 5})
    assert made.recipe.network.width == CANDIDATES[1].width


def test_large_validation_sets_are_sampled(prepared, monkeypatch):
    monkeypatch.setattr(planner, "measure_step", lambda job: 0.01)
    monkeypatch.setattr(planner, "time_to_score", lambda trainer: 1000.0)
    made = plan(prepared, **{"training.budget_seconds": 600.0})
    assert made.recipe.data.max_val_images is None  # four are never too many

    monkeypatch.setattr(planner, "MIN_VAL_IMAGES", 2)
    made = plan(prepared, **{"training.budget_seconds": 600.0})
    assert made.recipe.data.max_val_images == 2
    assert "of 4" in made.reasons["data.max_val_images"]


def test_what_the_user_decided_stays(prepared):
    changes = {
        "training.steps": 3,
        "network.width": 4,
        "optimizer.name": "sgd",
        "data.crop": [32, 32],
        "augmentation.rotate": 1.0,
    }
    made = plan(prepared, **changes)
    assert made.recipe == made.recipe.replace(changes)
    assert made.recipe.optimizer.lr == 0.05  # follows from the optimizer
    assert made.reasons["network.width"] == "as asked for"


def test_every_planned_value_has_a_reason_in_the_yaml(prepared):
    made = plan(prepared, **{"training.steps": 3})
    changed = [
        f"{section}.{key}"
        for section, values in made.recipe.to_dict().items()
        for key, value in values.items()
        if value != Recipe().to_dict()[section][key]
    ]
    assert set(changed) <= set(made.reasons)
    text = to_yaml(made.recipe, made.reasons)
    assert all(reason in text for reason in made.reasons.values())


def test_cells_may_lie_any_way_up_and_streets_may_not(prepared, cells):
    upright = plan(prepared, **{"training.steps": 3}).recipe.augmentation
    free = plan(prepare(cells, Recipe()), **{"training.steps": 3}).recipe.augmentation
    assert (upright.flip_vertical, upright.rotate) == (0.0, 5.0)
    assert (free.flip_vertical, free.rotate) == (0.5, 180.0)


def test_measure_step_times_the_loop_s_own_step(prepared):
    recipe = from_dict({"network": {"width": 2, "depth": 1}, "data": {"crop": [32, 32]}})
    assert 0 < measure_step(prepared.job(recipe, CPU), repeats=1) < 60


def test_images_wanted_grows_with_the_data_within_bounds(prepared):
    assert images_wanted(prepared.seen) == 2000
