"""The interface of the writers of formats, and what they share."""

import io
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Protocol

import imagecodecs
import numpy as np
import tifffile
import yaml

from pixelwise.data.classes import Classes
from pixelwise.data.colors import Color
from pixelwise.data.io.images import Array, encode_png
from pixelwise.data.io.nodata import Nodata
from pixelwise.data.sample import Sample, Split
from pixelwise.errors import DataError

IGNORE_COLOR: Color = (224, 224, 192)
"""Color of ignored pixels in palette masks, as in Pascal VOC."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EncodedSample:
    """An image as an encoded file, and its labels."""

    sample: Sample
    image: bytes
    suffix: str
    """Suffix of the image file: `.jpg`, `.png`, ..."""
    pixels: Array
    """(H, W, C) uint8 or uint16: the decoded image, with the channels of the dataset."""
    labels: Array
    """(H, W) class indices or the ignore index."""

    @property
    def split(self) -> Split | None:
        return self.sample.split


class DatasetWriter(Protocol):
    """A writer of one format into an empty folder. It is created with the folder and the scanned dataset."""

    def add(self, encoded: EncodedSample) -> None:
        """Write a sample."""

    def finish(self) -> list[str]:
        """Write the remaining files. Return notes on properties that the format cannot represent."""


def write_file(path: Path, content: bytes | str) -> None:
    """Write a new file and its folders. The whole output is renamed at once, so single files need not be atomic."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("xb") as file:  # fails for two names that are equal to the file system
        file.write(content.encode() if isinstance(content, str) else content)


def encode_image(pixels: Array) -> tuple[bytes, str]:
    """Encode (H, W, C) without loss: PNG for 1 or 3 channels of integers, else TIFF. Return it and its suffix."""
    channels = pixels.shape[2]
    if channels not in (1, 3) or pixels.dtype.kind == "f":
        return encode_tiff(pixels), ".tif"
    if channels == 1:
        return encode_png(pixels[..., 0]), ".png"
    return encode_png(pixels) if pixels.dtype == np.uint8 else bytes(imagecodecs.png_encode(pixels)), ".png"


def encode_tiff(pixels: Array) -> bytes:
    """Encode (H, W) or (H, W, C) of any type as TIFF."""
    buffer = io.BytesIO()
    stored = pixels[..., 0] if pixels.shape[2:] == (1,) else pixels
    layout = "contig" if stored.ndim == 3 else None
    tifffile.imwrite(buffer, stored, photometric="minisblack", planarconfig=layout, compression="zlib")
    return buffer.getvalue()


def make_nested_name(sample: Sample) -> str:
    """Return the sample's name without its split, as a path that stays inside the output folder."""
    parts = [part for part in PurePosixPath(sample.name).parts if part not in ("/", "..")]
    return "/".join(parts[1:] if sample.split and len(parts) > 1 and parts[0] == sample.split else parts)


def make_flat_names(samples: Iterable[Sample]) -> Mapping[Sample, str]:
    """Return unique names for one folder: `city/0001 → city_0001`, after the split where some would be equal."""
    names = {sample: make_nested_name(sample).replace("/", "_") for sample in samples}
    if len(set(names.values())) < len(names):
        names = {sample: "_".join(filter(None, (sample.split, name))) for sample, name in names.items()}
    require_distinct_names(names.values())
    return names


def require_distinct_names(names: Iterable[str]) -> None:
    """Raise DataError where two samples would be written to the same name."""
    name, count = Counter(names).most_common(1)[0]
    if count > 1:
        raise DataError(f"{count} images would all be written as {name!r}. Rename them.")


def encode_mask(labels: Array, classes: Classes) -> bytes:
    """Encode labels as a palette PNG in the class colors, or as 16-bit gray above 255 classes."""
    return encode_png(labels, make_palette(classes) if classes.dtype().itemsize == 1 else ())


def make_palette(classes: Classes) -> list[Color]:
    """Return 256 colors for labels of 8 bits: the class colors, then that of ignored pixels."""
    return [*classes.colors, *[IGNORE_COLOR] * (256 - len(classes.colors))]  # shorter ones reduce the bit depth


def format_description(
    classes: Classes, channels: int | None, nodata: Nodata | None = None, *, has_mapping: bool = False
) -> str:
    """Return the text of a dataset.yaml for masks of class indices.

    `has_mapping` also maps them, for formats that can have names of their own for the same masks.
    """
    values: dict[str, Any] = {
        "names": list(classes.names),
        "colors": [list(color) for color in classes.colors],
        "ignore": [classes.ignore_index],
    }
    if has_mapping:
        values["label_mapping"] = {index: index for index in range(len(classes.names))}
    text: str = yaml.safe_dump(values, sort_keys=False, allow_unicode=True, default_flow_style=None)
    return text + format_image_keys(channels, nodata)


def format_image_keys(channels: int | None, nodata: Nodata | None) -> str:
    """Return the lines of a dataset.yaml about images that their files do not say; empty if there are none."""
    values: dict[str, Any] = {} if channels in (1, 3) else {"channels": channels}
    if nodata is not None:
        values["nodata"] = nodata.to_plain()
    return yaml.safe_dump(values, sort_keys=False) if values else ""
