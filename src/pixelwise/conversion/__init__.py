"""`pixelwise convert`: any format is read, a common one is written, with the same labels pixel for pixel."""

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
from pixelwise.conversion.writer import Content, Pair, Writer, encode_image
from pixelwise.data.dataset import Dataset
from pixelwise.data.io.images import DecodedImage, decode_image_bytes
from pixelwise.data.sample import Sample
from pixelwise.data.scan import scan_dataset
from pixelwise.errors import InvalidArgumentError, unknown_name
from pixelwise.files import READ_ERRORS
from pixelwise.progress import report_progress

logger = logging.getLogger(__name__)

WRITERS: Mapping[str, Callable[[Path, Content], Writer]] = {
    "coco": CocoWriter,
    "folder": FolderWriter,
    "nnunet": NnUNetWriter,
    "voc": VocWriter,
    "webdataset": WebDatasetWriter,
    "yolo": YoloWriter,
}
"""Formats that can be written."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Converted:
    """What a conversion wrote."""

    output: Path
    format: str
    num_images: int
    notes: tuple[str, ...]
    """What the format cannot say, and what of this dataset it therefore lost."""


def convert(data: str | Path, output: str | Path, *, to: str, format: str | None = None) -> Converted:
    """Writes a dataset of any format as one of `WRITERS`. The source is only read.

    `output` must be new or empty; it appears complete or not at all. Image files are copied byte for
    byte where the format `to` can hold them. DataError for a dataset that training would refuse,
    InvalidArgumentError for an unknown `to`, an `output` in the way, or an extra that is not installed.
    """
    output = Path(output)
    if to not in WRITERS:
        raise unknown_name("format to write", to, WRITERS)
    _require_free(output)
    dataset = _sound(Dataset.load(data, format))
    assert dataset.channels is not None
    content = Content(classes=dataset.classes, channels=dataset.channels, samples=dataset.samples)
    with _appearing(output) as folder:
        writer = WRITERS[to](folder, content)
        for done, sample in enumerate(dataset.samples, start=1):
            writer.add(_read(dataset, sample))
            report_progress("convert", done, len(dataset.samples))
        notes = writer.finish()
    for note in notes:
        logger.info(f"note: {note}")
    return Converted(output=output, format=to, num_images=len(dataset.samples), notes=tuple(notes))


def _sound(dataset: Dataset) -> Dataset:
    """With the classes and channels of the whole set, test images included."""
    scanned = scan_dataset(dataset)
    require_valid_dataset(scanned)
    return scanned


def _require_free(output: Path) -> None:
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise InvalidArgumentError(f"{output} is in the way; name a folder that is new or empty.")


@contextmanager
def _appearing(output: Path) -> Iterator[Path]:
    """A folder beside `output` that takes its name at the end; after an error or Ctrl-C nothing is left."""
    output = output.resolve()
    output.parent.mkdir(parents=True, exist_ok=True)
    temporary = output.with_name(f".{output.name}.{os.getpid()}.part")
    temporary.mkdir()
    try:
        yield temporary
        if output.exists():
            output.rmdir()  # empty, as was checked; some systems rename over no folder
        temporary.rename(output)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _read(dataset: Dataset, sample: Sample) -> Pair:
    pixels, labels = dataset.read(sample)
    decoded = dataset.decode_image(sample)
    content, ending = _as_stored(dataset, sample, decoded) or encode_image(decoded.pixels)
    return Pair(sample=sample, image=content, ending=ending, pixels=pixels, labels=labels)


def _as_stored(dataset: Dataset, sample: Sample, decoded: DecodedImage) -> tuple[bytes, str] | None:
    """The image's own file and its ending, where there is one that holds what the format's reader gives."""
    content = dataset.index.reader.read_image_bytes(sample)
    ending = image_ending(content)
    try:
        alone = decode_image_bytes(content, sample.image_location)
    except READ_ERRORS:  # such as the description of an image that lies elsewhere
        return None
    same = alone.alpha == decoded.alpha and np.array_equal(alone.pixels, decoded.pixels)
    return (content, ending) if ending and same else None


def image_ending(content: bytes) -> str | None:
    """The ending of an image file, told by its first bytes."""
    kinds = {b"\x89PNG": ".png", b"\xff\xd8\xff": ".jpg", b"BM": ".bmp", b"II": ".tif", b"MM": ".tif"}
    if content[:4] == b"RIFF" and content[8:12] == b"WEBP":
        return ".webp"
    return next((ending for start, ending in kinds.items() if content.startswith(start)), None)
