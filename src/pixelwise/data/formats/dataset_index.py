"""The result of finding a dataset's files: its samples, the files without a partner, and how to read a sample."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from pixelwise.data.io.images import Array, DecodedImage, decode_image_bytes, read_mask_bytes
from pixelwise.data.sample import Sample
from pixelwise.files import read_bytes


class SampleReader:
    """Reads the image and the mask of a sample, by default from one file each; thread-safe.

    All methods raise PathNotFoundError, PathAccessError or DataError with the file and how to fix it.
    """

    def decode_image(self, sample: Sample) -> DecodedImage:
        """Read the image as stored, with its alpha channel."""
        return decode_image_bytes(self.read_image_bytes(sample), sample.image_location)

    def read_mask(self, sample: Sample) -> Array:
        """Read the mask as (H, W) uint8 or uint16 values, or (H, W, 3) uint8 colors."""
        return read_mask_bytes(self.read_mask_bytes(sample), sample.label_location)

    def read_image_bytes(self, sample: Sample) -> bytes:
        """Read the encoded image file."""
        return read_bytes(sample.image_path)

    def read_mask_bytes(self, sample: Sample) -> bytes:
        """Read the encoded mask file."""
        return read_bytes(sample.label_path)


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetIndex:
    """The samples of a dataset, and the files that are in none."""

    samples: tuple[Sample, ...]
    images_without_mask: tuple[Path, ...] = ()
    masks_without_image: tuple[Path, ...] = ()
    same_stem: tuple[Path, ...] = ()
    """Files that share their stem with another file of their folder, so that their partner is ambiguous."""
    outside_splits: tuple[Path, ...] = ()
    """Images and masks in no split: stray files, and folders that are not named after a split."""
    foreign_files: tuple[Path, ...] = ()
    """Files that do not have the extension of an image."""
    reader: SampleReader = field(default_factory=SampleReader, compare=False)
    channel_files: bool = False
    """True if each image has one file per channel."""
    description: Mapping[str, Any] = field(default_factory=dict)
    """The format's own names, colors, ignore, label_mapping, coding and channels, as in dataset.yaml.

    A dataset.yaml in the folder overrides it key by key; with a different number of classes, it overrides all keys but
    `channels`.
    """


class DatasetFormat(Protocol):
    """A dataset format: what each module of `formats` without an underscore implements."""

    def can_read(self, root: Path, /) -> bool:
        """Return whether a folder has this format, from file names and small index files only."""

    def find_pairs(self, root: Path, /) -> DatasetIndex:
        """Find all samples, sorted by name; raise DataError if the folder does not have this format."""
