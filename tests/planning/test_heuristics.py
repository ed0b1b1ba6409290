import dataclasses

import pytest

from pixelwise.config import Config
from pixelwise.planning.fingerprint import ComponentStats
from pixelwise.planning.heuristics import (
    RARE_POWER,
    choose_augmentation,
    choose_cache,
    choose_fine_tuning_loss,
    choose_loss,
    choose_rare_classes,
    choose_samples,
    compute_crop,
    describe_details,
    describe_lengths,
)
from pixelwise.planning.memory_estimate import MemoryBudget
from pixelwise.planning.prepare_data import prepare_data

LONG = ComponentStats(count=3, areas=(12, 5000, 90000), side=900, thickness=30.0)
SHORT = ComponentStats(count=9, areas=(7, 40, 200), side=20, thickness=3.0)


@pytest.fixture(scope="module")
def seen(streets):
    return prepare_data(streets, Config()).fingerprint


@pytest.mark.parametrize(
    ("size", "crop"),
    [
        ((360, 480), (384, 480)),  # small: the whole image, rounded up
        ((64, 96), (64, 96)),
        ((1, 1), (32, 32)),
        ((1024, 1024), (512, 512)),  # large: A window of a quarter megapixel
        ((1000, 4000), (256, 1024)),  # of the same shape
    ],
)
def test_crop_is_the_image_or_its_largest_window(size, crop):
    assert compute_crop(size) == crop


def test_the_reason_of_the_crop_mentions_small_and_long_objects(seen):
    choices = choose_samples(dataclasses.replace(seen, median_size=(1024, 1024), components=(LONG, SHORT, None)))
    reason = choices["data.crop_size"][1]
    assert "the largest crop of 1024x1024" in reason
    assert "not scaled, because the smallest objects have 7 pixels" in reason
    assert "the objects of 1 of 2 classes are mostly longer" in reason

    choices = choose_samples(dataclasses.replace(seen, components=(None,)))
    assert choices["data.crop_size"][1] == "whole images of 64x96"
    assert choices["training.batch_size"] == (8, "12 training images")


def test_all_images_are_cached_as_far_as_memory_goes(seen):
    large = dataclasses.replace(seen, pair_bytes=10 * 2**30)
    cache, reason = choose_cache(large, MemoryBudget(resident=0, total=None))["data.cache_gib"]
    assert cache == 10
    assert "10.00 GiB" in reason
    cache, reason = choose_cache(large, MemoryBudget(resident=0, total=8 * 2**30))["data.cache_gib"]
    assert cache == 1.5  # a quarter of three quarters
    assert "a quarter of 6.00 GiB" in reason
    cache, _ = choose_cache(seen, MemoryBudget(resident=0, total=8 * 2**30))["data.cache_gib"]
    assert cache * 2**30 >= seen.pair_bytes


@pytest.mark.parametrize(("pixels", "weighted"), [((9_990, 9), True), ((9_980, 20), False), ((10_000, 0), False)])
def test_only_a_class_below_a_thousandth_is_weighted(seen, pixels, weighted):
    choices = choose_loss(dataclasses.replace(seen, class_pixels=pixels))
    value, reason = choices["loss.class_weights"]
    assert value == ("median_frequency" if weighted else "none")
    assert ("loss.class_weight_power" in choices) == weighted
    assert choices.get("loss.class_weight_power", (RARE_POWER, ""))[0] == RARE_POWER
    assert "the rarest class has" in reason
    assert ("below 0.001" in reason) == weighted


@pytest.mark.parametrize(("pixels", "fraction"), [((96, 4, 0), 0.33), ((90, 5, 5), 0.0), ((100, 0, 0), 0.0)])
def test_samples_are_drawn_for_a_class_below_a_twentieth(seen, pixels, fraction):
    choices = choose_rare_classes(dataclasses.replace(seen, class_pixels=pixels))
    assert choices["data.rare_class_fraction"][0] == fraction


def test_cells_are_rotated_and_streets_are_not(seen, cells):
    upright = choose_augmentation(seen)
    free = choose_augmentation(prepare_data(cells, Config()).fingerprint)
    assert {key: value for key, (value, _) in upright.items()} == {"augmentation.rotate": 5.0}
    assert {key: value for key, (value, _) in free.items()} == {
        "augmentation.flip_vertical": 0.5,
        "augmentation.rotate": 180.0,
    }


def test_regions_in_words(seen):
    assert describe_lengths((LONG, None, SHORT)) == "objects are 20 to 900 pixels long"
    assert describe_lengths((None,)) == "no objects were sampled"
    fine = dataclasses.replace(seen, components=(LONG, None, SHORT), border_share=0.124)
    assert describe_details(fine) == "the thinnest class is 3 pixels thick, 12% of the pixels are on borders"


@pytest.mark.parametrize(("pixels", "weighted"), [((900, 100), False), ((991, 9), True), ((999, 1, 0), True)])
def test_fine_tuning_weights_rare_classes(seen, pixels, weighted):
    choices = choose_fine_tuning_loss(dataclasses.replace(seen, class_pixels=pixels))
    assert bool(choices) == weighted
    if weighted:
        assert choices["loss.class_weights"][0] == "median_frequency"
        assert choices["loss.class_weight_power"][0] == 0.5
