"""What is decided by looking at the data alone: samples, loss, augmentation, optimizer."""

import math

from pixelwise.planning.fingerprint import Fingerprint, Objects
from pixelwise.planning.memory_estimate import CACHE_SHARE, GIB, Room, gib
from pixelwise.planning.plan import Draft
from pixelwise.shapes import Size, round_up

MAX_CROP_PIXELS = 512 * 512
"""Pixels of a training sample at most; larger images are seen through random crops."""

RARE_SHARE = 0.001
"""Of the training pixels. A class below it is weighted; above, weights cost more than they give
(benchmarks/LOG.md)."""

RARE_POWER = 0.25
"""Of the median-frequency weights, the power that was measured there."""

LEARNING_RATES = {"muon": 0.02, "adamw": 2e-3, "sgd": 0.05}


def choose_samples(draft: Draft, seen: Fingerprint) -> None:
    """Crop and batch. Images are never scaled down: a plan that did so would lose the smallest objects."""
    crop = crop_for(seen.median_size)
    draft.put("data.crop_size", crop, _reason_of_crop(crop, seen))
    draft.put("training.batch_size", min(8, max(1, seen.num_train)), f"{seen.num_train} training images")


def crop_for(size: Size, multiple: int = 32) -> Size:
    """The whole image where it is small, else its largest window of the same shape, in multiples."""
    height, width = size
    shrink = min(1.0, (MAX_CROP_PIXELS / (height * width)) ** 0.5)
    return round_up(int(height * shrink), multiple), round_up(int(width * shrink), multiple)


def _reason_of_crop(crop: Size, seen: Fingerprint) -> str:
    shown = f"{seen.median_size[0]}x{seen.median_size[1]}"
    known = [one for one in seen.objects if one]
    small = min((one.areas[0] for one in known), default=0)
    kept = f"; not scaled: there are regions of {small} pixels" if known else ""
    if crop[0] >= seen.median_size[0] and crop[1] >= seen.median_size[1]:
        return f"whole images of {shown}{kept}"
    large = [one for one in known if one.side > max(crop)]
    cut = f"; {len(large)} of {len(known)} classes are mostly in regions longer than that" if large else ""
    return f"the largest crop of {shown} that trains well{kept}{cut}"


def choose_cache(draft: Draft, seen: Fingerprint, room: Room) -> None:
    """All decoded images, as far as they fit into a share of the machine's memory."""
    size = min(float(seen.pair_bytes), CACHE_SHARE * room.allowed)
    whole = size == seen.pair_bytes
    reason = f"all training images decoded are {gib(seen.pair_bytes)}"
    if not whole:
        reason += f", and a plan gives them a quarter of {gib(room.allowed)}"
    rounded = math.ceil if whole else math.floor
    draft.put("data.cache_gib", rounded(size / GIB * 1000) / 1000, reason)


def choose_loss(draft: Draft, seen: Fingerprint) -> None:
    """Class weights only where a class is so rare that it would be forgotten."""
    occurring = [share for share in seen.class_shares if share > 0]
    rarest = min(occurring, default=1.0)
    if rarest < RARE_SHARE:
        reason = f"the rarest class has {rarest:.2g} of the pixels, below {RARE_SHARE:g}"
        draft.put("loss.class_weights", "median_frequency", reason)
        draft.put("loss.class_weight_power", RARE_POWER, "full weights cost the common classes too much")
    else:
        draft.put("loss.class_weights", "none", f"the rarest class has {rarest:.2g} of the pixels")


def choose_augmentation(draft: Draft, seen: Fingerprint) -> None:
    if seen.upright:
        draft.put("augmentation.rotate", 5.0, "top and bottom differ: the images are upright")
    else:
        draft.put("augmentation.flip_vertical", 0.5, "top and bottom are alike: any way up")
        draft.put("augmentation.rotate", 180.0, "top and bottom are alike: any way up")


def choose_optimizer(draft: Draft) -> None:
    draft.put("optimizer.name", "muon", "halves the loss of AdamW in the same time")
    name = draft.config.optimizer.name
    draft.put("optimizer.lr", LEARNING_RATES[name], f"the peak that suits {name}")


def describe_lengths(objects: tuple[Objects | None, ...]) -> str:
    """How long the classes' regions are, in words."""
    sides = sorted(one.side for one in objects if one)
    return f"the classes' regions are {sides[0]} to {sides[-1]} pixels long" if sides else "no regions were seen"


def describe_details(seen: Fingerprint) -> str:
    """How fine the labels are, in words."""
    thinnest = min((one.thickness for one in seen.objects if one), default=0.0)
    return f"the thinnest class is {thinnest:g} pixels thick, {seen.border_share:.0%} of the pixels are on borders"
