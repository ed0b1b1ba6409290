import dataclasses

import pytest
import torch

from pixelwise.config import Config
from pixelwise.errors import InvalidArgumentError
from pixelwise.planning.candidates import CANDIDATES
from pixelwise.planning.memory_estimate import MEMORY_FRACTION, MemoryBudget, estimate_memory
from pixelwise.planning.planner import fit_samples
from pixelwise.planning.prepare_data import prepare_data

CPU = torch.device("cpu")
START = {"data.crop_size": [256, 256], "training.batch_size": 8, "training.steps": 5}


@pytest.fixture(scope="module")
def seen(streets):
    return prepare_data(streets, Config()).fingerprint


def start_config(**changes):
    return Config().replace({**START, **changes})


def room_for(seen, config):
    """Exactly enough for the smallest candidate with this config."""
    none = MemoryBudget(resident=0, total=None)
    peak = estimate_memory(CANDIDATES[0].apply_to(Config().replace(config), set()), seen, CPU, none).peak
    return MemoryBudget(resident=0, total=int(peak / MEMORY_FRACTION) + 1)


def fit(seen, room, fixed=(), config=None):
    """Batch size, crop and reasons."""
    config = config or start_config()
    choices = fit_samples(config, set(fixed), CANDIDATES[0], seen, CPU, room)
    config = config.replace({key: value for key, (value, _) in choices.items()})
    reasons = {key: reason for key, (_, reason) in choices.items()}
    return (config.training.batch_size, config.data.crop_size), reasons


def test_with_enough_memory_nothing_changes(seen):
    assert fit(seen, MemoryBudget(resident=0, total=None)) == ((8, (256, 256)), {})


def test_little_memory_gives_smaller_batches_and_says_so(seen):
    samples, reasons = fit(seen, room_for(seen, {**START, "training.batch_size": 2}))
    assert samples == (2, (256, 256))
    assert "do not fit into" in reasons["training.batch_size"]


def test_then_smaller_crops(seen):
    small = {**START, "training.batch_size": 1, "data.crop_size": [128, 128]}
    samples, reasons = fit(seen, room_for(seen, small))
    assert samples == (1, (128, 128))
    assert "do not fit into" in reasons["data.crop_size"]


def test_keys_that_the_user_set_stay(seen):
    samples, _ = fit(seen, room_for(seen, {**START, "data.crop_size": [64, 64]}), fixed=["training.batch_size"])
    assert samples == (8, (64, 64))


def test_less_memory_never_gives_larger_samples(seen):
    pixels = []
    for total in (2**28 + 2**26, 2**28 + 2**27, 2**29, 2**30, 2**31):
        (batch, (height, width)), _ = fit(seen, MemoryBudget(resident=0, total=total))
        pixels.append(batch * height * width)
    assert pixels == sorted(pixels)
    assert pixels[0] < pixels[-1]


def test_too_little_memory_is_an_error_with_advice(seen):
    with pytest.raises(
        InvalidArgumentError,
        match=r"would take .* GiB .* may use 0\.01 GiB, 75% of .* Free memory, set .*activation_checkpointing=true, or",
    ):
        fit(seen, MemoryBudget(resident=0, total=10 * 2**20))
    config = start_config(**{"training.activation_checkpointing": True})
    with pytest.raises(InvalidArgumentError, match="Free memory, or set smaller values"):
        fit(seen, MemoryBudget(resident=0, total=10 * 2**20), config=config)
    with pytest.raises(InvalidArgumentError, match=r"set smaller values of training\.batch_size, data\.crop"):
        fit(seen, room_for(seen, {**START, "training.batch_size": 4}), fixed=START)


def test_images_too_large_to_predict_are_named(seen):
    large = dataclasses.replace(seen, largest_val_size=(20000, 30000))
    with pytest.raises(InvalidArgumentError, match="Cut the images into smaller ones: predicting one of 20000x30000"):
        fit(large, MemoryBudget(resident=0, total=2**32))
