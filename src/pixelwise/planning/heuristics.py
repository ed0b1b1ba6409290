"""Choices from the data only: sample size, cache, loss, augmentation and optimizer.

Each function returns `{"section.key": (value, reason)}`.
"""

import math
from typing import Any

from pixelwise.planning.fingerprint import ComponentStats, Fingerprint
from pixelwise.planning.memory_estimate import CACHE_FRACTION, GIB, MemoryBudget, format_gib
from pixelwise.shapes import Size, round_up

Choices = dict[str, tuple[Any, str]]
"""Config key → its value and the reason."""

MAX_CROP_PIXELS = 512 * 512
"""Largest number of pixels of a training sample; larger images are cropped at random."""

MIN_CROP_PIXELS = 128 * 128
"""Smallest number of pixels of a training sample of a larger image, however short the budget is."""

RARE_FRACTION = 0.001
"""Fraction of the training pixels below which a class is weighted; above it, weights cost more than they gain
(benchmarks/LOG.md)."""

RARE_POWER = 0.25
"""Exponent of the median-frequency weights, as measured there."""

FINE_TUNING_RARE_FRACTION = 0.01
"""`RARE_FRACTION` of a network with pretrained weights (benchmarks/LOG.md)."""

FINE_TUNING_RARE_POWER = 0.5
"""`RARE_POWER` of a network with pretrained weights."""

UNEVEN_FRACTION = 0.05
"""Samples are drawn for rare classes if the rarest class has less than this fraction of the training pixels."""

RARE_CLASS_FRACTION = 0.33
"""Fraction of the samples that are then drawn for rare classes (benchmarks/LOG.md)."""

LEARNING_RATES = {"muon": 0.02, "adamw": 2e-3, "sgd": 0.05}


def choose_samples(fingerprint: Fingerprint) -> Choices:
    """Choose crop and batch size. Images are never scaled down, which would lose the smallest objects."""
    crop = compute_crop(fingerprint.median_size)
    return {
        "data.crop_size": (crop, _explain_crop(crop, fingerprint)),
        "training.batch_size": (min(8, max(1, fingerprint.num_train)), f"{fingerprint.num_train} training images"),
    }


def compute_crop(size: Size, max_pixels: float = MAX_CROP_PIXELS, multiple: int = 32) -> Size:
    """Return the size of a small image, or of the largest crop with its aspect ratio, rounded up to `multiple`."""
    height, width = size
    shrink = min(1.0, (max_pixels / (height * width)) ** 0.5)
    return round_up(int(height * shrink), multiple), round_up(int(width * shrink), multiple)


def _explain_crop(crop: Size, fingerprint: Fingerprint) -> str:
    size = f"{fingerprint.median_size[0]}x{fingerprint.median_size[1]}"
    known = [stats for stats in fingerprint.components if stats]
    smallest = min((stats.areas[0] for stats in known), default=0)
    unscaled = f"; not scaled, because the smallest objects have {smallest} pixels" if known else ""
    if crop[0] >= fingerprint.median_size[0] and crop[1] >= fingerprint.median_size[1]:
        return f"whole images of {size}{unscaled}"
    large = [stats for stats in known if stats.side > max(crop)]
    cut = f"; the objects of {len(large)} of {len(known)} classes are mostly longer" if large else ""
    return f"the largest crop of {size} that trains well{unscaled}{cut}"


def choose_cache(fingerprint: Fingerprint, budget: MemoryBudget) -> Choices:
    """Cache all decoded images, or as many as fit into a fraction of the memory."""
    size = min(float(fingerprint.pair_bytes), CACHE_FRACTION * budget.allowed)
    fits = size == fingerprint.pair_bytes
    reason = f"all decoded training images take {format_gib(fingerprint.pair_bytes)}"
    if not fits:
        reason += f", more than a quarter of {format_gib(budget.allowed)}"
    round_to_int = math.ceil if fits else math.floor
    return {"data.cache_gib": (round_to_int(size / GIB * 1000) / 1000, reason)}


def choose_loss(fingerprint: Fingerprint) -> Choices:
    """Choose class weights only if a class is very rare."""
    rarest, reason = _find_rarest_class(fingerprint)
    if rarest >= RARE_FRACTION:
        return {"loss.class_weights": ("none", reason)}
    return {
        "loss.class_weights": ("median_frequency", f"{reason}, below {RARE_FRACTION:g}"),
        "loss.class_weight_power": (RARE_POWER, "full weights cost the common classes too much"),
    }


def choose_fine_tuning_loss(fingerprint: Fingerprint) -> Choices:
    """Choose class weights for an encoder with pretrained weights, which learns rare classes in few steps with them."""
    rarest, reason = _find_rarest_class(fingerprint)
    if rarest >= FINE_TUNING_RARE_FRACTION:
        return {}
    return {
        "loss.class_weights": ("median_frequency", f"{reason}, below {FINE_TUNING_RARE_FRACTION:g}"),
        "loss.class_weight_power": (FINE_TUNING_RARE_POWER, "pretrained features find rare classes with more weight"),
    }


def choose_rare_classes(fingerprint: Fingerprint) -> Choices:
    """Draw a third of the samples for rare classes if there are any; random crops rarely show them."""
    rarest, reason = _find_rarest_class(fingerprint)
    return {"data.rare_class_fraction": (RARE_CLASS_FRACTION if rarest < UNEVEN_FRACTION else 0.0, reason)}


def _find_rarest_class(fingerprint: Fingerprint) -> tuple[float, str]:
    """Return the fraction of the pixels of the rarest class that occurs, and that fact in words."""
    rarest = min((share for share in fingerprint.class_shares if share > 0), default=1.0)
    return rarest, f"the rarest class has {rarest:.2g} of the pixels"


def choose_augmentation(fingerprint: Fingerprint) -> Choices:
    """Choose flips and rotations by whether the images are upright."""
    if fingerprint.is_upright:
        return {"augmentation.rotate": (5.0, "upright images: top and bottom differ")}
    reason = "no preferred orientation: top and bottom are alike"
    return {"augmentation.flip_vertical": (0.5, reason), "augmentation.rotate": (180.0, reason)}


def describe_lengths(components: tuple[ComponentStats | None, ...]) -> str:
    """Describe the length of the objects."""
    sides = sorted(stats.side for stats in components if stats)
    return f"objects are {sides[0]} to {sides[-1]} pixels long" if sides else "no objects were sampled"


def describe_details(fingerprint: Fingerprint) -> str:
    """Describe the thinnest class and the borders."""
    thinnest = min((stats.thickness for stats in fingerprint.components if stats), default=0.0)
    return (
        f"the thinnest class is {thinnest:g} pixels thick, {fingerprint.border_share:.0%} of the pixels are on borders"
    )
