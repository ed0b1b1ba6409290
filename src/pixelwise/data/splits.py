"""Which samples train, validate and test. Seeded, and written down with the run."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import yaml

from pixelwise.data.images import write_atomically
from pixelwise.data.sample import SPLITS, Sample, Split
from pixelwise.errors import DataError

Splits = dict[Split, list[Sample]]


def own_splits(samples: Sequence[Sample]) -> Splits:
    """The data set's own splits; samples of a layout without splits are all for training."""
    splits: Splits = {name: [] for name in SPLITS}
    for sample in sorted(samples):
        splits[sample.split or "train"].append(sample)
    return splits


def make_splits(samples: Sequence[Sample], val_fraction: float, seed: int) -> tuple[Splits, str | None]:
    """The data set's own splits; where it names no val split, a seeded share of train becomes one.

    Returns the splits and a note for the user when a split was made.
    """
    splits = own_splits(samples)
    train = splits["train"]
    if splits["val"] and train:
        return splits, None
    if len(train) < 2:
        raise DataError(
            f"{len(train)} training pair(s) and {len(splits['val'])} of a val split, but at least "
            f"one to train on and one to validate on are needed; add some."
        )
    count = min(max(1, round(val_fraction * len(train))), len(train) - 1)
    chosen = set(np.random.default_rng(seed).permutation(len(train))[:count].tolist())
    splits["val"] = [s for i, s in enumerate(train) if i in chosen]
    splits["train"] = [s for i, s in enumerate(train) if i not in chosen]
    note = (
        f"no val split: {count} of the {len(train)} training images, drawn with seed {seed}, "
        f"validate instead of training."
    )
    return splits, note


def write_splits(path: Path, splits: Splits) -> None:
    """The lists of sample names, readable by people."""
    names = {split: [s.name for s in samples] for split, samples in splits.items() if samples}
    write_atomically(path, yaml.safe_dump(names, sort_keys=False).encode())


def read_splits(path: Path, samples: Sequence[Sample]) -> Splits:
    """The inverse of `write_splits`. A name that the data set no longer has is an error."""
    by_name = {sample.name: sample for sample in samples}
    splits: Splits = {name: [] for name in SPLITS}
    listed = yaml.safe_load(path.read_text(encoding="utf-8"))
    if not isinstance(listed, dict) or not set(listed) <= set(SPLITS):
        raise DataError(f"{path} must list samples under {', '.join(SPLITS)}; restore or remove it.")
    for split, names in listed.items():
        for name in names:
            if name not in by_name:
                raise DataError(
                    f"{path} lists {name!r}, which the data set does not hold any more; "
                    f"put the pair back, or start a new run."
                )
            splits[split].append(by_name[name])
    return splits
