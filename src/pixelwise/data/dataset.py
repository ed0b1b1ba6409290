"""A dataset as opened: its pairs, its classes, and the two ways to read a pair."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from pixelwise.data.classes import Classes, Coding, describe_classes
from pixelwise.data.formats import FORMATS, detect_format
from pixelwise.data.formats.dataset_index import DatasetIndex
from pixelwise.data.io.images import IMAGE_EXTENSIONS, Array, DecodedImage
from pixelwise.data.sample import Sample, entry_of
from pixelwise.errors import DataError
from pixelwise.files import READ_ERRORS

_KEYS = ("names", "colors", "ignore", "label_mapping", "coding", "channels")


@dataclass(frozen=True, slots=True, kw_only=True)
class Dataset:
    """Pairs found under `root`; nothing is read before it is asked for."""

    root: Path
    format: str
    """A name of `formats.FORMATS`."""
    index: DatasetIndex
    classes: Classes | None
    """None until a survey has seen which mask values occur, where dataset.yaml names no classes."""
    channels: int | None
    """Channels of every image as the network gets it; None until known."""

    @property
    def samples(self) -> tuple[Sample, ...]:
        return self.index.samples

    def relative(self, path: Path) -> str:
        """A file as findings name it: below `root`; one that lies elsewhere by its whole path."""
        return (path.relative_to(self.root) if path.is_relative_to(self.root) else path).as_posix()

    def image_file(self, sample: Sample) -> str:
        """The file of a sample's image as findings name it, and its member where the file holds several."""
        return entry_of(self.relative(sample.image_path), sample.image_entry)

    def label_file(self, sample: Sample) -> str:
        """The same of its labels."""
        return entry_of(self.relative(sample.label_path), sample.label_entry)

    def samples_by_file(self) -> dict[str, Sample]:
        """File, as findings name it, → its sample, of the files that belong to one sample alone.

        An index of all masks belongs to many, so it is not among them.
        """
        owners: dict[str, set[Sample]] = {}
        for sample in self.samples:
            for file in {self.image_file(sample), self.label_file(sample)}:
                owners.setdefault(file, set()).add(sample)
        return {file: next(iter(samples)) for file, samples in owners.items() if len(samples) == 1}

    def decode_image(self, sample: Sample) -> DecodedImage:
        """The image as stored."""
        return self.index.reader.decode_image(sample)

    def read_mask(self, sample: Sample) -> Array:
        """(H, W) uint8 or uint16 mask values, or (H, W, 3) uint8 colors."""
        return self.index.reader.read_mask(sample)

    def read_image(self, sample: Sample) -> Array:
        """(H, W, C) uint8, uint16 or float32 with C = `channels`; missing data is filled."""
        return self._read_filled(sample)[0]

    def _read_filled(self, sample: Sample) -> tuple[Array, Array | None]:
        """The image, and which values of the file were missing, (H, W, C) bool or None."""
        decoded = self.decode_image(sample)
        try:
            image, missing = decoded.fill_missing(self.channels)
        except DataError as error:
            raise DataError(f"{sample.image_place}: {error}") from error
        return to_channels(image, self.channels, sample.image_place), missing

    def read_labels(self, sample: Sample) -> Array:
        """(H, W) class indices or `classes.ignore_index`. An unlisted mask value is an error."""
        if self.classes is None:
            raise DataError(f"the classes of {self.root} are not known; survey the dataset first.")
        mask = self.read_mask(sample)
        try:
            labels, unlisted = self.classes.to_labels(mask)
        except DataError as error:
            raise DataError(f"{sample.label_place}: {error}") from error
        if unlisted:
            raise DataError(f"{sample.label_place}: {unlisted_message(unlisted, self.classes)}")
        return labels

    def read_pair(self, sample: Sample) -> tuple[Array, Array]:
        """Image and labels of one size; a mismatch is an error that names both.

        Pixels where the image holds no data in any channel are ignored in the labels.
        """
        image, missing = self._read_filled(sample)
        labels = self.read_labels(sample)
        if image.shape[:2] != labels.shape:
            raise DataError(
                f"{sample.label_place} is {labels.shape[0]}x{labels.shape[1]}, but its image "
                f"{sample.image_place} is {image.shape[0]}x{image.shape[1]} (height x width); "
                f"save both at one size."
            )
        if missing is not None and self.classes is not None:
            labels[missing.all(2)] = self.classes.ignore_index
        return image, labels

    def with_classes(self, classes: Classes, channels: int) -> "Dataset":
        return replace(self, classes=classes, channels=channels)


def open_dataset(root: str | Path, format: str | None = None) -> Dataset:
    """Finds the pairs and reads `dataset.yaml`. DataError where there is nothing to work on.

    `format` is a name of `FORMATS`; None: the one that the files look like.
    """
    root = Path(root)
    format = detect_format(root, format)
    index = FORMATS[format].find_pairs(root)
    description = _joined(index.description, _read_description(root))
    if not (index.samples or index.images_without_mask or index.same_stem):
        cure = "put them into images/ and the masks of the same stem into masks/"
        if format != "folder":
            cure = f"lay them out as docs/data.md shows for {format!r}, or name another --format"
        raise DataError(f"{root} holds no images ({', '.join(IMAGE_EXTENSIONS)}); {cure}.")
    return Dataset(
        root=root,
        format=format,
        index=index,
        classes=_described_classes(root, description, index),
        channels=_described_channels(root, description),
    )


def to_channels(image: Array, channels: int | None, where: object) -> Array:
    """Gray is repeated for a model of 3 channels; any other mismatch is an error."""
    found = image.shape[2]
    if channels is None or found == channels:
        return image
    if found == 1 and channels == 3:
        return np.repeat(image, 3, axis=2)
    raise DataError(
        f"{where} has {found} channel(s), but {channels} are expected; convert it, or train on images of one kind."
    )


def unlisted_message(values: list[int], classes: Classes) -> str:
    """What to say of mask values that no class and no ignore value covers."""
    if classes.coding == "rgb":
        shown = [str((v >> 16 & 255, v >> 8 & 255, v & 255)) for v in values[:6]]
        listed = "the 'colors' or 'ignore'"
    else:
        shown = [str(v) for v in values[:6]]
        listed = "'names', 'label_mapping' or 'ignore'"
    more = f" and {len(values) - 6} more" if len(values) > 6 else ""
    return (
        f"holds {', '.join(shown)}{more}, which dataset.yaml does not list; add to {listed} there, "
        f"or repair the mask (JPEG and smooth resizing make such values)."
    )


def _read_description(root: Path) -> Mapping[str, Any]:
    path = root / "dataset.yaml"
    if not path.exists():
        return {}
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except (OSError, ValueError, yaml.YAMLError) as error:  # ValueError: 2001-99-99 as a date
        reason = " ".join(str(error).split())
        raise DataError(f"{path} cannot be read: {reason}") from error
    if not isinstance(values, dict):
        raise DataError(f"{path} must hold keys such as 'names:', not {type(values).__name__}.")
    unknown = sorted(str(k) for k in values if k not in _KEYS)
    if unknown:
        raise DataError(f"{path} has the unknown key {unknown[0]!r}; known are {', '.join(_KEYS)}.")
    return values


def _joined(told: Mapping[str, Any], given: Mapping[str, Any]) -> Mapping[str, Any]:
    """dataset.yaml's keys in place of the format's. As many names are new names for the same classes;
    another number of names are other classes, for which the format's colors and ids do not hold."""
    names = given.get("names", told.get("names"))
    if isinstance(names, list | dict) and len(names) != len(told.get("names", names)):
        told = {key: value for key, value in told.items() if key == "channels"}
    return {**told, **given}


def _described_classes(root: Path, description: Mapping[str, Any], index: DatasetIndex) -> Classes | None:
    path = root / "dataset.yaml" if (root / "dataset.yaml").exists() else root
    if "names" not in description:
        needing = sorted({"colors", "label_mapping", "ignore", "coding"} & set(description))
        if needing:
            raise DataError(f"{path} gives {needing[0]!r} without 'names'; add the names.")
        return None
    values = dict(description)
    if "coding" not in values and {"colors", "label_mapping"} & set(values):
        values["coding"] = _coding(index, values.get("colors"))
    try:
        return describe_classes(values)
    except DataError as error:
        raise DataError(f"{path}: {error}") from error


def _coding(index: DatasetIndex, colors: object) -> Coding:
    """Whether masks are colored pictures. An empty mask says nothing, so look on; not at test."""
    for sample in [s for s in index.samples if s.split != "test"][:50]:
        try:
            mask = index.reader.read_mask(sample)
        except READ_ERRORS:
            continue  # the survey reports it
        if mask.ndim == 3 and _is_colored(mask, colors if isinstance(colors, list) else []):
            return "rgb"
        if mask.any():
            return "index"
    return "index"


def _is_colored(mask: Array, colors: list[object]) -> bool:
    """A gray picture too, where its values are listed as colors and cannot all be indices."""
    if (mask != mask[..., :1]).any():
        return True
    values = np.unique(mask).tolist()
    return values[-1] >= len(colors) and all([v, v, v] in colors for v in values)


def _described_channels(root: Path, description: Mapping[str, Any]) -> int | None:
    channels = description.get("channels")
    if channels is None or (type(channels) is int and channels >= 1):
        return channels
    raise DataError(f"{root / 'dataset.yaml'}: 'channels' is {channels!r}; write a number such as 4.")
