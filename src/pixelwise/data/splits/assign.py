"""From a surveyed dataset and a config to its splits or folds, with what is to be said about them."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from pixelwise.config import DataConfig
from pixelwise.data.sample import Sample
from pixelwise.data.scan import Survey
from pixelwise.data.splits.groups import Units, find_units
from pixelwise.data.splits.splits import Splits, crossing_note, make_folds, make_splits, own_splits
from pixelwise.data.splits.stratify import Presence
from pixelwise.data.splits.user_groups import find_groups


@dataclass(frozen=True, slots=True, kw_only=True)
class Division:
    """Splits, and why these."""

    splits: Splits
    groups: Mapping[Sample, str] = field(default_factory=dict)
    """What a sample was kept together with, where it was."""
    notes: tuple[str, ...] = ()
    """What was made, for the user."""
    crossing: str | None = None
    """A warning where a group of the user's lies in two of the dataset's own splits."""


def divide(surveyed: Survey, config: DataConfig, seed: int) -> Division:
    """The dataset's own splits, or a val split made of its training images: `make_splits`, with all it asks.

    The survey must have read the training images. Test images are not looked at, but for their names.
    """
    samples = surveyed.dataset.samples
    own = own_splits(samples)
    train = own["train"] if not own["val"] else []
    units = find_units(surveyed, train, config)
    presence = presence_in(surveyed, train)
    splits, note = make_splits(samples, config.val_fraction, seed, units=units.units, presence=presence)
    return _division(surveyed, config, splits, units, note)


def divide_in_folds(surveyed: Survey, config: DataConfig, num_folds: int, seed: int) -> list[Division]:
    """One division a fold: `make_folds` of the training and validation images, with all it asks."""
    samples = surveyed.dataset.samples
    own = own_splits(samples)
    pool = own["train"] + own["val"]
    units = find_units(surveyed, pool, config, num_folds)
    presence = presence_in(surveyed, pool)
    folds = make_folds(samples, num_folds, seed, units=units.units, presence=presence)
    note = _folds_note(own, len(units.units), num_folds, seed)
    return [_division(surveyed, config, splits, units, note) for splits in folds]


def presence_in(surveyed: Survey, samples: list[Sample]) -> Presence:
    """The classes that each image shows."""
    shown = surveyed.class_pixels(samples) > 0
    return {s: frozenset(row.nonzero()[0].tolist()) for s, row in zip(samples, shown, strict=True)}


def _folds_note(own: Splits, num_units: int, num_folds: int, seed: int) -> str:
    num_images = len(own["train"]) + len(own["val"])
    groups = f" in {num_units} groups" if num_units < num_images else ""
    pooled = f" (train and val split together: {len(own['train'])} + {len(own['val'])})" if own["val"] else ""
    test = f"; the {len(own['test'])} test images stay aside" if own["test"] else ""
    return (
        f"{num_folds} folds of {num_images} images{groups}{pooled}, drawn with seed {seed}: each validates in one "
        f"fold and trains in the others{test}."
    )


def _division(surveyed: Survey, config: DataConfig, splits: Splits, units: Units, note: str | None) -> Division:
    groups: dict[Sample, str] = {}
    if config.group_by is not None:
        groups = find_groups(surveyed.dataset.samples, config.group_by, surveyed.dataset.root)
    return Division(
        splits=splits,
        groups={**groups, **units.names},
        notes=(note, *units.notes) if note else (),
        crossing=crossing_note(splits, groups),
    )
