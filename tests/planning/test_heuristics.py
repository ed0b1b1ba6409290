import dataclasses

import pytest

from pixelwise.config import Config
from pixelwise.planning.fingerprint import Objects
from pixelwise.planning.heuristics import (
    RARE_POWER,
    choose_augmentation,
    choose_cache,
    choose_loss,
    choose_samples,
    crop_for,
    describe_details,
    describe_lengths,
)
from pixelwise.planning.memory_estimate import Room
from pixelwise.planning.plan import Draft
from pixelwise.planning.prepare_data import prepare

LONG = Objects(count=3, areas=(12, 5000, 90000), side=900, thickness=30.0)
SHORT = Objects(count=9, areas=(7, 40, 200), side=20, thickness=3.0)


@pytest.fixture(scope="module")
def seen(streets):
    return prepare(streets, Config()).seen


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


def test_the_reason_of_the_crop_tells_of_small_and_of_long_regions(seen):
    draft = Draft({})
    choose_samples(draft, dataclasses.replace(seen, median_size=(1024, 1024), objects=(LONG, SHORT, None)))
    reason = draft.reasons["data.crop_size"]
    assert "the largest crop of 1024x1024" in reason
    assert "not scaled: there are regions of 7 pixels" in reason
    assert "1 of 2 classes are mostly in regions longer than that" in reason

    draft = Draft({})
    choose_samples(draft, dataclasses.replace(seen, objects=(None,)))
    assert draft.reasons["data.crop_size"] == "whole images of 64x96"
    assert "12 training images" in draft.reasons["training.batch_size"]


def test_all_images_are_cached_as_far_as_memory_goes(seen):
    draft, large = Draft({}), dataclasses.replace(seen, pair_bytes=10 * 2**30)
    choose_cache(draft, large, Room(resident=0, total=None))
    assert draft.config.data.cache_gib == 10
    assert "10.00 GiB" in draft.reasons["data.cache_gib"]
    choose_cache(draft, large, Room(resident=0, total=8 * 2**30))
    assert draft.config.data.cache_gib == 1.5  # a quarter of three quarters
    assert "a quarter of 6.00 GiB" in draft.reasons["data.cache_gib"]
    choose_cache(draft, seen, Room(resident=0, total=8 * 2**30))
    assert draft.config.data.cache_gib * 2**30 >= seen.pair_bytes


@pytest.mark.parametrize(("pixels", "weighted"), [((9_990, 9), True), ((9_980, 20), False), ((10_000, 0), False)])
def test_only_a_class_below_a_thousandth_is_weighted(seen, pixels, weighted):
    draft = Draft({})
    choose_loss(draft, dataclasses.replace(seen, class_pixels=pixels))
    loss = draft.config.loss
    assert loss.class_weights == ("median_frequency" if weighted else "none")
    assert (loss.class_weight_power == RARE_POWER) == weighted
    assert "the rarest class has" in draft.reasons["loss.class_weights"]
    assert ("below 0.001" in draft.reasons["loss.class_weights"]) == weighted


def test_cells_may_lie_any_way_up_and_streets_may_not(seen, cells):
    upright, free = Draft({}), Draft({})
    choose_augmentation(upright, seen)
    choose_augmentation(free, prepare(cells, Config()).seen)
    assert (upright.config.augmentation.flip_vertical, upright.config.augmentation.rotate) == (0.0, 5.0)
    assert (free.config.augmentation.flip_vertical, free.config.augmentation.rotate) == (0.5, 180.0)


def test_regions_in_words(seen):
    assert describe_lengths((LONG, None, SHORT)) == "the classes' regions are 20 to 900 pixels long"
    assert describe_lengths((None,)) == "no regions were seen"
    fine = dataclasses.replace(seen, objects=(LONG, None, SHORT), border_share=0.124)
    assert describe_details(fine) == "the thinnest class is 3 pixels thick, 12% of the pixels are on borders"
