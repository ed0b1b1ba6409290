"""Samples of stacks: each page of an image with the same page of its mask, in every format of one file per image."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from math import prod

from pixelwise.data.formats.dataset_index import DatasetIndex, SampleReader
from pixelwise.data.io.images import (
    Array,
    DecodedImage,
    StackAxes,
    are_channels,
    decode_image,
    decode_mask,
    find_stack_axes,
)
from pixelwise.data.sample import PAGE, Sample


def expand_stacks(index: DatasetIndex, channels: int | None) -> DatasetIndex:
    """Replace each sample of two stacks of the same length by samples of their pages.

    Other stacks stay, and are an error when they are read, unless their pages are the `channels` of one image.
    """
    if type(index.reader) is not SampleReader:
        return index
    stacks = {sample: axes for sample in index.samples if (axes := find_stack_axes(sample.image_path))}
    if not stacks:
        return index
    samples = [page for sample in index.samples for page in _list_pages(sample, stacks.get(sample, ()), channels)]
    return replace(index, samples=tuple(sorted(samples)), reader=StackReader(channels))


@dataclass(frozen=True, slots=True)
class StackReader(SampleReader):
    """Reads images and pages of stacks."""

    channels: int | None
    """Number of pages that are the channels of one image; None: no pages are."""

    def decode_image(self, sample: Sample) -> DecodedImage:
        return decode_image(sample.image_path, self.channels, sample.page)

    def read_mask(self, sample: Sample) -> Array:
        return decode_mask(sample.mask_path, sample.page)

    def read_image_bytes(self, sample: Sample) -> bytes:
        """Read the encoded image file; empty for a page, which has no file of its own."""
        return b"" if sample.is_page else SampleReader.read_image_bytes(self, sample)


def _list_pages(sample: Sample, axes: StackAxes, channels: int | None) -> Iterator[Sample]:
    number = prod(size for _, size in axes)
    if (
        not axes
        or are_channels(axes, channels)
        or number != prod(size for _, size in find_stack_axes(sample.mask_path))
    ):
        yield sample
        return
    for page in range(number):
        entry = f"{PAGE}{page:04d}"
        yield replace(sample, name=f"{sample.name}/{entry}", image_entry=entry, label_entry=entry)
