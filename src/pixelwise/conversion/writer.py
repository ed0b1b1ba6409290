"""What a writer of a format is given, and what all writers share."""

import io
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Protocol

import numpy as np
import tifffile
import yaml

from pixelwise.data.classes import Classes, Color
from pixelwise.data.io.images import Array, encode_png
from pixelwise.data.sample import Sample, Split
from pixelwise.errors import DataError

IGNORED_COLOR: Color = (224, 224, 192)
"""What ignored pixels look like in palette masks: as in Pascal VOC."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """The dataset as a whole."""

    classes: Classes
    channels: int
    """Of every image, gray ones among RGB counted as RGB."""
    samples: tuple[Sample, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """An image as an encoded file, and its labels."""

    sample: Sample
    image: bytes
    ending: str
    """Of the image file: `.jpg`, `.png`, ..."""
    pixels: Array
    """(H, W, C) uint8 or uint16, what `image` decodes to, with the channels of the dataset."""
    labels: Array
    """(H, W) class indices or the ignore index."""

    @property
    def split(self) -> Split | None:
        return self.sample.split


class Writer(Protocol):
    """Writes one format into an empty folder, pair by pair."""

    def add(self, pair: Pair) -> None:
        """Writes a pair."""

    def finish(self) -> list[str]:
        """Writes what is known only at the end. Returns what the user must be told: what the format cannot say."""


def write_file(path: Path, content: bytes | str) -> None:
    """A new file and its folders. The whole folder appears at once, so no file need be atomic."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("xb") as file:  # two names that the file system takes for one must not become one
        file.write(content.encode() if isinstance(content, str) else content)


def encode_image(pixels: Array) -> tuple[bytes, str]:
    """(H, W, C) uint8 or uint16 → a lossless file of it and its ending: PNG of 1 or 3 channels, else TIFF."""
    channels = pixels.shape[2]
    if channels == 1:
        return encode_png(pixels[..., 0]), ".png"
    if channels == 3 and pixels.dtype == np.uint8:
        return encode_png(pixels), ".png"
    if channels == 3 and pixels.dtype == np.uint16:
        import imagecodecs  # takes a while to start, and few datasets need it

        return bytes(imagecodecs.png_encode(pixels)), ".png"
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, pixels, photometric="minisblack", planarconfig="contig", compression="zlib")
    return buffer.getvalue(), ".tif"


def nested_name(sample: Sample) -> str:
    """The sample's name without its split, as a path that stays inside the folder it is put into."""
    parts = [part for part in PurePosixPath(sample.name).parts if part not in ("/", "..")]
    return "/".join(parts[1:] if sample.split and len(parts) > 1 and parts[0] == sample.split else parts)


def flat_names(samples: Iterable[Sample]) -> Mapping[Sample, str]:
    """Each sample's name in one folder for all: `city/0001 → city_0001`, behind the split where some would clash."""
    names = {sample: nested_name(sample).replace("/", "_") for sample in samples}
    if len(set(names.values())) < len(names):
        names = {sample: "_".join(filter(None, (sample.split, name))) for sample, name in names.items()}
    require_distinct(names.values())
    return names


def require_distinct(names: Iterable[str]) -> None:
    """DataError where two samples would be written under one name."""
    name, count = Counter(names).most_common(1)[0]
    if count > 1:
        raise DataError(f"{count} images would be written under the one name {name!r}; rename them.")


def index_mask(labels: Array, classes: Classes) -> bytes:
    """Labels → palette PNG of class indices in the class colors, 16-bit gray above 255 classes."""
    if classes.dtype().itemsize > 1:
        return encode_png(labels)
    palette = [*classes.colors, *[IGNORED_COLOR] * (256 - len(classes.colors))]  # short ones cut the depth
    return encode_png(labels, palette)


def description(content: Content) -> str:
    """dataset.yaml for masks of class indices."""
    values: dict[str, Any] = {
        "names": list(content.classes.names),
        "colors": [list(color) for color in content.classes.colors],
        "ignore": [content.classes.ignore_index],
    }
    if content.channels not in (1, 3):
        values["channels"] = content.channels
    return yaml.safe_dump(values, sort_keys=False, allow_unicode=True, default_flow_style=None)
