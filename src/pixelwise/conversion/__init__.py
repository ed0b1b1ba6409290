"""Conversion of a dataset to another format, with the same labels in every pixel."""

import logging
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pixelwise.checks.runner import require_valid_dataset
from pixelwise.conversion.masks import FolderWriter, NnUNetWriter, VocWriter, WebDatasetWriter
from pixelwise.conversion.polygons import CocoWriter, YoloWriter
from pixelwise.conversion.writer import DatasetWriter, EncodedSample, encode_image
from pixelwise.data.dataset import Dataset
from pixelwise.data.io.images import decode_image_bytes
from pixelwise.data.sample import Sample
from pixelwise.data.scan import scan_dataset
from pixelwise.errors import require_known
from pixelwise.files import READ_ERRORS, require_new_folder
from pixelwise.progress import report_progress

logger = logging.getLogger(__name__)

WRITERS: Mapping[str, Callable[[Path, Dataset], DatasetWriter]] = {
    "coco": CocoWriter,
    "folder": FolderWriter,
    "nnunet": NnUNetWriter,
    "voc": VocWriter,
    "webdataset": WebDatasetWriter,
    "yolo": YoloWriter,
}
"""Name of each format that can be written → its writer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConversionResult:
    """The output of a conversion."""

    output: Path
    format: str
    num_images: int
    notes: tuple[str, ...]
    """Properties of the dataset that the format cannot represent."""


def convert_dataset(dataset: Dataset, output: Path, to: str) -> ConversionResult:
    """Write a dataset in one of `WRITERS`, into a folder that appears complete or not at all.

    Image files are copied byte for byte where the new format allows it.
    """
    require_known("format to write", [to], WRITERS)
    require_new_folder(output)
    dataset = scan_dataset(dataset)  # test images, too
    require_valid_dataset(dataset)
    with _create_atomically(output) as folder:
        writer = WRITERS[to](folder, dataset)
        for done, sample in enumerate(dataset.samples, start=1):
            writer.add(_encode_sample(dataset, sample))
            report_progress("convert", done, len(dataset.samples))
        notes = writer.finish()
    for note in notes:
        logger.info(f"note: {note}")
    return ConversionResult(output=output, format=to, num_images=len(dataset.samples), notes=tuple(notes))


@contextmanager
def _create_atomically(output: Path) -> Iterator[Path]:
    """Yield a temporary folder that is renamed to `output` at the end, and removed after an error or Ctrl-C."""
    output = output.resolve()
    output.parent.mkdir(parents=True, exist_ok=True)
    temporary = output.with_name(f".{output.name}.{os.getpid()}.part")
    temporary.mkdir()
    try:
        yield temporary
        if output.exists():
            output.rmdir()  # empty, as was checked; some systems cannot rename over a folder
        temporary.rename(output)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _encode_sample(dataset: Dataset, sample: Sample) -> EncodedSample:
    """Read a sample, with the bytes of its image file where these contain what the format's reader returns."""
    pixels, labels = dataset.read(sample)
    decoded = dataset.decode_image(sample)
    content = dataset.index.reader.read_image_bytes(sample)
    suffix = find_image_suffix(content)
    is_same = False
    try:
        stored = decode_image_bytes(content, sample.image_location)
        is_same = stored.alpha == decoded.alpha and np.array_equal(stored.pixels, decoded.pixels)
    except READ_ERRORS:
        pass  # such as a text file that refers to the image
    if not suffix or not is_same:
        content, suffix = encode_image(decoded.pixels)
    return EncodedSample(sample=sample, image=content, suffix=suffix, pixels=pixels, labels=labels)


def find_image_suffix(content: bytes) -> str | None:
    """Return the suffix of an image file by its first bytes, or None."""
    suffixes = {b"\x89PNG": ".png", b"\xff\xd8\xff": ".jpg", b"BM": ".bmp", b"II": ".tif", b"MM": ".tif"}
    if content[:4] == b"RIFF" and content[8:12] == b"WEBP":
        return ".webp"
    return next((suffix for start, suffix in suffixes.items() if content.startswith(start)), None)
