"""Conversion of a dataset to another format, with the same labels in every pixel."""

import logging
import shutil
from collections.abc import Callable, Mapping
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
from pixelwise.errors import find_name
from pixelwise.files import READ_ERRORS
from pixelwise.output_files import OutputManifest, claim_output, relate_paths, remove_files
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


MANIFEST = ".pixelwise.json"
"""Hidden file in the output folder with the request and the files that were written for it."""


def convert_dataset(dataset: Dataset, output: Path, to: str, *, overwrite: bool = False) -> ConversionResult:
    """Write a dataset in one of `WRITERS`, into a folder whose files appear when all are complete.

    Image files are copied byte for byte where the new format allows it. Files of an earlier conversion are removed.

    Args:
        dataset: The dataset.
        output: The folder.
        to: Name of the format.
        overwrite: Write into a folder with files that this request did not write; only those with the names of new
            files are replaced.

    Raises:
        InvalidArgumentError: The folder has such files, or another process writes to it.
    """
    to = find_name("format to write", to, WRITERS)
    request = {"data": relate_paths(dataset.folders, output), "to": to}
    with claim_output(output, request) as claim:
        manifest = OutputManifest(claim=claim, name=MANIFEST, request=request)
        temporary = output / ".pixelwise.part"
        shutil.rmtree(temporary, ignore_errors=True)  # of a process that was killed
        manifest.require_replaceable(_list_files(output), overwrite=overwrite)
        dataset = scan_dataset(dataset)  # test images, too
        require_valid_dataset(dataset)
        try:
            temporary.mkdir()
            writer = WRITERS[to](temporary, dataset)
            for done, sample in enumerate(dataset.samples, start=1):
                writer.add(_encode_sample(dataset, sample))
                report_progress("convert", done, len(dataset.samples))
            notes = writer.finish()
            _publish(temporary, output, manifest, overwrite=overwrite)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    for note in notes:
        logger.info(f"note: {note}")
    return ConversionResult(output=output, format=to, num_images=len(dataset.samples), notes=tuple(notes))


def _list_files(folder: Path) -> list[Path]:
    """Return the files below a folder, except those with which Pixelwise manages it."""
    entries = (path for path in folder.glob("*") if not path.name.startswith(".pixelwise"))
    found = (entry.rglob("*") if entry.is_dir() else [entry] for entry in entries)
    return sorted(path for paths in found for path in paths if path.is_file())


def _publish(folder: Path, output: Path, manifest: OutputManifest, *, overwrite: bool) -> None:
    """Move the files of a folder to the output, at once where the output does not have their folders yet."""
    new = {output / path.relative_to(folder): path for path in _list_files(folder)}
    manifest.begin({*new, *_list_files(output)}, overwrite=overwrite)
    for target, path in new.items():
        manifest.record(target, path)
    outdated = [path for path in set(_list_files(output)) - set(new) if manifest.find_state(path)[0] == "unchanged"]
    remove_files(outdated, output)
    _move_into(folder, output)
    manifest.save()


def _move_into(folder: Path, target: Path) -> None:
    for path in folder.iterdir():
        if path.is_dir() and (target / path.name).is_dir():
            _move_into(path, target / path.name)
        else:
            path.replace(target / path.name)


def _encode_sample(dataset: Dataset, sample: Sample) -> EncodedSample:
    """Read a sample, with the bytes of its image file where these contain what the format's reader returns."""
    pixels, labels = dataset.read(sample)
    decoded = dataset.decode_image(sample)
    content = dataset.index.reader.read_image_bytes(sample)
    suffix = find_image_suffix(content)
    is_same = False
    try:
        stored = decode_image_bytes(content, sample.image_location)
        has_nan = decoded.pixels.dtype.kind == "f"
        has_mask = stored.masked is not None
        is_same = stored.alpha == decoded.alpha and has_mask == (decoded.masked is not None)
        is_same = is_same and np.array_equal(stored.pixels, decoded.pixels, equal_nan=has_nan)
    except READ_ERRORS:
        pass  # such as a text file that refers to the image
    if not suffix or not is_same:
        is_filled = decoded.nodata or decoded.masked is not None  # a new file would not declare missing data
        content, suffix = encode_image(pixels if is_filled else decoded.pixels)
    return EncodedSample(sample=sample, image=content, suffix=suffix, pixels=pixels, labels=labels)


def find_image_suffix(content: bytes) -> str | None:
    """Return the suffix of an image file by its first bytes, or None."""
    suffixes = {b"\x89PNG": ".png", b"\xff\xd8\xff": ".jpg", b"BM": ".bmp", b"II": ".tif", b"MM": ".tif"}
    if content[:4] == b"RIFF" and content[8:12] == b"WEBP":
        return ".webp"
    return next((suffix for start, suffix in suffixes.items() if content.startswith(start)), None)
