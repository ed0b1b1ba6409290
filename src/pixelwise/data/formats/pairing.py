"""What every format answers: which pairs lie in a folder, which files are in none, and how a pair is read."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from pixelwise.data.io.images import Array, Decoded, decode_image, read_mask
from pixelwise.data.sample import Sample


class Reader(Protocol):
    """How the files of a sample become pixels. Both raise DataError that names the file and the cure."""

    def decode_image(self, sample: Sample) -> Decoded:
        """The image as stored, its alpha channel included."""

    def read_mask(self, sample: Sample) -> Array:
        """(H, W) uint8 or uint16 mask values, or (H, W, 3) uint8 colors."""


@runtime_checkable
class HoldsImageBytes(Protocol):
    """A reader of images that lie as encoded files inside others, and not under `Sample.image_path` itself."""

    def image_bytes(self, sample: Sample) -> bytes:
        """The image's file as it lies there. Raises DataError."""


class FileReader:
    """One image file and one mask file each: the reader of most formats."""

    def decode_image(self, sample: Sample) -> Decoded:
        return decode_image(sample.image_path)

    def read_mask(self, sample: Sample) -> Array:
        return read_mask(sample.label_path)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pairing:
    """What lies in a dataset: the pairs, and the files that are in none."""

    samples: tuple[Sample, ...]
    images_without_mask: tuple[Path, ...] = ()
    masks_without_image: tuple[Path, ...] = ()
    same_stem: tuple[Path, ...] = ()
    """Files that share their stem with another of their folder, so that their partner is ambiguous; in no pair."""
    outside_splits: tuple[Path, ...] = ()
    """Images and masks that no split reads: stray files, and folders such as 'valid'."""
    foreign_files: tuple[Path, ...] = ()
    """Files that are no image by their ending."""
    reader: Reader = field(default_factory=FileReader, compare=False)
    channel_files: bool = False
    """Whether each image has a file for each channel."""
    description: Mapping[str, Any] = field(default_factory=dict)
    """What the format itself tells of names, colors, ignore, label_mapping, coding and channels, as
    dataset.yaml would; a dataset.yaml in the folder replaces it key by key, and wholly but for channels
    where it names another number of classes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Format:
    """One way for a dataset to lie on disk."""

    recognizes: Callable[[Path], bool]
    """Whether a folder looks like it, told by names alone: nothing is read but a listing or a small index file."""
    find: Callable[[Path], Pairing]
    """All pairs, in the order of their names. DataError where there is nothing to pair."""
