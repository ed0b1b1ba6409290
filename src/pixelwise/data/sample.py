"""A sample of a dataset: an image file and its mask file."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Split = Literal["train", "val", "test"]
SPLITS: tuple[Split, ...] = ("train", "val", "test")


PAGE = "page_"
"""Start of the entry of a page of a stack, such as `page_0003`, counted from 0."""


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Sample:
    """An image and its mask on disk; nothing is read yet."""

    name: str
    """Path of the image below the image folder, without suffix: `train/0001`."""
    image_path: Path
    mask_path: Path
    split: Split | None
    """None where the format has no splits."""
    image_entry: str = ""
    """Name of the image inside `image_path`, where that file holds several: `0001.jpg` of a tar file, `page_0003`."""
    label_entry: str = ""
    more_mask_paths: tuple[Path, ...] = ()
    """The other files of a mask that is stored in several."""
    ignore_mask_path: Path | None = None
    """A mask of the pixels to ignore, which are 0 in it."""

    @property
    def paths(self) -> tuple[Path, ...]:
        """All files of the sample."""
        ignore_masks = [self.ignore_mask_path] if self.ignore_mask_path else []
        return (self.image_path, self.mask_path, *self.more_mask_paths, *ignore_masks)

    @property
    def page(self) -> int | None:
        """Number of the page, if the sample is a page of a stack."""
        return int(self.image_entry.removeprefix(PAGE)) if self.is_page else None

    @property
    def is_page(self) -> bool:
        return self.image_entry.startswith(PAGE) and self.image_entry.removeprefix(PAGE).isdecimal()

    @property
    def image_location(self) -> str:
        """File of the image and its entry in that file, for messages."""
        return format_location(str(self.image_path), self.image_entry)

    @property
    def mask_location(self) -> str:
        """File of the mask and its entry in that file, for messages."""
        return format_location(str(self.mask_path), self.label_entry)


Splits = dict[Split, list[Sample]]


def format_location(file: str, entry: str) -> str:
    """Return `shard.tar: 0001.png`; only the file if `entry` is empty."""
    return f"{file}: {entry}" if entry else file


def group_by_split(samples: Iterable[Sample]) -> Splits:
    """Return the sorted samples of each split of the dataset; samples without a split belong to train."""
    splits: Splits = {name: [] for name in SPLITS}
    for sample in sorted(samples):
        splits[sample.split or "train"].append(sample)
    return splits
