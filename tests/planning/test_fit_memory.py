import dataclasses

import pytest
import torch

from pixelwise.config import Config
from pixelwise.errors import InvalidArgumentError
from pixelwise.planning.candidates import CANDIDATES
from pixelwise.planning.fit_memory import fit_samples
from pixelwise.planning.memory_estimate import MEMORY_SHARE, Room, forecast_memory
from pixelwise.planning.plan import Draft
from pixelwise.planning.prepare_data import prepare

CPU = torch.device("cpu")
START = {"data.crop_size": [256, 256], "training.batch_size": 8, "training.steps": 5}


@pytest.fixture(scope="module")
def seen(streets):
    return prepare(streets, Config()).seen


def draft_with(decided=()):
    draft = Draft({key: START[key] for key in decided})
    for key, value in START.items():
        draft.put(key, value, "to start with")
    return draft


def room_for(seen, config):
    """Exactly enough for the smallest candidate with this config."""
    none = Room(resident=0, total=None)
    peak = forecast_memory(Draft(config).with_network(CANDIDATES[0]), seen, CPU, none).peak
    return Room(resident=0, total=int(peak / MEMORY_SHARE) + 1)


def fit(draft, seen, room):
    fit_samples(draft, CANDIDATES[0], seen, CPU, room)
    return draft.config.training.batch_size, draft.config.data.crop_size


def test_with_enough_memory_nothing_changes(seen):
    draft = draft_with()
    assert fit(draft, seen, Room(resident=0, total=None)) == (8, (256, 256))
    assert draft.reasons["training.batch_size"] == "to start with"


def test_little_memory_gives_smaller_batches_and_says_so(seen):
    draft = draft_with()
    assert fit(draft, seen, room_for(seen, {**START, "training.batch_size": 2})) == (2, (256, 256))
    assert "would not fit into" in draft.reasons["training.batch_size"]


def test_then_smaller_crops(seen):
    draft = draft_with()
    small = {**START, "training.batch_size": 1, "data.crop_size": [128, 128]}
    assert fit(draft, seen, room_for(seen, small)) == (1, (128, 128))
    assert "would not fit into" in draft.reasons["data.crop_size"]


def test_what_the_user_decided_stays(seen):
    draft = draft_with(["training.batch_size"])
    batch, crop = fit(draft, seen, room_for(seen, {**START, "data.crop_size": [64, 64]}))
    assert (batch, crop) == (8, (64, 64))


def test_less_memory_never_gives_larger_samples(seen):
    pixels = []
    for total in (2**28 + 2**26, 2**28 + 2**27, 2**29, 2**30, 2**31):
        batch, (height, width) = fit(draft_with(), seen, Room(resident=0, total=total))
        pixels.append(batch * height * width)
    assert pixels == sorted(pixels)
    assert pixels[0] < pixels[-1]


def test_too_little_for_anything_is_an_error_that_says_what_to_do(seen):
    with pytest.raises(
        InvalidArgumentError,
        match=r"would take .* GiB .* may take 0\.01 GiB, 75% of .* free some, set .*activation_checkpointing=true, or",
    ):
        fit(draft_with(), seen, Room(resident=0, total=10 * 2**20))
    draft = draft_with()
    draft.put("training.activation_checkpointing", True, "asked for")
    with pytest.raises(InvalidArgumentError, match="free some, or set smaller values"):
        fit(draft, seen, Room(resident=0, total=10 * 2**20))
    with pytest.raises(InvalidArgumentError, match=r"set smaller values of training\.batch_size, data\.crop"):
        fit(draft_with(START), seen, room_for(seen, {**START, "training.batch_size": 4}))


def test_images_too_large_to_predict_are_named(seen):
    large = dataclasses.replace(seen, largest_val_size=(20000, 30000))
    with pytest.raises(InvalidArgumentError, match="cut the images into smaller ones: predicting one of 20000x30000"):
        fit(draft_with(), large, Room(resident=0, total=2**32))
