"""Formats whose masks are files of class indices: folder, VOC, WebDataset and nnU-Net."""

import json
import tarfile
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from pixelwise.conversion.writer import (
    Content,
    Pair,
    description,
    encode_image,
    flat_names,
    index_mask,
    nested_name,
    require_distinct,
    write_file,
)
from pixelwise.data.io.images import encode_png
from pixelwise.data.sample import Sample
from pixelwise.errors import DataError

SHARD_BYTES = 256 * 2**20
"""A shard of WebDataset is closed once it holds this much."""


class FolderWriter:
    """images/SPLIT beside masks/SPLIT, without the level of splits where there are none."""

    def __init__(self, root: Path, content: Content) -> None:
        self.root, self.content = root, content

    def add(self, pair: Pair) -> None:
        name = "/".join(filter(None, (pair.split, nested_name(pair.sample))))
        write_file(self.root / "images" / f"{name}{pair.ending}", pair.image)
        write_file(self.root / "masks" / f"{name}.png", index_mask(pair.labels, self.content.classes))

    def finish(self) -> list[str]:
        write_file(self.root / "dataset.yaml", description(self.content))
        return []


class VocWriter:
    """JPEGImages, SegmentationClass, and a list of names for each split; 255 is void."""

    def __init__(self, root: Path, content: Content) -> None:
        if len(content.classes.names) > 255:
            raise DataError(f"masks of VOC hold 255 classes, not {len(content.classes.names)}; convert to folder.")
        self.root, self.content = root, content
        self.names = flat_names(content.samples)
        self.lists: dict[str, list[str]] = defaultdict(list)

    def add(self, pair: Pair) -> None:
        name = self.names[pair.sample]
        write_file(self.root / "JPEGImages" / f"{name}{pair.ending}", pair.image)
        write_file(self.root / "SegmentationClass" / f"{name}.png", index_mask(pair.labels, self.content.classes))
        self.lists[pair.split or "train"].append(name)

    def finish(self) -> list[str]:
        for split, names in self.lists.items():
            lines = "".join(f"{name}\n" for name in names)
            write_file(self.root / "ImageSets" / "Segmentation" / f"{split}.txt", lines)
        write_file(self.root / "dataset.yaml", description(self.content))
        return []


class WebDatasetWriter:
    """SPLIT-000000.tar, ... of KEY.jpg and KEY.mask.png, each shard about `SHARD_BYTES` long."""

    def __init__(self, root: Path, content: Content) -> None:
        self.root, self.content = root, content
        require_distinct(f"{sample.split}/{_key(sample)}" for sample in content.samples)
        self.shards: Counter[str] = Counter()
        """Prefix of the shards' names → how many are full."""
        self.bytes: Counter[str] = Counter()
        """Prefix → bytes of pictures in its latest shard."""

    def add(self, pair: Pair) -> None:
        prefix, key = pair.split or "all", _key(pair.sample)
        mask = index_mask(pair.labels, self.content.classes)
        path = self._shard(prefix)
        with path.open("ab") as shard:
            shard.write(_member(f"{key}{pair.ending}", pair.image) + _member(f"{key}.mask.png", mask))
        self.bytes[prefix] += len(pair.image) + len(mask)
        if self.bytes[prefix] >= SHARD_BYTES:
            self._close(prefix)

    def _shard(self, prefix: str) -> Path:
        return self.root / f"{prefix}-{self.shards[prefix]:06}.tar"

    def _close(self, prefix: str) -> None:
        with self._shard(prefix).open("ab") as shard:
            shard.write(bytes(2 * tarfile.BLOCKSIZE))
        self.shards[prefix] += 1
        del self.bytes[prefix]

    def finish(self) -> list[str]:
        for prefix in list(self.bytes):
            self._close(prefix)
        write_file(self.root / "dataset.yaml", description(self.content))
        return []


def _member(name: str, content: bytes) -> bytes:
    """A file as tar holds it, without time and owner: equal data gives equal shards."""
    header = tarfile.TarInfo(name)
    header.size, header.mode = len(content), 0o644
    return header.tobuf(tarfile.PAX_FORMAT) + content + bytes(-len(content) % tarfile.BLOCKSIZE)


def _key(sample: Sample) -> str:
    """The sample's name without the dots of its last part, at the first of which a key would end."""
    folders, slash, last = nested_name(sample).rpartition("/")
    return folders + slash + last.replace(".", "_")


@dataclass
class NnUNetWriter:
    """imagesTr, labelsTr and dataset.json; of test images imagesTs and labelsTs.

    A gray or RGB image is one PNG; of any other number of channels, each channel is one. Ignored
    pixels are the highest label, named `ignore`.
    """

    root: Path
    content: Content
    num_training: int = 0
    num_validation: int = 0
    ignores: bool = False
    names: Mapping[Sample, str] = field(init=False)

    def __post_init__(self) -> None:
        if "ignore" in self.content.classes.names:
            raise DataError("a class is named 'ignore', which nnU-Net takes for pixels to ignore; rename it.")
        self.names = flat_names(self.content.samples)

    def add(self, pair: Pair) -> None:
        name, part = self.names[pair.sample], "Ts" if pair.split == "test" else "Tr"
        for number, image in enumerate(self._files(pair)):
            write_file(self.root / f"images{part}" / f"{name}_{number:04}.png", image)
        ignored = pair.labels == self.content.classes.ignore_index
        labels = np.where(ignored, len(self.content.classes.names), pair.labels)
        deep = len(self.content.classes.names) > 255
        write_file(
            self.root / f"labels{part}" / f"{name}.png", encode_png(labels.astype(np.uint16 if deep else np.uint8))
        )
        self.ignores |= bool(ignored.any())
        self.num_training += part == "Tr"
        self.num_validation += pair.split == "val"

    def _files(self, pair: Pair) -> list[bytes]:
        if self.content.channels in (1, 3):
            return [encode_image(pair.pixels)[0]]
        return [encode_png(channel) for channel in np.moveaxis(pair.pixels, 2, 0)]

    def finish(self) -> list[str]:
        names = self.content.classes.names
        channels = ("R", "G", "B") if self.content.channels == 3 else map(str, range(self.content.channels))
        values = {
            "channel_names": {str(number): name for number, name in enumerate(channels)},
            "labels": {name: index for index, name in enumerate((*names, *["ignore"] * self.ignores))},
            "numTraining": self.num_training,
            "file_ending": ".png",
            "overwrite_image_reader_writer": "NaturalImage2DIO",
        }
        write_file(self.root / "dataset.json", json.dumps(values, indent=2, ensure_ascii=False) + "\n")
        notes = []
        if self.num_validation:
            notes.append(f"nnU-Net draws its own folds: {self.num_validation} val pair(s) are among imagesTr")
        if names[0].lower() != "background":
            notes.append(f"nnU-Net takes label 0 for the background, and here it is {names[0]!r}")
        return notes
