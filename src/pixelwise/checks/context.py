"""The data that every check receives."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from pixelwise.checks.findings import Finding, make_printable
from pixelwise.data.classes import Classes
from pixelwise.data.dataset import Dataset
from pixelwise.data.mask_kinds import find_soft_values, has_object_numbers
from pixelwise.data.sample import Splits
from pixelwise.data.sample_stats import SampleStats
from pixelwise.shapes import Size


@dataclass(frozen=True, kw_only=True)
class CheckContext:
    """A scanned dataset, its splits, and the options of the check."""

    dataset: Dataset
    splits: Splits
    resolution: Size | None = None
    """Height and width to which images will be scaled for training; None: they are not scaled."""
    group_by: str | None = None
    """Pattern on names, or FILE.csv:COLUMN, of the groups that must stay in one split, as `data.group_by`."""

    @property
    def classes(self) -> Classes:
        return self.dataset.classes

    @property
    def description_file(self) -> str:
        """The file that a fix names: dataset.yaml, or a new one."""
        if self.dataset.joined_folders:
            return "the dataset.yaml of each folder"
        path = self.dataset.description.path
        return path.name if path else "a new file dataset.yaml in the dataset folder"

    @property
    def has_declared_classes(self) -> bool:
        return self.dataset.declared_classes is not None

    @property
    def stats(self) -> tuple[SampleStats, ...]:
        return self.dataset.stats

    @property
    def decoded_images(self) -> list[SampleStats]:
        """The statistics of samples whose image could be decoded."""
        return [s for s in self.stats if s.size]

    @cached_property
    def mask_values(self) -> set[int]:
        """All values that occur in the masks."""
        return {value for s in self.stats for value in s.value_counts}

    @cached_property
    def soft_values(self) -> tuple[int, ...] | None:
        """The values of the classes between which masks have soft edges, unless dataset.yaml divides them."""
        values = find_soft_values(self.stats) if self._may_be_misread else None
        return None if values and self.has_declared_classes and len(values) != len(self.classes.names) else values

    @cached_property
    def has_object_numbers(self) -> bool:
        """True if mask values number objects and dataset.yaml does not say what they are."""
        is_open = self.dataset.description.mask_type is None and self._may_be_misread
        return is_open and self.soft_values is None and has_object_numbers(self.stats)

    @property
    def _may_be_misread(self) -> bool:
        """Return whether classes are found in masks of one channel, or do not list all their values."""
        is_listed = self.has_declared_classes and all(self.classes.get_label(v) is not None for v in self.mask_values)
        return self.classes.coding == "index" and not is_listed

    @property
    def is_misread(self) -> bool:
        """Return whether the declared classes are not those of the masks, so that checks of classes say nothing."""
        return self.has_declared_classes and (self.soft_values is not None or self.has_object_numbers)

    def find_labels(self, stats: SampleStats) -> set[int]:
        """Return the classes that occur in a mask."""
        labels = {self.classes.get_label(value) for value in stats.value_counts}
        return {label for label in labels if label is not None} - {self.classes.ignore_index}

    def list_files(self, paths: Iterable[Path]) -> list[str]:
        """Return sorted, printable file names relative to the dataset."""
        return _sort_printable(map(self.dataset.get_relative_path, paths))

    def list_images(self, stats: Iterable[SampleStats]) -> list[str]:
        """Return the image files, with their entries in files that hold several: `shard.tar: 0001.png`."""
        return _sort_printable(self.dataset.get_image_file(s.sample) for s in stats)

    def list_masks(self, stats: Iterable[SampleStats]) -> list[str]:
        """Return the mask files, with their entries in files that hold several."""
        return _sort_printable(self.dataset.get_mask_file(s.sample) for s in stats)


Check = Callable[[CheckContext], Iterator[Finding]]


def _sort_printable(names: Iterable[str]) -> list[str]:
    return sorted({make_printable(name) for name in names})
