"""Which samples train, validate and test. Seeded, and written down with the run."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

import yaml

from pixelwise.data.sample import SPLITS, Sample, Split
from pixelwise.data.splits.groups import Unit, single_units
from pixelwise.data.splits.stratify import Presence, even_targets, stratify
from pixelwise.errors import DataError, InvalidArgumentError
from pixelwise.files import write_atomically

Splits = dict[Split, list[Sample]]

_OTHERWISE = "group otherwise with --group-by, or split single images with --set data.split_by=image"


def own_splits(samples: Sequence[Sample]) -> Splits:
    """The dataset's own splits; samples of a format without splits are all for training."""
    splits: Splits = {name: [] for name in SPLITS}
    for sample in sorted(samples):
        splits[sample.split or "train"].append(sample)
    return splits


def make_splits(
    samples: Sequence[Sample],
    val_fraction: float,
    seed: int,
    *,
    units: Sequence[Unit] | None = None,
    presence: Presence | None = None,
) -> tuple[Splits, str | None]:
    """The dataset's own splits; where it names no val split, a seeded share of train becomes one.

    `units` are what may not be torn apart of the training samples, by default single images;
    `presence` says which classes an image shows, so that both splits show them alike. Returns the
    splits and a note for the user when a split was made.
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
    units = single_units(train) if units is None else units
    _require_units(units, 2, "a split needs one to train on and one to validate on; name a val split")
    count = min(max(1, round(val_fraction * len(train))), len(train) - 1)
    kept, taken = stratify(units, presence or {}, (len(train) - count, count), seed)
    splits["train"], splits["val"] = _samples(kept), _samples(taken)
    groups = f" in {len(taken)} of {len(units)} groups" if len(units) < len(train) else ""
    note = (
        f"no val split: {len(splits['val'])} of the {len(train)} training images{groups}, drawn with seed {seed}, "
        f"validate instead of training."
    )
    return splits, note


def make_folds(
    samples: Sequence[Sample],
    num_folds: int,
    seed: int,
    *,
    units: Sequence[Unit] | None = None,
    presence: Presence | None = None,
) -> list[Splits]:
    """As many splits as folds: each sample of train and val validates in exactly one and trains in the others.

    Test samples are the same in all. `units` and `presence` are those of `make_splits`, of the
    training and validation samples together.
    """
    own = own_splits(samples)
    pool = sorted(own["train"] + own["val"])
    units = single_units(pool) if units is None else units
    require_folds(num_folds)
    _require_units(units, num_folds, f"{num_folds} folds need one each; make fewer folds")
    folds = stratify(units, presence or {}, even_targets(len(pool), num_folds), seed)
    return [
        {
            "train": _samples([unit for other in folds if other is not fold for unit in other]),
            "val": _samples(fold),
            "test": own["test"],
        }
        for fold in folds
    ]


def require_folds(num_folds: int) -> None:
    if num_folds < 2:
        raise InvalidArgumentError(f"--folds is {num_folds}, but must be at least 2; one fold would train on nothing.")


def _require_units(units: Sequence[Unit], count: int, needed: str) -> None:
    if len(units) >= count:
        return
    num_images = sum(len(unit.samples) for unit in units)
    names = ", ".join(repr(unit.name) for unit in units[:3])
    raise DataError(
        f"the {num_images} images make {len(units)} group(s) that may not be torn apart ({names}), but {needed}, "
        f"{_OTHERWISE}."
    )


def _samples(units: Sequence[Unit]) -> list[Sample]:
    return sorted(sample for unit in units for sample in unit.samples)


def crossing_note(splits: Splits, groups: Mapping[Sample, str]) -> str | None:
    """A note where a group lies in two splits, which the dataset's own splits may well do."""
    found = defaultdict(set)
    for split, samples in splits.items():
        for sample in samples:
            if sample in groups:
                found[groups[sample]].add(split)
    crossing = sorted(group for group, there in found.items() if len(there) > 1)
    if not crossing:
        return None
    shown = ", ".join(f"{group!r} ({', '.join(s for s in SPLITS if s in found[group])})" for group in crossing[:3])
    more = f" and {len(crossing) - 3} more" if len(crossing) > 3 else ""
    return (
        f"{len(crossing)} of {len(found)} groups lie in more than one of the dataset's own splits, so scores "
        f"come out too high: {shown}{more}."
    )


def write_splits(path: Path, splits: Splits, groups: Mapping[Sample, str] | None = None) -> None:
    """The lists of sample names, readable by people; the group of a sample stands beside it."""
    lines = []
    for split, samples in splits.items():
        if samples:
            lines.append(f"{split}:")
            lines += [_line(sample, (groups or {}).get(sample)) for sample in samples]
    write_atomically(path, "".join(f"{line}\n" for line in lines).encode())


def _line(sample: Sample, group: str | None) -> str:
    name = yaml.safe_dump([sample.name], allow_unicode=True, width=10**6).rstrip("\n")
    comment = "".join(c for c in " ".join((group or "").split()) if c.isprintable())
    return f"{name}  # {comment}" if comment else name


def read_splits(path: Path, samples: Sequence[Sample], *, revise: bool = False) -> Splits:
    """The inverse of `write_splits`. A name that the dataset no longer has is an error.

    With `revise` it is left out, and samples that are not listed train, where the dataset itself does not say
    otherwise: so none that was trained on comes to validate.
    """
    by_name = {sample.name: sample for sample in samples}
    splits: Splits = {name: [] for name in SPLITS}
    listed = yaml.safe_load(path.read_text(encoding="utf-8"))
    if not isinstance(listed, dict) or not set(listed) <= set(SPLITS):
        raise DataError(f"{path} must list samples under {', '.join(SPLITS)}; restore or remove it.")
    for split, names in listed.items():
        for name in names:
            if name in by_name:
                splits[split].append(by_name.pop(name))
            elif not revise:
                raise DataError(
                    f"{path} lists {name!r}, which the dataset does not hold any more; "
                    f"put the pair back, or start a new run."
                )
    for sample in by_name.values() if revise else ():
        splits[sample.split or "train"].append(sample)
    return {split: sorted(kept) for split, kept in splits.items()} if revise else splits
