"""A dataset of several folders: their samples together, with classes matched by name."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from itertools import chain, pairwise, permutations
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from pixelwise.data.class_names import find_similar_names, format_key, list_names, order_classes
from pixelwise.data.classes import Classes, ignore_index_for
from pixelwise.data.colors import Color, choose_colors
from pixelwise.data.dataset import Dataset
from pixelwise.data.formats.dataset_index import DatasetIndex, IndexFault, SampleReader, prefix_split
from pixelwise.data.io.images import Array, DecodedImage
from pixelwise.data.sample import Sample
from pixelwise.errors import DataError, InvalidArgumentError

T = TypeVar("T")
StrPath = str | os.PathLike[str]


def load_datasets(paths: StrPath | Sequence[StrPath], format: str | None = None, masks: str | None = None) -> Dataset:
    """Load the dataset in a folder, or join those of several folders; see `Dataset.load`.

    Raises:
        InvalidArgumentError: No folder is given, or a folder is in another one.
        DataError: The folders cannot be joined.
    """
    folders = [paths] if isinstance(paths, str | os.PathLike) else list(paths)
    if not folders:
        raise InvalidArgumentError("No dataset is given. Expected at least one folder.")
    if len(folders) == 1:
        return Dataset.load(folders[0], format, masks)
    return join_datasets(
        [Dataset.load(folder, format, masks) for folder in _require_separate(list(map(Path, folders)))]
    )


def _require_separate(folders: Sequence[Path]) -> list[Path]:
    """Return folders whose paths have a common start; raise InvalidArgumentError if one is in another."""
    for one, other in permutations(folders, 2):
        if one.resolve().is_relative_to(other.resolve()):
            raise InvalidArgumentError(f"{one} is in {other}, so its images would count twice. Give one of them.")
    is_mixed = any(folder.is_absolute() or ".." in folder.parts for folder in folders)
    return [Path(os.path.abspath(folder)) if is_mixed else folder for folder in folders]


def join_datasets(datasets: Sequence[Dataset]) -> Dataset:
    """Join datasets of several folders. Their samples are named after the folders; classes are matched by name."""
    root = Path(os.path.commonpath([dataset.root for dataset in datasets]))
    channels = _require_equal("channels", {d.root: d.channels for d in datasets if d.channels})
    nodata = _require_equal("nodata", {d.root: d.nodata for d in datasets})
    channel_files = _require_equal("files per channel", {d.root: d.index.channel_files for d in datasets})
    classes, is_raw, faults = _join_classes(datasets)

    others: dict[str, Any] = {
        item.name: tuple(chain.from_iterable(getattr(dataset.index, item.name) for dataset in datasets))
        for item in fields(DatasetIndex)
        if item.name not in ("samples", "faults") and isinstance(getattr(datasets[0].index, item.name), tuple)
    }
    index = DatasetIndex(
        samples=tuple(sorted(_name_in_folder(s, d.root.relative_to(root)) for d in datasets for s in d.samples)),
        faults=(*chain.from_iterable(dataset.index.faults for dataset in datasets), *faults),
        reader=_JoinedReader(datasets, None if is_raw else classes),
        pairing_hint=" ".join(filter(None, (dataset.index.pairing_hint for dataset in datasets))),
        channel_files=bool(channel_files),
        **others,
    )
    return Dataset(
        root=root,
        format=" + ".join(dict.fromkeys(dataset.format for dataset in datasets)),
        index=index,
        declared_classes=classes,
        resolved_classes=classes,
        channels=channels,
        nodata=nodata,
        mapped_values=frozenset().union(*(dataset.mapped_values for dataset in datasets)) if is_raw else frozenset(),
        joined_folders=tuple(dataset.root for dataset in datasets),
        reading_options=datasets[0].reading_options,
    )


def name_as_part(dataset: Dataset) -> Dataset:
    """Return a dataset with the names that it has as one of several folders next to each other."""
    samples = sorted(_name_in_folder(sample, Path(dataset.root.name)) for sample in dataset.samples)
    return replace(dataset.with_samples(samples), root=dataset.root.parent, joined_folders=dataset.folders)


def _name_in_folder(sample: Sample, folder: Path) -> Sample:
    name = f"{folder.as_posix()}/{sample.name.removeprefix(f'{sample.split}/')}"
    return replace(sample, name=prefix_split(sample.split, name))


def _require_equal(what: str, values: Mapping[Path, T]) -> T | None:
    """Return the value of all folders; raise DataError if they differ."""
    for one, other in pairwise(values):
        if values[one] != values[other]:
            raise DataError(
                f"The folders have different {what}: {one} has {values[one]}, {other} has {values[other]}. Convert one "
                f"of them, or use one at a time."
            )
    return next(iter(values.values()), None)


def _join_classes(datasets: Sequence[Dataset]) -> tuple[Classes | None, bool, list[IndexFault]]:
    """Match classes by name.

    Returns:
        The classes of all folders in the order in which they first occur, or None if no folder has names; whether
        equal mask values mean equal classes; and the differences.
    """
    named = {dataset.root: dataset.declared_classes for dataset in datasets if dataset.declared_classes}
    if not named:
        return None, True, []
    for dataset in datasets:
        if dataset.root not in named:
            raise DataError(
                f"{dataset.root} has no names of classes, but {next(iter(named))} has. Write the names and mask values "
                f"into {dataset.root / 'dataset.yaml'}, so that classes can be matched by name."
            )
    colors: dict[str, Color] = {}
    for classes in named.values():
        for name, color in zip(classes.names, classes.colors, strict=True):
            if name not in colors and color not in colors.values():  # folders without colors share the default ones
                colors[name] = color
    names = list(dict.fromkeys(name for classes in named.values() for name in classes.names))
    for group in find_similar_names(names):
        holders = {name: next(folder for folder, classes in named.items() if name in classes.names) for name in group}
        shown = " and ".join(f"{name!r} in {folder}" for name, folder in holders.items())
        folder, line = holders[group[1]], format_key("rename", {group[1]: group[0]})
        raise DataError(
            f"Names of classes differ only in case, blanks or the encoding of accents: {shown}. If they mean the same, "
            f"write this into {folder / 'dataset.yaml'}:\n{line}"
        )
    first = next(iter(named.values()))
    ordered = [order_classes(classes, first.names) for classes in named.values() if {*classes.names} == {*first.names}]
    if len(ordered) == len(named) and all(replace(classes, colors=first.colors) == first for classes in ordered):
        return first, True, []
    faults = [
        IndexFault(
            code="classes_differ",
            files=(folder,),
            noun="folder",
            problem=f"without the classes {list_names([n for n in names if n not in classes.names])} of the others",
            fix="If its images show these classes, label them there. Otherwise nothing needs to be done.",
        )
        for folder, classes in named.items()
        if {*classes.names} != {*names}
    ]
    ignore_index = ignore_index_for(len(names))
    joined = Classes(
        names=tuple(names),
        colors=choose_colors(names, colors),
        label_mapping={index: index for index in range(len(names))},
        ignore=(ignore_index,),
    )
    return joined, False, faults


class _JoinedReader(SampleReader):
    """Reads the samples of several datasets; where their mask values differ, masks contain class indices."""

    def __init__(self, datasets: Sequence[Dataset], classes: Classes | None) -> None:
        self._datasets = {sample.image_path: dataset for dataset in datasets for sample in dataset.samples}
        self._classes = classes

    def decode_image(self, sample: Sample) -> DecodedImage:
        return self._datasets[sample.image_path].decode_image(sample)

    def read_mask(self, sample: Sample) -> Array:
        dataset = self._datasets[sample.image_path]
        if self._classes is None:
            return dataset.index.reader.read_mask(sample)
        labels = dataset.read_labels(sample)
        table = np.full(dataset.classes.ignore_index + 1, self._classes.ignore_index, self._classes.dtype)
        table[: len(dataset.classes.names)] = [self._classes.names.index(name) for name in dataset.classes.names]
        return table[labels]

    def find_flips(self, sample: Sample) -> tuple[int, ...]:
        """Return no axes for class indices, which are labels of the image as it is."""
        reader = self._datasets[sample.image_path].index.reader
        return reader.find_flips(sample) if self._classes is None else ()

    def read_image_bytes(self, sample: Sample) -> bytes:
        return self._datasets[sample.image_path].index.reader.read_image_bytes(sample)
