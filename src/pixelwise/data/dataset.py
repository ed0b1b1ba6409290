"""A dataset: its samples, its classes, and how an image and its mask are read."""

import html
import os
import shlex
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path

import numpy as np

from pixelwise.arguments import check_arguments
from pixelwise.data.classes import Classes, Coding, mask_values, require_integers
from pixelwise.data.colors import Color
from pixelwise.data.description import DatasetDescription, combine_classes, read_description
from pixelwise.data.formats import FORMATS, detect_format, folder
from pixelwise.data.formats._stacks import expand_stacks
from pixelwise.data.formats.dataset_index import (
    DatasetIndex,
    remove_aliases,
    require_folder,
    separate_unlabeled_test,
)
from pixelwise.data.formats.ignore_masks import add_ignore_masks, ignore_pixels
from pixelwise.data.formats.split_lists import apply_split_lists
from pixelwise.data.io.images import TYPE_NAMES, Array, DecodedImage, mark_unlabeled
from pixelwise.data.io.nodata import ALL_DATA, Nodata
from pixelwise.data.io.unread_files import explain_unread_folder
from pixelwise.data.mask_kinds import infer_classes
from pixelwise.data.sample import Sample, Split, Splits, format_location, group_by_split
from pixelwise.data.sample_stats import SampleStats, measure_values
from pixelwise.data.visualization import list_swatches, overlay_labels, to_data_uri, to_display_image
from pixelwise.errors import (
    DataError,
    InvalidArgumentError,
    PathNotFoundError,
    find_name,
    format_count,
    wrap_path_errors,
)
from pixelwise.files import READ_ERRORS

_NUM_SHOWN_IN_HTML = 4


@dataclass(frozen=True, kw_only=True, repr=False)
class Dataset:
    """Images with their masks, in one of the supported formats.

    A dataset behaves as a sequence of `(image, mask)` pairs of NumPy arrays, so it works with
    `torch.utils.data.DataLoader`. Create it with `Dataset.load`; files are read when they are needed.

    Attributes:
        root: The folder of the dataset.
        format: The name of its format, such as `folder`, `voc` or `coco`.
        samples: The pairs, in the order of their names.
        classes: Names, colors and mask values of the classes.
        splits: The samples of each split.
        channels: Number of channels of every image as the network gets it; None until known.

    Example:
        >>> import tempfile
        >>> from pixelwise import Dataset
        >>> from pixelwise.data.synthetic import write_dataset
        >>> folder = tempfile.mkdtemp()
        >>> write_dataset(folder, "cells", num_train=3, num_val=1, num_test=0, size=(32, 48))
        >>> dataset = Dataset.load(folder)
        >>> len(dataset), dataset.classes.names
        (4, ('membrane', 'cell'))
        >>> image, mask = dataset[0]
        >>> image.shape, mask.shape
        ((32, 48, 1), (32, 48))
        >>> [len(mask) for image, mask in dataset.split("val")]
        [32]
    """

    root: Path
    """The folder of the dataset; of several, the one that contains them all."""
    format: str
    index: DatasetIndex
    """Samples and the files that belong to none, as the format found them."""
    declared_classes: Classes | None
    """Classes that `dataset.yaml` or the format names; None where the masks define them."""
    resolved_classes: Classes | None
    """Classes by which masks are read: declared, found by a scan, or those of a model; None until known."""
    channels: int | None
    description: DatasetDescription = field(default_factory=DatasetDescription)
    """The keys of dataset.yaml."""
    nodata: Nodata | None = None
    """Values of missing data, in addition to those that image files declare; None: dataset.yaml does not say."""
    mapped_values: frozenset[int] = frozenset()
    """Mask values that `label_mapping` gives to a class, although a mask file may declare them as missing data."""
    joined_folders: tuple[Path, ...] = ()
    """The folders of a dataset that was loaded from several; empty for one."""
    reading_options: tuple[str, ...] = field(default=(), compare=False)
    """Options with which commands read the folders in the same way, such as `("--format", "voc")`."""
    stats: tuple[SampleStats, ...] = field(default=(), compare=False)
    """Statistics of the samples that `scan.scan_dataset` read."""

    @classmethod
    @check_arguments
    @wrap_path_errors()
    def load(cls, path: str | os.PathLike[str], format: str | None = None, masks: str | None = None) -> "Dataset":
        """Find the samples in a folder and read its `dataset.yaml`.

        Args:
            path: The folder of the dataset.
            format: A name of `pixelwise.data.formats.FORMATS`; None: detected.
            masks: Folder of the masks, next to the images; None: as in `dataset.yaml`, or detected.

        Returns:
            The dataset. No pixel is read.

        Raises:
            PathNotFoundError: `path` does not exist.
            PathAccessError: `path` or its `dataset.yaml` is not readable.
            DataError: The folder has no images, or `dataset.yaml` is invalid.
            InvalidArgumentError: `format` is unknown.

        Example:
            >>> Dataset.load("absent")
            Traceback (most recent call last):
            pixelwise.errors.PathNotFoundError: Dataset 'absent' does not exist. Expected the folder of a dataset.
        """
        root = Path(path)
        if "://" in str(path):
            raise PathNotFoundError(f"Dataset {str(path)!r} is a URL, but datasets are read from folders. Download it.")
        require_folder(root)
        description = read_description(root)
        try:
            return cls._load(root, description, format, masks)
        except DataError:
            if advice := explain_unread_folder(root):
                raise DataError(f"{root} contains images that training cannot read. {advice}") from None
            raise

    @classmethod
    def _load(cls, root: Path, description: DatasetDescription, format: str | None, masks: str | None) -> "Dataset":
        options = [word for pair in (("--format", format), ("--masks", masks)) if pair[1] for word in pair]
        masks = masks or description.masks
        format = detect_format(root, format or ("folder" if masks else None))
        index = _find_pairs(root, format, masks)
        if description.ignore_masks:
            index = add_ignore_masks(root, index, description.ignore_masks)
        channels = description.channels or index.description.channels
        index = expand_stacks(index, channels)
        if not (index.samples or index.images_without_mask or index.same_stem or index.faults):
            fix = f"Expected the layout of format {format!r}. Check the path, or choose another --format."
            if format == "folder":
                fix = "Put the images into images/ and masks of the same name into masks/."
            raise DataError(f"No images found in {root} ({TYPE_NAMES}). {fix}")
        try:
            classes = combine_classes(index.description, description, partial(_find_coding, index))
        except DataError as error:
            raise DataError(f"{description.path or root}: {error}") from error
        mapping = description.label_mapping or index.description.label_mapping
        return cls(
            root=root,
            format=format,
            index=index,
            declared_classes=classes,
            resolved_classes=classes,
            channels=channels,
            description=description,
            nodata=description.nodata,
            reading_options=tuple(map(str, options)),
            mapped_values=frozenset(v for v in mapping or () if isinstance(v, int)),
        )

    @property
    def folders(self) -> tuple[Path, ...]:
        """The folders of the dataset, mostly one."""
        return self.joined_folders or (self.root,)

    @property
    def location(self) -> str:
        """The folders as words of a command."""
        return shlex.join(map(str, self.folders))

    @property
    def arguments(self) -> list[str]:
        """The words of a command that reads the dataset in the same way."""
        return [*map(str, self.folders), *self.reading_options]

    @property
    def samples(self) -> tuple[Sample, ...]:
        return self.index.samples

    @cached_property
    def classes(self) -> Classes:
        """The classes; where none are declared, those of the values that occur in the masks outside test.

        Raises:
            DataError: A mask that defines the classes cannot be read.
        """
        if self.resolved_classes is not None:
            return self.resolved_classes

        def measure(sample: Sample) -> SampleStats:
            mask, stats = self.read_mask(sample), SampleStats(sample=sample)
            try:
                values = mask_values(mask, "index")
                require_integers(values)
            except DataError as error:
                raise DataError(f"{sample.mask_location}: {error}") from error
            measure_values(stats, mask, values, None)
            return stats

        with ThreadPoolExecutor(max_workers=4) as pool:
            return infer_classes(list(pool.map(measure, self._samples_outside_test())), self.description.mask_type)

    @property
    def splits(self) -> Splits:
        """The samples of each split that has some; train where the format has no splits."""
        return {split: samples for split, samples in group_by_split(self.samples).items() if samples}

    @check_arguments
    def split(self, name: Split) -> "Dataset":
        """Return the dataset with only the samples of one split, with the classes of the whole dataset.

        Raises:
            InvalidArgumentError: The dataset has no such split.
        """
        splits = self.splits
        return replace(self.with_samples(splits[find_name("split", name, splits)]), resolved_classes=self.classes)

    def __len__(self) -> int:
        return len(self.samples)

    @check_arguments
    def __getitem__(self, index: int) -> tuple[Array, Array]:
        """Read the image (H, W, C) and the mask (H, W) of class indices of one sample."""
        image, mask = self.read(self.samples[index])
        return np.require(image, requirements="W"), mask  # PyTorch warns about arrays that cannot be written to

    def __iter__(self) -> Iterator[tuple[Array, Array]]:
        return map(self.__getitem__, range(len(self)))

    def __repr__(self) -> str:
        splits = ", ".join(f"{name}: {len(samples)}" for name, samples in self.splits.items())
        names = [repr(name) for name in self.resolved_classes.names] if self.resolved_classes else ["not read yet"]
        shown = ", ".join([*names[:8], *["..."] * (len(names) > 8)])
        return f"Dataset({str(self.root)!r}, format={self.format!r}, splits={{{splits}}}, classes=[{shown}])"

    def _repr_html_(self) -> str:
        """Return a few samples with their masks, a legend and the splits, for notebooks."""
        counts = ", ".join(f"{name} {len(samples):,}" for name, samples in self.splits.items())
        head = f"{len(self):,} samples ({counts}), format {self.format}" if counts else f"0 samples, {self.format}"
        candidates = self._samples_outside_test()
        figures = [self._draw_figure(sample) for sample in candidates[:: len(candidates) // _NUM_SHOWN_IN_HTML + 1]]
        try:
            legend = [
                f'<span style="display:inline-block;width:1em;background:{color}">&nbsp;</span> '
                f"{html.escape(name)}&ensp;"
                for name, color in list_swatches(self.classes)
            ]
        except READ_ERRORS:  # the figures show it
            legend = []
        return f"<p><b>{html.escape(str(self.root))}</b>: {head}</p>{''.join(figures)}<p>{''.join(legend)}</p>"

    def _draw_figure(self, sample: Sample) -> str:
        try:
            image, mask = self.read(sample)
            picture = overlay_labels(to_display_image(image), mask, self.classes)
            content = f'<img src="{to_data_uri(picture, 192)}">'
        except READ_ERRORS as error:
            content = html.escape(str(error))
        style = "display:inline-block;margin:4px;max-width:192px;vertical-align:top"
        return f'<figure style="{style}">{content}<figcaption>{html.escape(sample.name)}</figcaption></figure>'

    def _samples_outside_test(self) -> Sequence[Sample]:
        """Return the samples that are not in test; all where there are only test samples."""
        return [sample for sample in self.samples if sample.split != "test"] or self.samples

    def get_relative_path(self, path: Path) -> str:
        """Return a file's path below `root`, or its whole path where it is elsewhere."""
        return (path.relative_to(self.root) if path.is_relative_to(self.root) else path).as_posix()

    def get_image_file(self, sample: Sample) -> str:
        """Return the relative path of a sample's image, with its entry where the file holds several."""
        return format_location(self.get_relative_path(sample.image_path), sample.image_entry)

    def get_mask_file(self, sample: Sample) -> str:
        """Return the relative path of a sample's mask, with its entry where the file holds several."""
        return format_location(self.get_relative_path(sample.mask_path), sample.label_entry)

    def map_files_to_samples(self) -> dict[str, Sample]:
        """Map each relative file that belongs to one sample only to that sample.

        An index file with the masks of many samples is left out.
        """
        owners: dict[str, set[Sample]] = {}
        for sample in self.samples:
            more = map(self.get_relative_path, sample.paths[2:])
            for file in {self.get_image_file(sample), self.get_mask_file(sample), *more}:
                owners.setdefault(file, set()).add(sample)
        return {file: next(iter(samples)) for file, samples in owners.items() if len(samples) == 1}

    def with_samples(self, samples: Iterable[Sample]) -> "Dataset":
        """Return the dataset with only these samples."""
        return replace(self, index=replace(self.index, samples=tuple(samples)))

    def with_classes(self, classes: Classes, channels: int, nodata: Nodata | None = None) -> "Dataset":
        """Return the dataset read with these classes, channels and, if dataset.yaml gives none, nodata values."""
        given = nodata if self.nodata is None else self.nodata
        return replace(self, resolved_classes=classes, channels=channels, nodata=given)

    def decode_image(self, sample: Sample) -> DecodedImage:
        """Read the image as stored."""
        return self.index.reader.decode_image(sample)

    def read_mask(self, sample: Sample) -> Array:
        """Read the mask as stored: (H, W) values or (H, W, 3) colors; `NO_LABEL` where there is none.

        A mask that is south-up on the map, while its image is north-up, is flipped, and the reverse.
        """
        mask = mark_unlabeled(self.index.reader.read_mask(sample), self.mapped_values)
        mask = np.ascontiguousarray(np.flip(mask, self.index.reader.find_flips(sample)))
        return ignore_pixels(mask, sample.ignore_mask_path) if sample.ignore_mask_path else mask

    def read_image(self, sample: Sample) -> Array:
        """Read the image as (H, W, C) uint8, uint16 or float32 with C = `channels`; missing data is filled."""
        return self._read_filled(sample)[0]

    def read_labels(self, sample: Sample) -> Array:
        """Read the mask as (H, W) class indices or `classes.ignore_index`.

        Raises:
            DataError: The mask cannot be read, or contains values that are not listed.
        """
        mask = self.read_mask(sample)
        try:
            labels, unlisted = self.classes.to_labels(mask)
        except DataError as error:
            raise DataError(f"{sample.mask_location}: {error}") from error
        if unlisted:
            values, fix = describe_unlisted_values(unlisted, self.classes)
            raise DataError(f"{sample.mask_location}: The mask contains {values}, which no class has. {fix}")
        return labels

    def read(self, sample: Sample) -> tuple[Array, Array]:
        """Read the image and the labels of a sample, which have the same size.

        Pixels where no channel of the image has data are ignored in the labels.

        Raises:
            DataError: One of them cannot be read, or their sizes differ.
        """
        image, missing = self._read_filled(sample)
        labels = self.read_labels(sample)
        if image.shape[:2] != labels.shape:
            raise DataError(
                f"{sample.mask_location} is {labels.shape[0]}x{labels.shape[1]}, but its image "
                f"{sample.image_location} is {image.shape[0]}x{image.shape[1]} (height x width). "
                f"Save both with the same size."
            )
        if missing is not None:
            labels[missing] = self.classes.ignore_index
        return image, labels

    def _read_filled(self, sample: Sample) -> tuple[Array, Array | None]:
        """Read the image, and which of its pixels have no data: (H, W) bool or None."""
        decoded, location = self.decode_image(sample), sample.image_location
        image, missing = decoded.fill_pixels(location, self.channels, self.nodata or ALL_DATA)
        return match_channels(image, self.channels, sample.image_location), missing


def _find_pairs(root: Path, format: str, masks: str | None) -> DatasetIndex:
    if masks and format != "folder":
        raise InvalidArgumentError(
            f"masks is {masks!r}, but the format {format!r} has its own masks. Remove one of them, or use the format "
            f"'folder'."
        )
    index = folder.find_pairs(root, masks) if masks else FORMATS[format].find_pairs(root)
    return apply_split_lists(root, separate_unlabeled_test(root, remove_aliases(index)))


def match_channels(image: Array, channels: int | None, location: object) -> Array:
    """Return the image with `channels` channels: gray is repeated for 3, None accepts any number.

    Raises:
        DataError: The image has a different number of channels.
    """
    if channels is None or image.shape[2] == channels:
        return image
    if image.shape[2] == 1 and channels == 3:
        return np.repeat(image, 3, axis=2)
    raise DataError(
        f"{location} has {format_count(image.shape[2], 'channel')}, but {channels} are expected. "
        f"Convert it, or train on images with the same number of channels."
    )


def describe_unlisted_values(values: Sequence[int], classes: Classes) -> tuple[str, str]:
    """Return the mask values that neither a class nor `ignore` lists, as text, and how to fix them."""
    if classes.coding == "rgb":
        shown = [str((v >> 16 & 255, v >> 8 & 255, v & 255)) for v in values[:6]]
        keys, what = "'colors' or 'ignore'", "color"
    else:
        shown = [str(v) for v in values[:6]]
        keys, what = "'names', 'label_mapping' or 'ignore'", "value"
    more = f" and {len(values) - 6} more" if len(values) > 6 else ""
    plural = "s" if len(values) > 1 else ""
    return (
        f"the {what}{plural} {', '.join(shown)}{more}",
        f"Add missing {what}s to {keys} in dataset.yaml (create it if there is none), or correct the mask: JPEG "
        f"compression and interpolation create such {what}s.",
    )


def _find_coding(index: DatasetIndex, colors: Sequence[Color]) -> Coding:
    """Decide from the first mask with a nonzero value whether masks are coded by color; test is not read."""
    for sample in [s for s in index.samples if s.split != "test"][:50]:
        try:
            mask = index.reader.read_mask(sample)
        except READ_ERRORS:
            continue  # reported by the scan
        if mask.ndim == 3 and _is_colored(mask, colors):
            return "rgb"
        if mask.any():
            return "index"
    return "index"


def _is_colored(mask: Array, colors: Sequence[Color]) -> bool:
    """Return whether a mask of three channels has colors, or grays that are listed as colors and are not indices."""
    if (mask != mask[..., :1]).any():
        return True
    values = np.unique(mask).tolist()
    return values[-1] >= len(colors) and all((v, v, v) in colors for v in values)
