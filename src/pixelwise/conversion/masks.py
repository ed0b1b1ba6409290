"""Writers of formats with mask files: folder, VOC, WebDataset and nnU-Net."""

import json
import tarfile
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np

from pixelwise.conversion.writer import (
    EncodedSample,
    encode_image,
    encode_mask,
    encode_tiff,
    format_description,
    make_flat_names,
    make_nested_name,
    require_distinct_names,
    write_file,
)
from pixelwise.data.dataset import Dataset
from pixelwise.data.io.images import encode_png
from pixelwise.data.sample import Sample
from pixelwise.errors import DataError, format_count

SHARD_BYTES = 256 * 2**20
"""A shard of WebDataset is closed once it has this size."""


class FolderWriter:
    """Writer of images/SPLIT and masks/SPLIT, or images and masks without splits."""

    def __init__(self, root: Path, dataset: Dataset) -> None:
        self.root, self.dataset = root, dataset

    def add(self, encoded: EncodedSample) -> None:
        name = "/".join(filter(None, (encoded.split, make_nested_name(encoded.sample))))
        write_file(self.root / "images" / f"{name}{encoded.suffix}", encoded.image)
        write_file(self.root / "masks" / f"{name}.png", encode_mask(encoded.labels, self.dataset.classes))

    def finish(self) -> list[str]:
        _write_description(self.root, self.dataset)
        return []


class VocWriter:
    """Writer of JPEGImages, SegmentationClass and a list of names for each split; 255 is void."""

    def __init__(self, root: Path, dataset: Dataset) -> None:
        if len(dataset.classes.names) > 255:
            raise DataError(
                f"The dataset has {len(dataset.classes.names)} classes, but VOC masks allow at most 255. "
                f"Use the format folder."
            )
        self.root, self.dataset = root, dataset
        self.names = make_flat_names(dataset.samples)
        self.lists: dict[str, list[str]] = defaultdict(list)

    def add(self, encoded: EncodedSample) -> None:
        name = self.names[encoded.sample]
        write_file(self.root / "JPEGImages" / f"{name}{encoded.suffix}", encoded.image)
        write_file(self.root / "SegmentationClass" / f"{name}.png", encode_mask(encoded.labels, self.dataset.classes))
        self.lists[encoded.split or "train"].append(name)

    def finish(self) -> list[str]:
        for split, names in self.lists.items():
            lines = "".join(f"{name}\n" for name in names)
            write_file(self.root / "ImageSets" / "Segmentation" / f"{split}.txt", lines)
        _write_description(self.root, self.dataset, has_mapping=True)  # images of VOC's names have VOC's classes
        return []


class WebDatasetWriter:
    """Writer of SPLIT-000000.tar, ... with KEY.jpg and KEY.mask.png; each shard has about `SHARD_BYTES`."""

    def __init__(self, root: Path, dataset: Dataset) -> None:
        self.root, self.dataset = root, dataset
        require_distinct_names(f"{sample.split}/{_make_key(sample)}" for sample in dataset.samples)
        self.num_full: Counter[str] = Counter()
        """Prefix of the shards' names → number of closed shards."""
        self.num_bytes: Counter[str] = Counter()
        """Prefix → bytes of images and masks in its open shard."""

    def add(self, encoded: EncodedSample) -> None:
        prefix, key = encoded.split or "all", _make_key(encoded.sample)
        mask = encode_mask(encoded.labels, self.dataset.classes)
        with self._get_shard(prefix).open("ab") as shard:
            shard.write(_encode_member(f"{key}{encoded.suffix}", encoded.image))
            shard.write(_encode_member(f"{key}.mask.png", mask))
        self.num_bytes[prefix] += len(encoded.image) + len(mask)
        if self.num_bytes[prefix] >= SHARD_BYTES:
            self._close(prefix)

    def _get_shard(self, prefix: str) -> Path:
        return self.root / f"{prefix}-{self.num_full[prefix]:06}.tar"

    def _close(self, prefix: str) -> None:
        with self._get_shard(prefix).open("ab") as shard:
            shard.write(bytes(2 * tarfile.BLOCKSIZE))
        self.num_full[prefix] += 1
        del self.num_bytes[prefix]

    def finish(self) -> list[str]:
        for prefix in list(self.num_bytes):
            self._close(prefix)
        _write_description(self.root, self.dataset)
        return []


def _write_description(root: Path, dataset: Dataset, *, has_mapping: bool = False) -> None:
    text = format_description(dataset.classes, dataset.channels, dataset.nodata, has_mapping=has_mapping)
    write_file(root / "dataset.yaml", text)


def _encode_member(name: str, content: bytes) -> bytes:
    """Encode a file of a tar archive without time and owner, so that the same data gives identical shards."""
    header = tarfile.TarInfo(name)
    header.size, header.mode = len(content), 0o644
    return header.tobuf(tarfile.PAX_FORMAT) + content + bytes(-len(content) % tarfile.BLOCKSIZE)


def _make_key(sample: Sample) -> str:
    """Return the sample's name without dots in its last part: a key ends at the first dot."""
    folders, slash, last = make_nested_name(sample).rpartition("/")
    return folders + slash + last.replace(".", "_")


class NnUNetWriter:
    """Writer of imagesTr, labelsTr and dataset.json, and of imagesTs and labelsTs for test images.

    A gray or RGB image is one PNG; otherwise each channel is one. Images and labels of a float dataset are TIFF.
    Ignored pixels have the highest label, named `ignore`.
    """

    def __init__(self, root: Path, dataset: Dataset) -> None:
        if "ignore" in dataset.classes.names:
            raise DataError("A class is named 'ignore', which nnU-Net uses for ignored pixels. Rename it.")
        self.root, self.dataset = root, dataset
        self.names = make_flat_names(dataset.samples)
        self.num_training = self.num_validation = 0
        self.has_ignored = False
        self.suffix = ".png"
        """Suffix of all files, because nnU-Net requires a single one."""

    def add(self, encoded: EncodedSample) -> None:
        name, part = self.names[encoded.sample], "Ts" if encoded.split == "test" else "Tr"
        is_float = encoded.pixels.dtype.kind == "f"
        encode, self.suffix = (encode_tiff, ".tif") if is_float else (encode_png, ".png")
        if self.dataset.channels in (1, 3) and not is_float:
            images = [encode_image(encoded.pixels)[0]]
        else:
            images = [encode(channel) for channel in np.moveaxis(encoded.pixels, 2, 0)]
        for number, image in enumerate(images):
            write_file(self.root / f"images{part}" / f"{name}_{number:04}{self.suffix}", image)
        num_classes = len(self.dataset.classes.names)
        ignored = encoded.labels == self.dataset.classes.ignore_index
        labels = np.where(ignored, num_classes, encoded.labels).astype(np.uint16 if num_classes > 255 else np.uint8)
        write_file(self.root / f"labels{part}" / f"{name}{self.suffix}", encode(labels))
        self.has_ignored |= bool(ignored.any())
        self.num_training += part == "Tr"
        self.num_validation += encoded.split == "val"

    def finish(self) -> list[str]:
        names, channels = self.dataset.classes.names, self.dataset.channels or 0
        channel_names = ("R", "G", "B") if channels == 3 else map(str, range(channels))
        values = {
            "channel_names": {str(number): name for number, name in enumerate(channel_names)},
            "labels": {name: index for index, name in enumerate((*names, *["ignore"] * self.has_ignored))},
            "numTraining": self.num_training,
            "file_ending": self.suffix,
            "overwrite_image_reader_writer": "NaturalImage2DIO",
        }
        write_file(self.root / "dataset.json", json.dumps(values, indent=2, ensure_ascii=False) + "\n")
        notes = []
        if self.num_validation:
            notes.append(f"nnU-Net makes its own folds: imagesTr has {format_count(self.num_validation, 'val pair')}")
        if names[0].lower() != "background":
            notes.append(f"nnU-Net uses label 0 for the background, but here it is {names[0]!r}")
        return notes
